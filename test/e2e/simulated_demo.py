"""One update of the model of tools/demo on the simulated CUDA device: the loss and every gradient are those of the CPU's plan.

In bf16 some of the 4096 tokens go to another expert than in float32, whose best two are as good as equal: one of them changes
the gradient of a gate by sqrt(2 / 4096) = 2 %. There PyTorch's own bf16 (test/bench/bf16) is the limit.
"""
import json
import os
import pathlib
import shlex
import shutil
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

if not pathlib.Path(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so").exists():
    print("skipped: this build has no simulated device")
    sys.exit()

report = lab.Report()
BATCH, LENGTH = 16, 256
TOLERANCES = {"f32": 1e-5, "bf16": 2e-2}  # sums of float32 in another order; a few roundings to 8 bits
demo = pathlib.Path(os.environ["MOEC_ROOT"], "tools/demo").read_text().replace("\\\n", " ")
model = next(shlex.split(line)[1:] for line in demo.splitlines() if line.startswith("run moec model"))
lab.run(*model[:-1], "demo.onnx")
ids, labels = np.random.default_rng(5).integers(4, 260, (2, 1, BATCH, LENGTH), dtype=np.int64)
lab.save("inputs", {"input_ids": ids, "labels": labels})


def compile_demo(target, compute):
    lab.run("moec", "compile", "demo.onnx", "--recipe", os.environ["MOEC_ROOT"] + "/tools/demo.yaml", "--target", target,
            "--set", f"precision.compute={compute}", "--bind", f"batch={BATCH}", "--bind", f"seq={LENGTH}", "-o", "p.moe")  # fmt: skip


def measure(target, compute):
    """The record of the update, and its gradients."""
    compile_demo(target, compute)
    output = lab.run("moerun", "run", "p.moe", "--inputs", "inputs", "--steps", 1, "--seed", 7, "--log-format", "json",
                     "--save-gradients", "gradients").stdout  # fmt: skip
    return lab.records(output)[0], lab.load("gradients")


torch = json.loads((lab.ROOT / "test/data/fairseq/bf16.json").read_text())["demo"]
expected, one = measure("cpu:native", "f32")
for compute, tolerance in TOLERANCES.items():
    actual, other = measure("cuda:simulated", compute)
    for key in ("loss", "gnorm", "moe_gate_loss"):
        report.check(abs(actual[key] - expected[key]) <= tolerance * abs(expected[key]), f"{compute} {key}: {actual[key]}, the CPU's {expected[key]}")
    allowed = {name: max(tolerance, torch.get(name, 0)) if compute == "bf16" else tolerance for name in one}
    part, worst = max(lab.gap(one, other, allowed[name], only=name) for name in one)
    report.check(part <= 1, f"{compute}, {len(one)} gradients: {worst} differs most, {part:.3f} of the tolerance")

# For devices that are not here: to machine code where the toolkit's assembler is.
assembler = shutil.which("ptxas", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
for chip in ("sm_80", "sm_90", "sm_100"):
    compile_demo(f"cuda:{chip}", "bf16")
    images = json.loads(lab.run("moec", "inspect", "p.moe", "--json").stdout)["images"]
    report.check([image["format"] for image in images] == ["cubin" if assembler else "ptx"], f"for {chip}: {images}")
report.finish()
