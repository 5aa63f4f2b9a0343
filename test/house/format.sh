# Every C++ file is as clang-format leaves it.
cd "$MOEC_ROOT" || exit 1
git ls-files -z '*.cpp' '*.h' '*.c' | xargs -0 clang-format-22 --dry-run --Werror
