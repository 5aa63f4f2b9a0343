"""Damaged ONNX files: `moec compile` takes them or refuses them with a message; it never crashes and never hangs.

    damaged_models.py [COUNT [SEED]]

Bytes are flipped, ranges deleted, doubled or overwritten with text. Exit code 70 (an error of moec) fails as a crash does.
"""
import os
import pathlib
import random
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

count, seed = map(int, sys.argv[1:] + ["400", "1"][len(sys.argv) - 1 :])
report = lab.Report()
lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 2, layers=2, width=8, heads=2, tokens=4, vocabulary=20)
whole = pathlib.Path("m.onnx").read_bytes()
taken = refused = 0
for number in range(count):
    rng = random.Random(f"{seed} {number}")
    data = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 9, 60))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        else:  # swap two words of the file for another: other names, operators, types
            words = list(re.finditer(rb"[A-Za-z_.]{3,}", data))
            one, other = rng.choice(words), rng.choice(words)
            text = bytes(other[0][: len(one[0])]).ljust(len(one[0]), b"_")
            data[one.start() : one.end()] = text
    pathlib.Path("damaged.onnx").write_bytes(data)
    words = ["moec", "compile", "damaged.onnx", "--bind", "batch=2", "--bind", "seq=4", "-o", "p.moe"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=60)
    except subprocess.TimeoutExpired:
        report.check(False, f"damage {number}: no end within a minute")
        continue
    taken += done.returncode == 0
    refused += done.returncode == 1
    if done.returncode not in (0, 1) or (done.returncode == 1 and "error: " not in done.stderr):
        os.rename("damaged.onnx", f"damaged{number}.onnx")
        report.check(False, f"damage {number}: exit code {done.returncode}: {done.stderr[-600:]}")
report.check(refused > count / 4, f"{taken} models taken, {refused} refused")
report.finish()
