# compile.sh LOG COMMAND...: runs nvcc; what it says goes to LOG, and to the terminal if it fails.
log=$1
shift
"$@" >"$log" 2>&1 || {
  status=$?
  cat "$log" >&2
  exit $status
}
