"""MPI that some ranks have and others have not: each that fails names itself and the remedy, and all end, in time.

Machines differ in what is installed; here ranks of one machine differ in which copy of moerun they are. One copy lacks the
part that knows MPI, in another this part asks for a library of MPI that does not exist. And a rank that never comes to MPI
leaves the others waiting inside of it, until their deadline.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

DEADLINE, GRACE = 4, 10
report = lab.Report()
build = pathlib.Path(os.environ["MOEC_BUILD"])
if not (build / "lib/libmoerun-mpi.so").exists():
    print("built without MPI")
    sys.exit(0)

lab.letters("text", 5000)
lab.model("m.onnx")
lab.compile_plan("m.onnx", "p.moe", 12, 32, "--ranks", 3, "--threads", 1)
for name in ("without", "other"):
    os.makedirs(f"{name}/bin")
    os.mkdir(f"{name}/lib")
    shutil.copy(build / "bin/moerun", f"{name}/bin")
    for library in (build / "lib").glob("libmoerun-*.so"):
        if "mpi" not in library.name:
            os.symlink(library, f"{name}/lib/{library.name}")
library = (build / "lib/libmoerun-mpi.so").read_bytes()
pathlib.Path("other/lib/libmoerun-mpi.so").write_bytes(library.replace(b"libmpi.so", b"libmpx.so"))
TRAIN = ["train", "p.moe", "--data", "text", "--max-update", "2", "--save-dir", "run", "--deadline", str(DEADLINE)]
WHOLE, WITHOUT, OTHER = ["moerun", *TRAIN], ["without/bin/moerun", *TRAIN], ["other/bin/moerun", *TRAIN]


def fails(what, ranks, messages):
    """Three ranks, each with words of its own; `messages`: how often what must be said."""
    words = ["mpirun", "--oversubscribe"]
    for i, mine in enumerate(ranks):
        words += [":"] * (i > 0) + ["-n", "1", *mine]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    start = time.monotonic()
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=os.environ | root, timeout=60)
    except subprocess.TimeoutExpired:
        report.check(False, f"{what}: hangs")
        return
    seconds = time.monotonic() - start
    faults = [f"'{text}' {done.stderr.count(text)} times, not {times}" for text, times in messages.items() if done.stderr.count(text) != times]
    if done.returncode == 0:
        faults.append("exit code 0")
    if seconds > DEADLINE + GRACE:
        faults.append(f"took {seconds:.0f} s")
    if pathlib.Path("run").exists():
        faults.append("there is a run")
    report.check(not faults, f"{what}: exit code {done.returncode} {'; '.join(faults)}{done.stderr[-3000:] if faults else ''}")


# A launcher ends the others as soon as one has failed, so of several that fail not all need come to speak.
fails("the last rank has not the part for MPI", [WHOLE, WHOLE, WITHOUT],
      {"error: this moerun was built without MPI": 1, "rank 2 of 3": 1, "libopenmpi-dev": 1})  # fmt: skip
fails("the first rank has not the part for MPI", [WITHOUT, WHOLE, WHOLE],
      {"error: this moerun was built without MPI": 1, "rank 0 of 3": 1, "libopenmpi-dev": 1})  # fmt: skip
fails("one rank has not MPI itself", [WHOLE, OTHER, WHOLE],
      {"error: cannot load the library that connects ranks through MPI": 1, "rank 1 of 3": 1, "libmpx.so": 1, "openmpi-bin": 1})  # fmt: skip
fails("one rank never comes", [WHOLE, ["sleep", "50"], ["sleep", "50"]],
      {"error: MPI does not start": 1, "rank 0 of 3": 1, f"waited {DEADLINE} s": 1, "--deadline": 1})  # fmt: skip
report.finish()
