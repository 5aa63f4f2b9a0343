# Two thousand mutants instead of two hundred.
MOEC_MUTATIONS=2000 bash "$MOEC_ROOT/test/e2e/plan_mutations.sh"
