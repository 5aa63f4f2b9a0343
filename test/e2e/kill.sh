# Five kills for every commit; test/long/kill.sh has more.
python3 "$MOEC_ROOT/test/e2e/support/kill.py" 5
