# Nothing unfinished is committed, and nothing that belongs to one machine.
cd "$MOEC_ROOT" || exit 1
bad=0
git grep -nE '\b(TODO|FIXME|XXX)\b' -- ':!test/house' && bad=1
git grep -nIE '(^|[^A-Za-z0-9_.])/(work|home|root)/' -- ':!test/house' && bad=1
git grep -aoE '/(tmp|work|home|root)/[A-Za-z0-9_./-]+' -- test/fuzz/corpus && bad=1
git grep -nIE '^(<<<<<<<|>>>>>>>) ' && bad=1
shellcheck_files=$(git ls-files tools/setup tools/check tools/demo test/scripts .ci/run '*.sh')
for script in $shellcheck_files; do bash -n "$script" || bad=1; done
exit $bad
