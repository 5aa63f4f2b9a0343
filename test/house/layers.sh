# What runs plans knows nothing of the compiler: no header of it, no library of it in the programs.
cd "$MOEC_ROOT" || exit 1
bad=0
git grep -nE '#include [<"](mlir|llvm|ir|frontend|passes|codegen)/' -- runtime tools/moerun && bad=1
git grep -nE '^[^#]*\b(MLIR|LLVM|moec_mlir|moec_ir|moec_passes)\b' -- 'runtime/**/CMakeLists.txt' tools/moerun/CMakeLists.txt && bad=1
for program in "$MOEC_BUILD"/bin/moerun "$MOEC_BUILD"/lib/libmoerun-*.so; do
  if [[ ! -e $program ]]; then
    echo "$program is not built" && bad=1
  elif ldd "$program" | grep -E 'libMLIR|libLLVM|libpython'; then
    echo "… is linked into $program" && bad=1
  fi
done
exit $bad
