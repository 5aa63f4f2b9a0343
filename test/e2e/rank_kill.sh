# Three ranks of MPI runs are taken away, one of them stopped; test/long/rank_kills.sh has more.
[[ -x $MOEC_BUILD/test/mpi_rank ]] || { echo "built without MPI"; exit 0; }
python3 "$MOEC_ROOT/test/e2e/support/rank_kill.py" 3
