"""Training as a batch job of SLURM: two tasks of `srun --mpi=pmix` are two ranks, and log what two threads log.

SLURM is a real one of one node, started here. A job completes, one is cancelled in the middle, and one goes on from there.
"""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab
import slurm

if not (pathlib.Path(os.environ["MOEC_BUILD"]) / "test/mpi_rank").exists():
    sys.exit(print("skipped: built without MPI"))
slurm.require()
report = lab.Report()
lab.letters("text", 20000)
lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--dropout", 0.1)
lab.compile_plan("m.onnx", "m.moe", 4, 32, "--threads", 1, "--ranks", 2, "--expert-parallel", 2, "--fsdp", "full",
                 recipe={"optimizer": {"name": "adamw", "lr": 1e-3}, "clip_norm": 1.0, "routing_groups": 4})  # fmt: skip


def train(folder, updates, *more):
    return ["moerun", "train", "m.moe", "--data", "text", "--save-dir", folder, "--max-update", str(updates), "--log-interval", "1",
            "--log-format", "json", "--deadline", "60", *more]  # fmt: skip


def script(*words):
    return " ".join(["srun", "--mpi=pmix", "-n", "2", *words])


def timeless(output):
    """Records without what depends on the clock."""
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lab.records(output)]


def text(name):
    path = pathlib.Path(name)
    return path.read_text(errors="replace") if path.exists() else ""


def checkpoint(folder, updates):
    return lab.digest(f"{folder}/checkpoint_{updates:08}.safetensors")


threads = lab.run(*train("threads", 6), "--ranks", 2)
with slurm.Cluster("cluster") as cluster:
    job = cluster.finish(cluster.submit("whole", script(*train("whole", 6))))
    logs = timeless(text("whole.stdout"))
    report.check((job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), f"a job completes: {job['JobState']} {text('whole.stderr')[-1000:]}")
    report.check(len(logs) == 6 and logs == timeless(threads.stdout), "its log, all keys and numbers, is that of ranks that are threads")
    report.check(checkpoint("whole", 6) == checkpoint("threads", 6), "and so is its checkpoint")

    endless = cluster.submit("cut", script(*train("cut", 1000000)))
    cluster.wait("five updates", lambda: len(text("cut.stdout").splitlines()) >= 5)
    subprocess.run(["scancel", endless], check=True)
    job = cluster.finish(endless)
    said = text("cut.stderr")
    kept = [int(path.stem[-8:]) for path in pathlib.Path("cut").glob("*.safetensors")]
    report.check(job["JobState"] == "CANCELLED", f"scancel ends a job: {job['JobState']}, reason {job['Reason']}, exit code {job['ExitCode']}")
    report.check("stopped by Terminated after update" in said and len(kept) == 1, f"which saves and says so: {said[-1000:]}")

    end = max(kept, default=0) + 2
    job = cluster.finish(cluster.submit("more", script(*train("cut", end, "--resume"))))
    lab.run(*train("uncut", end), "--ranks", 2)
    report.check(job["JobState"] == "COMPLETED" and checkpoint("cut", end) == checkpoint("uncut", end),
                 f"a job goes on from there, and ends bitwise as if nobody had cancelled the other: {text('more.stderr')[-1000:]}")  # fmt: skip

    job = cluster.finish(cluster.submit("apart", "srun --mpi=none -n 2 " + " ".join(train("apart", 2))))
    said = text("apart.stderr")
    report.check(job["JobState"] == "FAILED" and job["ExitCode"] == "1:0" and said.count("error: the processes") == 1 and "srun --mpi=pmix" in said,
                 f"without --mpi=pmix one message names it: {said[-1000:]}")  # fmt: skip
report.check(all(daemon.returncode is not None for daemon in cluster.daemons), "nothing is left running")
report.finish()
