#!/bin/sh
# linkage.sh NM OBJECT...: every object defines exactly one external symbol, its kernel, and no weak one.
nm=$1
shift
[ $# -gt 0 ] || { echo "no objects given"; exit 1; }
status=0
for object in "$@"; do
  external=$("$nm" --defined-only --extern-only "$object") || exit 1
  if [ "$(printf '%s\n' "$external" | grep -c ' T .*attention\(Forward\|Backward\)V[34]')" != 1 ] ||
    [ "$(printf '%s\n' "$external" | grep -c .)" != 1 ]; then
    echo "$object defines more than its kernel:"
    printf '%s\n' "$external"
    status=1
  fi
done
exit $status
