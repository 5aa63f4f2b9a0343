# A rank that goes away in the middle of a run ends all others within seconds, which say what they waited for.
rank=$MOEC_BUILD/test/mpi_rank
[[ -x $rank ]] || { echo "built without MPI"; exit 0; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fail() {
  echo "$1"
  cat out
  exit 1
}
deadline=2 # of mpi_rank, in seconds; all must be over 10 s after it
for how in kill stop sleep give-up; do
  timeout 60 mpirun --oversubscribe -n 3 "$rank" leave 1 $how >out 2>&1
  code=$?
  end=$(date +%s)
  ((code != 0 && code != 124)) || fail "$how: exit code $code"
  read -r pid left < <(sed -n 's/.*pid \([0-9]*\) at \([0-9]*\).*/\1 \2/p' out) || fail "$how: the rank never went away"
  ((end - left <= deadline + 10)) || fail "$how: the others took $((end - left)) s"
  # What was stopped goes on when the launcher ends it, and finds out by itself.
  while kill -0 "$pid" 2>/dev/null; do
    (($(date +%s) - left <= deadline + 10)) || fail "$how: process $pid is still there"
    sleep 0.2
  done
  case $how in
  stop | sleep) grep -q "waited in vain for rank.* 1" out || fail "$how: nobody says what it waited for" ;;
  esac
done
