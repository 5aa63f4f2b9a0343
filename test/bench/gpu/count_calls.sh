# count_calls.sh LIBRARY PROGRAM: what the library counts of CountCallsTest.cpp.
set -e
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT
MOE_COUNT_CALLS=$counts LD_PRELOAD=$1 "$2"
[ "$(cat "$counts")" = '{"graph_kernels":2,"graph_nodes":3,"calls":{"cudaGraphInstantiate":1,"cudaGraphLaunch":5,"cudaStreamSynchronize":1}}' ] || {
  cat "$counts"
  exit 1
}
