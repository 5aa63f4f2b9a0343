# Twenty-four kills at random moments, saves included. What it printed last: test/long/kill.txt
python3 "$MOEC_ROOT/test/e2e/support/kill.py" 24
