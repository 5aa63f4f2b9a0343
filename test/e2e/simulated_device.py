"""Plans for CUDA on the simulated device (test/gpu/sim): they train as plans for the CPU do, one graph launch per update.

The device runs every step twice and watches what it touches, so that a run that succeeds says more than its numbers do.
"""
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

if not pathlib.Path(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so").exists():
    print("skipped: this build has no simulated device")
    sys.exit()

report = lab.Report()
TOLERANCE = 1e-5  # sums of float32 in another order
UPDATES, BATCH, LENGTH = 20, 2, 16
BF16_TOLERANCE = 2e-2  # a few roundings to 8 bits, of products that are summed in float32
TARGETS = {"cpu": "cpu:x86-64-v3", "cuda": "cuda:simulated"}
RECIPE = {"optimizer": {"name": "adamw", "lr": 1e-2}, "clip_norm": 1.0, "accumulate": 2}

# Two layers, 64 wide, the second of four experts; everything that draws or sums: dropout, sampled second experts, two
# micro-batches, clipping.
lab.model("moe.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--moe-gate-loss-wt", 0.01, "--dropout", 0.1,
          width=64, tokens=LENGTH)  # fmt: skip
for name, target in TARGETS.items():
    lab.compile_plan("moe.onnx", f"{name}.moe", BATCH, LENGTH, "--target", target, recipe=RECIPE)
lab.compile_plan("moe.onnx", "bf16.moe", BATCH, LENGTH, "--target", TARGETS["cuda"],
                 recipe=RECIPE | {"precision": {"compute": "bf16"}})  # fmt: skip
random = np.random.default_rng(3)
ids, labels = random.integers(4, 260, (2, 2 * UPDATES, BATCH, LENGTH), dtype=np.int64)
labels[::3, 0, 5:] = 1  # padding
lab.save("inputs", {"input_ids": ids, "labels": labels})


def run(name, steps, *more, env=None):
    """The records of a run in the laboratory, and the gradients of its first update."""
    output = lab.run("moerun", "run", f"{name}.moe", "--inputs", "inputs", "--steps", steps, "--seed", 7, "--log-format", "json",
                     "--save-gradients", f"{name}.gradients", *more, env=env).stdout  # fmt: skip
    return lab.records(output), lab.load(f"{name}.gradients")


def compare(kind, expected, actual, tolerance=TOLERANCE):
    part, worst = lab.gap(expected, actual, tolerance)
    report.check(part <= 1, f"{kind}: {worst} differs most, {part:.3f} of the tolerance")


cpu, cuda = (run(name, UPDATES, "--save-state", f"{name}.state") for name in TARGETS)
for key in ("loss", "gnorm", "moe_gate_loss", "overflow_expert2"):
    expected, actual = (np.array([record[key] for record in records]) for records, _ in (cpu, cuda))
    part = np.max(np.abs(actual - expected) / (TOLERANCE * np.abs(expected)))
    report.check(len(actual) == UPDATES and part <= 1, f"{key} of {len(actual)} updates: {part:.3f} of the tolerance")
compare("gradients of the first update", cpu[1], cuda[1])
records, gradients = run("bf16", UPDATES)
compare("gradients in bfloat16", cpu[1], gradients, BF16_TOLERANCE)
part = max(abs(record["loss"] - expected["loss"]) / (BF16_TOLERANCE * expected["loss"]) for record, expected in zip(records, cpu[0]))
report.check(len(records) == UPDATES and part <= 1, f"loss of {UPDATES} updates in bfloat16: {part:.3f} of the tolerance")
cpu, cuda = (run(name, 1, "--init-state", "cpu.state") for name in TARGETS)
compare("gradients after training", cpu[1], cuda[1])


def train(folder, *more, env=None):
    """Digests of the checkpoints that training leaves."""
    lab.run("moerun", "train", "cuda.moe", "--device", "cuda", "--data", "text", "--valid-split", 0.2, "--save-dir", folder,
            "--log-format", "json", *more, env=env)  # fmt: skip
    return {path.name: lab.digest(path) for path in sorted(pathlib.Path(folder).glob("*.safetensors"))}


lab.letters("text", 400)
whole = train("whole", "--max-update", 6, env={"MOE_SIM_TRACE": "trace"})
train("parts", "--max-update", 3)
report.check(train("parts", "--max-update", 6, "--resume").items() >= whole.items(), "a resumed run leaves the same bits")
report.check(len(whole) == 1 and train("poisoned", "--max-update", 6, "--poison") == whole, "--poison changes no bit")

report.check(pathlib.Path("whole/algorithms.json").exists(), "the choices of cuBLASLt are on record")

# A checkpoint belongs to the model, not to the device.
losses = [lab.records(lab.run("moerun", "eval", f"{name}.moe", "--data", "text", "--valid-split", 0.2, "--save-dir", "whole",
                              "--log-format", "json").stdout)[0]["loss"] for name in TARGETS]  # fmt: skip
report.check(abs(losses[1] - losses[0]) <= TOLERANCE * losses[0], f"losses of the checkpoint: {losses}")

# The first update runs step by step; each later one is one launch, and waiting for it.
lines = [line.split() for line in pathlib.Path("trace").read_text().splitlines()]
calls = [name for name, count in lines for _ in range(int(count))]
updates = [i for i, name in enumerate(calls) if name == "cudaGraphLaunch"][:5]
between = [calls[first:second] for first, second in zip(updates, updates[1:])]
report.check(len(between) == 4 and all(len(part) <= 3 for part in between), f"calls per update: {between}")
report.finish()
