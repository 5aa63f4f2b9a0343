# resources.sh LOG...: what ptxas said of the kernels: none keeps anything in local memory, which is slow, and each was
# compiled for each architecture.
[ $# -gt 0 ] || exit 1
grep -h 'stack frame' "$@" | grep -vE '\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' && exit 1
for log in "$@"; do
  kernels=$(grep -c 'Compiling entry function' "$log")
  [ "$kernels" -gt 0 ] && [ "$kernels" = "$(grep -c 'stack frame' "$log")" ] || {
    echo "$log lists $kernels kernels, but not what each of them uses"
    exit 1
  }
done
