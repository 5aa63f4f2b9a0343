# clang-tidy finds nothing in the C++ files of the latest commits: those since MOEC_BASE (the merge base with origin/main,
# else five commits back). A file takes about 18 s, so the MOEC_TIDY_FILES (16) latest are looked at.
cd "$MOEC_ROOT" || exit 1
base=${MOEC_BASE:-$(git merge-base origin/main HEAD 2>/dev/null)}
if [[ -z $base || $(git rev-parse "$base") == $(git rev-parse HEAD) ]]; then
  base=$(git rev-parse --verify --quiet HEAD~5 || git rev-list --max-parents=0 HEAD | tail -n 1)
fi
limit=${MOEC_TIDY_FILES:-16}
mapfile -t files < <(
  { git diff --name-only HEAD -- '*.cpp' && git log --format= --name-only "$base"..HEAD -- '*.cpp'; } | awk '!seen[$0]++' |
    while read -r file; do
      [[ -f $file ]] && grep -qF "\"file\": \"$MOEC_ROOT/$file\"" "$MOEC_BUILD/compile_commands.json" && echo "$file"
    done
)
((${#files[@]})) || exit 0
((${#files[@]} > limit)) && echo "only the latest $limit of ${#files[@]} changed files"
printf '%s\0' "${files[@]:0:limit}" | xargs -0 -P "$(nproc)" -n 1 clang-tidy-22 -p "$MOEC_BUILD" --quiet
