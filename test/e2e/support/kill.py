"""Kills training at random moments, saves included, and goes on: nothing may be lost, and no bit may change.

    kill.py COUNT

Every update is saved. A third of the kills come at a random time, the others as soon as the temporary file of a random save
shows, so that they hit a save; a checkpoint must never be needed that such a kill has spoilt. Prints a table.
"""
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
import lab

count, updates = int(sys.argv[1]), 60
rng = random.Random(20)
report = lab.Report()
lab.letters("text", 60000)
lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 8, "--moe-gate-loss-wt", 0.01, "--dropout", 0.1, width=64)
lab.compile_plan("m.onnx", "m.moe", 8, 32, recipe={"optimizer": {"name": "adamw", "lr": 1e-3}, "clip_norm": 1.0})


def command(folder):
    return ["moerun", "train", "m.moe", "--data", "text", "--save-dir", folder, "--max-update", str(updates),
            "--save-interval-updates", "1", "--keep-last", "3", "--log-format", "json", "--resume"]  # fmt: skip


def complete(folder):
    """Updates of the checkpoints that count as complete; each must be readable to its last byte."""
    numbers = []
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        lab.load(path)
        numbers.append(int(path.stem.rpartition("_")[2]))
    return numbers


def being_saved(folder):
    return sorted(path.name for path in pathlib.Path(folder).glob(".*tmp")) if os.path.isdir(folder) else []


start = time.monotonic()
lab.run(*command("whole"))
seconds = time.monotonic() - start

print(f"{'kill':>4}  {'moment':<18} {'complete before':>15}  {'complete after':>14}  left unfinished")
cut, in_saves = 0, 0
for kill in range(1, count + 1):
    before = complete("killed")
    if before[-1:] == [updates]:  # all of it has run: once more from the first update
        for path in pathlib.Path("killed").iterdir():
            path.unlink()
        before = []
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if kill % 3 == 0:
        delay = rng.uniform(0, seconds / 4)
        moment = f"after {delay:.3f} s"
        time.sleep(delay)
    else:
        saves, seen, wanted = 0, [], rng.randint(1, 8)
        moment = f"in save {wanted}"
        while process.poll() is None and saves < wanted:
            now = being_saved("killed")
            saves += bool(now) and now != seen
            seen = now or seen
        time.sleep(rng.uniform(0, 0.002))
    process.send_signal(signal.SIGKILL)
    message = process.communicate()[1]
    left = being_saved("killed")
    cut += process.returncode == -signal.SIGKILL
    in_saves += bool(left)
    after = complete("killed")
    print(f"{kill:4}  {moment:<18} {max(before, default=0):15}  {max(after, default=0):14}  {' '.join(left) or '-'}", flush=True)
    if process.returncode not in (0, -signal.SIGKILL) or "error" in message or "warning" in message:
        report.check(False, f"run {kill} ended with {process.returncode}: {message}")
    if max(after, default=0) < max(before, default=0):
        report.check(False, f"kill {kill} lost an update")

lab.run(*command("killed"))
name = f"checkpoint_{updates:08}.safetensors"
report.check(cut * 2 >= count and in_saves > 0, f"{cut} of {count} runs were cut, {in_saves} of them with a save unfinished")
report.check(lab.digest(f"killed/{name}") == lab.digest(f"whole/{name}"), "the end is bitwise that of the run that nobody killed")
report.check(not being_saved("killed"), "the last run has cleared up")
report.finish()
