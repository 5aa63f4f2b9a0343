"""One update of the model of tools/demo on the simulated CUDA device: the loss and every gradient are those of the CPU's plan."""
import os
import pathlib
import shlex
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

if not pathlib.Path(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so").exists():
    print("skipped: this build has no simulated device")
    sys.exit()

report = lab.Report()
BATCH, LENGTH, TOLERANCE = 16, 256, 1e-5
demo = pathlib.Path(os.environ["MOEC_ROOT"], "tools/demo").read_text().replace("\\\n", " ")
model = next(shlex.split(line)[1:] for line in demo.splitlines() if line.startswith("run moec model"))
lab.run(*model[:-1], "demo.onnx")
ids, labels = np.random.default_rng(5).integers(4, 260, (2, 1, BATCH, LENGTH), dtype=np.int64)
lab.save("inputs", {"input_ids": ids, "labels": labels})


def measure(target):
    """The record of the update, and its gradients."""
    lab.run("moec", "compile", "demo.onnx", "--recipe", os.environ["MOEC_ROOT"] + "/tools/demo.yaml", "--target", target,
            "--bind", f"batch={BATCH}", "--bind", f"seq={LENGTH}", "-o", "p.moe")  # fmt: skip
    output = lab.run("moerun", "run", "p.moe", "--inputs", "inputs", "--steps", 1, "--seed", 7, "--log-format", "json",
                     "--save-gradients", "gradients").stdout  # fmt: skip
    return lab.records(output)[0], lab.load("gradients")


(expected, one), (actual, other) = measure("cpu:native"), measure("cuda:simulated")
for key in ("loss", "gnorm", "moe_gate_loss"):
    report.check(abs(actual[key] - expected[key]) <= TOLERANCE * abs(expected[key]), f"{key}: {actual[key]}, the CPU's {expected[key]}")
part, worst = lab.gap(one, other, TOLERANCE)
report.check(part <= 1, f"{len(one)} gradients: {worst} differs most, {part:.3f} of the tolerance")
report.finish()
