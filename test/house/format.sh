# Every C++ file is as clang-format leaves it.
cd "$MOEC_ROOT" || exit 1
others=$(git ls-files -z '*.cpp' '*.h' '*.c' | xargs -0 clang-format-22 --dry-run 2>&1 | sed -nE 's/^([^: ]+):[0-9]+:.*/\1/p' | sort -u)
[[ -z $others ]] && exit 0
echo "Run: clang-format-22 -i" $others
exit 1
