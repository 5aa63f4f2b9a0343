# A rank of an MPI run is killed at 50 random moments: nobody hangs, and the run goes on from its checkpoint bit for bit.
program=$MOEC_BUILD/test/moerun_program_test
[[ -x $program ]] || { echo "the unit tests are not built"; exit 1; }
MOE_TEST_KILLS=50 "$program" --gtest_filter='Ranks.AKilledRank*'
