# No file that people write is longer than 800 lines.
cd "$MOEC_ROOT" || exit 1
git ls-files -z '*.cpp' '*.h' '*.c' '*.cu' '*.cuh' '*.td' '*.py' '*.proto' '*.sh' '*.md' '*.mlir' |
  grep -zv '^docs/status.md$' | xargs -0 wc -l | awk '$2 != "total" && $1 > 800 { print $2 ": " $1 " lines"; bad = 1 } END { exit bad }'
