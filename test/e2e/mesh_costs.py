"""What a rank of N computes and keeps, beside an N-th of what one rank does: FLOPs, bytes of state, memory while it trains.

Exported models and presets on meshes whose ranks divide the batch, with --fsdp full. FLOPs per rank are at most 1.15 / N of
one rank's, else ranks repeat each other's work. Bytes of state are at most an N-th, and what is not trained and all have, and
one bucket: parameters of a layer, in parts that are equal and begin at multiples of 64 bytes. In the end ranks that are
processes train, and none takes more than the certificate says.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import exports
import lab

MIB = 1 << 20
report = lab.Report()
# Meshes (ranks, those of axis expert) of exported models; those that have experts without capacity are split over more.
MESHES = [(2, 1), (4, 2)]
MESHES_OF_EXPERTS = {"mixtral": [*MESHES, (2, 2), (4, 1), (4, 4)]}


def plan(source, ranks, experts, bind, recipe, *flags):
    words = ["moec", "compile", source, "--recipe", recipe, "--threads", 1, "--ranks", ranks, "--expert-parallel", experts, *flags]
    words += [word for name, size in bind.items() for word in ("--bind", f"{name}={size}")]
    return json.loads(lab.run(*words, "--json", "-o", "plan.moe").stdout), words


def buckets(words):
    """Bytes of the largest bucket, and of what all ranks have: frozen parameters and counters."""
    module = lab.run(*words, "--emit", "update").stdout
    bytes_of, largest, whole = {"f32": 4, "i64": 8, "i32": 4, "bf16": 2, "i1": 1, "f64": 8}, 0, 0
    states = re.findall(r"moe\.state (\w+) @(\S+) : tensor<((?:\d+x)*)(\w+)(.*)", module)
    for kind, name, dims, element, rest in states:
        size = bytes_of[element]
        for dim in dims.split("x")[:-1]:
            size *= int(dim)
        if re.fullmatch(r"bucket\.\d+", name):
            largest = max(largest, size)
        elif "bucket = " not in rest and not name.startswith("bucket."):
            whole += size
    return largest, whole


def check(name, source, bind, recipe, meshes):
    one, _ = plan(source, 1, 1, bind, recipe)
    for ranks, experts in meshes:
        mine, words = plan(source, ranks, experts, bind, recipe, "--fsdp", "full")
        largest, whole = buckets(words)
        work = mine["flops_per_micro_step"] * ranks / one["flops_per_micro_step"]
        state, even = mine["memory"]["state"], one["memory"]["state"] / ranks
        label = f"{name:24} {ranks // experts} x {experts}"
        report.check(work <= 1.15, f"{label}: FLOPs {work:.3f} / N")
        report.check(state <= even + whole * (ranks - 1) / ranks + largest * ranks,
                     f"{label}: state {state} bytes, an even part is {even:.0f}, all have {whole}, a bucket is {largest * ranks}")  # fmt: skip


pathlib.Path("plain.yaml").write_text("optimizer: {name: adamw, lr: 1e-3}\n")
models = list(exports.all_of())
assert MESHES_OF_EXPERTS.keys() <= {export.name for export in models}
for export in models:
    if "/" not in export.name and (export.model.name == "model.onnx"):
        pathlib.Path("recipe.yaml").write_text(export.recipe + "\noptimizer: {name: adamw, lr: 1e-3}\n")
        check(export.name, export.model, export.bind, "recipe.yaml", MESHES_OF_EXPERTS.get(export.name, MESHES))
presets = {"dense": (), "top-2": ("--moe-freq", 2, "--moe-expert-count", 8),
           "top-1": ("--moe-freq", 1, "--moe-expert-count", 16, "--moe-top1-expert")}  # fmt: skip
for name, flags in presets.items():
    lab.model("preset.onnx", "--decoder-ffn-embed-dim", 256, *flags, width=64, tokens=32)
    pathlib.Path("groups.yaml").write_text("optimizer: {name: adamw, lr: 1e-3}\nrouting_groups: 4\n")
    meshes = [(2, 2), (4, 1), (4, 4), (8, 4), (16, 8)] if flags else [(4, 1), (16, 1)]
    check(name, "preset.onnx", {"batch": 16, "seq": 32}, "groups.yaml", meshes)

# A rank's memory beside that of a rank of a tiny model, which has what MPI and libraries take.
if not pathlib.Path(os.environ["MOEC_BUILD"], "lib/libmoerun-mpi.so").exists():
    print("built without MPI")
    report.finish()
lab.letters("text", 100000)


def peaks(width):
    """Largest anonymous and shared memory of each of four ranks, and the plan."""
    lab.model("trained.onnx", "--decoder-ffn-embed-dim", 4 * width, "--moe-freq", 2, "--moe-expert-count", 4,
              layers=4, width=width, tokens=64)  # fmt: skip
    said, _ = plan("trained.onnx", 4, 2, {"batch": 16, "seq": 64}, "plain.yaml", "--fsdp", "full")
    words = ["mpirun", "--oversubscribe", "-n", "4", "moerun", "train", "plan.moe", "--data", "text", "--save-dir", f"run{width}",
             "--max-update", "2"]  # fmt: skip
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    with open("output", "w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, env=os.environ | root)
        most = {}
        while process.poll() is None:
            for folder in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    status = (folder / "status").read_text()
                    if "Name:\tmoerun\n" in status and (folder / "cwd").resolve() == pathlib.Path.cwd():
                        now = 1024 * sum(int(size) for size in re.findall(r"Rss(?:Anon|Shmem):\s*(\d+) kB", status))
                        most[folder.name] = max(most.get(folder.name, 0), now)
                except OSError:
                    pass  # it has ended
            time.sleep(0.01)
    failure = pathlib.Path("output").read_text()[-500:] if process.returncode else ""
    report.check(process.returncode == 0, f"four processes train a model of width {width}{failure}")
    return sorted(most.values()), said


tiny, small = peaks(16)
large, said = peaks(256)
certificate = said["memory"]["total"]
report.check(len(tiny) == len(large) == 4, "each rank is seen")
for rank, (base, peak) in enumerate(zip(tiny, large)):
    growth = peak - base + small["memory"]["total"]
    report.check(certificate / 2 < growth <= certificate + 16 * MIB,
                 f"a rank grew by {growth / MIB:.1f} MiB, certified are {certificate / MIB:.1f} MiB")  # fmt: skip
report.finish()
