# A rank of an MPI run is killed or stopped at 50 random moments: nobody hangs, and the run goes on from its checkpoint bit for
# bit. What it printed last: test/long/rank_kills.txt
[[ -x $MOEC_BUILD/test/mpi_rank ]] || { echo "built without MPI"; exit 0; }
python3 "$MOEC_ROOT/test/e2e/support/rank_kill.py" 50

# The same of ranks that are killed while they write checkpoints, resumed on more ranks than there were.
MOE_TEST_KILLS=50 "$MOEC_BUILD/test/moerun_program_test" --gtest_filter='Ranks.AKilledRank*'
