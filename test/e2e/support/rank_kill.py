"""Takes a rank of four away from training under mpirun, again and again, and goes on from the newest checkpoint.

    rank_kill.py COUNT

A random rank is killed or stopped (SIGKILL, SIGSTOP) at a random moment of a random update. Within ten seconds after the
deadline of a wait the launcher and all of its processes must be gone, with an exit code that is not 0, and each rank that is left
must have said where it was (rank, update, step of the plan) and for whom it waited. Every checkpoint, those between two kills too,
must have the bits of the run that nobody killed. Prints a table.
"""
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))
import lab

COUNT, RANKS, UPDATES, DEADLINE, GRACE = int(sys.argv[1]), 4, 60, 3, 10
rng = random.Random(6)
report = lab.Report()
lab.letters("text", 60000)
lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--dropout", 0.1)
lab.compile_plan("m.onnx", "m.moe", 8, 32, "--threads", 1, "--ranks", RANKS, "--expert-parallel", 2, "--fsdp", "full",
                 recipe={"optimizer": {"name": "adamw", "lr": 1e-3}, "clip_norm": 1.0, "routing_groups": 4})  # fmt: skip


def command(folder):
    return ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", str(RANKS), "moerun", "train", "m.moe", "--data", "text",
            "--save-dir", folder, "--max-update", str(UPDATES), "--save-interval-updates", "4", "--log-interval", "1",
            "--log-format", "json", "--resume", "--deadline", str(DEADLINE)]  # fmt: skip


def ranks_of(folder):
    """{rank: process} of a run."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"moerun") and folder.encode() in words:
                rank = re.search(rb"\0OMPI_COMM_WORLD_RANK=(\d+)", (path / "environ").read_bytes())
                found[int(rank[1])] = int(path.name)
        except (OSError, TypeError):
            pass  # it has ended meanwhile, or does not yet run the program
    return found


def newest(folder):
    numbers = [int(path.stem.rpartition("_")[2]) for path in pathlib.Path(folder).glob("*.safetensors")]
    return max(numbers, default=0)


def places(message, taken):
    """What each rank that is left waited for: {rank: (place, ranks)}."""
    said = {}
    for line in message.replace("\n  ", " ").splitlines():
        waits = re.search(r"rank (\d+) (?:is to stop, but waits for|waited in vain for) ranks? ([\d, ]+)", line)
        place = re.search(r"rank \d+, update \d+, (.*?)(?: why:|\)?$)", line)
        if waits and place and int(waits[1]) != taken:
            said.setdefault(int(waits[1]), (place[1], waits[2].strip()))
    return said


lab.run(*command("whole"))
print(f"{'kill':>4}  {'signal':<7}  {'rank':>4}  {'in update':>9}  {'over after':>10}  {'kept':>4}  the first to say what it waited for")
places_seen, cut = set(), 0
for number in range(1, COUNT + 1):
    how = signal.SIGSTOP if number % 5 == 3 else signal.SIGKILL
    before = newest("killed")
    if before >= UPDATES - 8:  # nearly all of it has run: once more from the first update
        shutil.rmtree("killed")
        before = 0
    with open("out", "w") as out, open("err", "w") as err:
        process = subprocess.Popen(command("killed"), stdout=out, stderr=err)
    wanted = before + rng.randint(1, 7)
    while process.poll() is None and not lab.records(pathlib.Path("out").read_text().rpartition("\n")[0])[wanted - before - 1 :]:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.05))
    pids, victim = ranks_of("killed"), rng.randrange(RANKS)
    update, start = before + len(lab.records(pathlib.Path("out").read_text().rpartition("\n")[0])) + 1, time.monotonic()
    if len(pids) == RANKS:
        os.kill(pids[victim], how)
    limit = GRACE + (DEADLINE if how == signal.SIGSTOP else 0)
    try:
        process.wait(limit + 30)
    except subprocess.TimeoutExpired:
        process.kill()
        for pid in ranks_of("killed").values():
            os.kill(pid, signal.SIGKILL)
    while ranks_of("killed") and time.monotonic() - start < limit:
        time.sleep(0.05)
    seconds = time.monotonic() - start
    message = pathlib.Path("err").read_text(errors="replace")
    said = places(message, victim)
    places_seen |= {place for place, _ in said.values()}
    cut += len(pids) == RANKS
    first = next((f"rank {rank}: {place}, for {others}" for rank, (place, others) in sorted(said.items())), "-")
    print(f"{number:4}  {how.name:<7}  {victim:4}  {update:9}  {seconds:8.1f} s  {newest('killed'):4}  {first}", flush=True)
    faults = []
    if len(pids) != RANKS:
        faults.append(f"{len(pids)} processes at the time")
    if process.returncode == 0 or seconds >= limit or ranks_of("killed"):
        faults.append(f"exit code {process.returncode} after {seconds:.1f} s, left: {ranks_of('killed')}")
    if how == signal.SIGKILL and set(said) != set(range(RANKS)) - {victim} or not said:
        faults.append(f"only ranks {sorted(said)} say where they were")
    for path in pathlib.Path("killed").glob("*.safetensors"):
        if lab.digest(path) != lab.digest(f"whole/{path.name}"):
            faults.append(f"{path.name} differs")
        elif path.stem[-8:] != f"{newest('killed'):08}":
            path.unlink()
    if faults:
        report.check(False, f"kill {number}: {'; '.join(faults)}:\n{message[-3000:]}")

lab.run(*command("killed"))
name = f"checkpoint_{UPDATES:08}.safetensors"
report.check(cut == COUNT, f"{cut} of {COUNT} runs were cut, at {len(places_seen)} different places")
report.check(lab.digest(f"killed/{name}") == lab.digest(f"whole/{name}"), "the end is bitwise that of the run that nobody killed")
report.finish()
