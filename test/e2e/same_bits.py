"""Same plan, same seed: the same bits, twice and with dead memory poisoned; and micro-batches add up to a batch."""
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()
ADAM = {"optimizer": {"name": "adamw", "lr": 1e-2}, "clip_norm": 1.0}

# Everything that draws or sums: dropout, sampled second experts, two micro-batches, clipping.
lab.letters("text", 20000)
lab.model("moe.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--moe-gate-loss-wt", 0.01, "--dropout", 0.1)
for name in ("moe.moe", "again.moe"):
    lab.compile_plan("moe.onnx", name, 4, 32, "--threads", 2, recipe=ADAM | {"accumulate": 2})
report.check(lab.digest("moe.moe") == lab.digest("again.moe"), "the same model and recipe give the same plan")


def train(folder, *more):
    lab.run("moerun", "train", "moe.moe", "--data", "text", "--save-dir", folder, "--max-update", 12,
            "--save-interval-updates", 4, "--log-format", "json", *more)  # fmt: skip
    return {path.name: lab.digest(path) for path in sorted(pathlib.Path(folder).glob("*.safetensors"))}


first = train("first")
report.check(len(first) == 3, f"three checkpoints: {' '.join(first)}")
report.check(train("second") == first, "the second run leaves the same bits")
report.check(train("poisoned", "--poison") == first, "--poison changes no bit")
other = train("other", "--seed", 5)
report.check(all(other[name] != first[name] for name in first), "another seed leaves other bits")

# Eight sequences at once or two at a time: one update of plain SGD. Labels that do not count are spread unevenly, so that
# averaging the micro-batches instead of their tokens would show (by about 1e-2). Both sums are float32: 1e-5.
SGD = {"optimizer": {"name": "sgd", "lr": 0.5}, "clip_norm": 0.5}
lab.model("dense.onnx", "--dropout", 0, "--attention-dropout", 0)
lab.compile_plan("dense.onnx", "whole.moe", 8, 32, recipe=SGD)
lab.compile_plan("dense.onnx", "parts.moe", 2, 32, recipe=SGD | {"accumulate": 4})
random = np.random.default_rng(3)
ids, labels = random.integers(4, 260, (2, 8, 32), dtype=np.int64)
labels[:3, 5:] = 1
results = {}
for name, batch in (("whole", 8), ("parts", 2)):
    lab.save(f"{name}.inputs", {"input_ids": ids.reshape(-1, batch, 32), "labels": labels.reshape(-1, batch, 32)})
    output = lab.run("moerun", "run", f"{name}.moe", "--inputs", f"{name}.inputs", "--steps", 1, "--seed", 7,
                     "--log-format", "json", "--save-gradients", f"{name}.gradients", "--save-state", f"{name}.state").stdout  # fmt: skip
    results[name] = lab.records(output)[0], lab.load(f"{name}.gradients"), lab.load(f"{name}.state")
for key in ("loss", "gnorm"):
    one, four = results["whole"][0][key], results["parts"][0][key]
    report.check(abs(one - four) <= 1e-5 * abs(one), f"{key}: {one} at once, {four} in four parts")
for kind, what in ((1, "gradients"), (2, "parameters")):
    one, four = results["whole"][kind], results["parts"][kind]
    part, worst = lab.gap(one, four, 1e-5)
    report.check(part <= 1, f"{what}: {worst} differs most, {part:.2f} of the tolerance")
report.finish()
