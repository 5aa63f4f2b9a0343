"""bf16 compute with float32 master weights: near the float32 plan in loss and every gradient, and reproducible.

bf16 keeps 8 bits: one rounding is off by up to 2^-9 = 0.2 %, and a gradient has passed some tens of them. A lost cast or a
sum in bf16 shows as an error that grows with the length of the sum: far above 3 %.

On two models that fairseq recorded, whose float64 values the interpreter repeats (test/frontend/onnx/GoldensTest.cpp), it
is no further from float64 than PyTorch's own bf16 (test/bench/bf16).
"""
import json
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import fairseq
import lab

report = lab.Report()
BATCH, LENGTH, STEPS = 4, 64, 8
RECIPE = {"optimizer": {"name": "adamw", "lr": 1e-2}}

# Few slots for each expert: tokens are dropped, and a router that decided in bf16 would drop others.
lab.model("moe.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--moe-gate-loss-wt", 0.01, "--dropout", 0,
          "--attention-dropout", 0, width=64, tokens=LENGTH)  # fmt: skip
ids, labels = np.random.default_rng(5).integers(4, 260, (2, STEPS, BATCH, LENGTH), dtype=np.int64)
lab.save("inputs", {"input_ids": ids, "labels": labels})


def measure(compute, target="cpu:native", steps=STEPS):
    """Losses of the run, the gradients of its first update, and the parameters after it."""
    lab.compile_plan("moe.onnx", "p.moe", BATCH, LENGTH, "--target", target, recipe=RECIPE | {"precision": {"compute": compute}})
    output = lab.run("moerun", "run", "p.moe", "--inputs", "inputs", "--steps", steps, "--seed", 7, "--poison",
                     "--log-format", "json", "--save-gradients", "gradients", "--save-state", "state").stdout  # fmt: skip
    return lab.records(output), lab.load("gradients"), lab.load("state")


wide = measure("f32")
floor = 1e-3 * np.sqrt(sum(np.sum(value.astype(float) ** 2) for value in wide[1].values()))
KEY_BIASES = [key for key in wide[1] if key.endswith("k_proj.bias")]


def compare(what, narrow):
    kinds = {value.dtype for part in narrow[1:] for value in part.values()}
    report.check(kinds == {np.dtype("f4")}, f"{what}: gradients and parameters are stored as {kinds}")
    dropped = [run[0][0]["overflow_expert1"] for run in (wide, narrow)]
    report.check(min(dropped) > 5, f"{what}: tokens are dropped: {dropped} %")
    losses = np.array([[record["loss"] for record in run[0][: len(narrow[0])]] for run in (wide, narrow)])
    change = np.abs(losses[1] - losses[0])
    report.check(0 < change.max() <= 0.02 * losses.max(), f"{what}: losses are off by at most {change.max():.4f} of {losses[0][0]:.3f}")
    report.check(losses[1][-1] < losses[1][0], f"{what}: the loss falls: {losses[1][0]:.3f} to {losses[1][-1]:.3f}")
    # Every query's weights sum to one, so that the same amount added to all keys changes nothing: the exact gradient of a key's
    # bias is zero. What is left is the rounding of the terms, each by up to 2^-9, of which the weight's gradient is a sum as well.
    left = {key: np.linalg.norm(narrow[1][key]) / np.linalg.norm(wide[1][key.replace("bias", "weight")]) for key in KEY_BIASES}
    report.check(0 < max(left.values()) <= 2**-9, f"{what}: gradients of key biases are at most {max(left.values()):.1e} of the weights'")
    # A token whose two best experts are as good as equal may go to the other one: one such token in the 256 of this batch,
    # taken out of one sum and put into another, is sqrt(2 / 256) = 9 % of a gradient that only the MoE layer sees.
    changes = {key: np.linalg.norm(narrow[1][key] - value) / (np.linalg.norm(value) + floor) for key, value in wide[1].items() if key not in KEY_BIASES}
    for behind, limit in ((False, 0.03), (True, 0.18)):
        worst, name = max((change, key) for key, change in changes.items()
                          if key.startswith(("decoder.layers.1.moe_layer", "decoder.layers.1.final_layer_norm")) == behind)  # fmt: skip
        report.check(0 < worst <= limit,
                     f"{what}: gradients {'of the MoE layer' if behind else 'elsewhere'} are off by at most {worst:.4f} of the norm, in {name}")  # fmt: skip


narrow, again = measure("bf16"), measure("bf16")
report.check(narrow[0] == again[0] and all(np.array_equal(narrow[2][key], again[2][key]) for key in narrow[2]),
             "a bf16 run repeats bit for bit")  # fmt: skip
compare("CPU", narrow)
simulated = pathlib.Path(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so").exists()
if simulated:
    compare("simulated CUDA device", measure("bf16", "cuda:simulated", 2))


def beside_torch(name, target, theirs):
    golden = fairseq.Golden(name)
    golden.prepare()
    records, gradients = golden.run(name, golden.updates, "--target", target, recipe=golden.recipe | {"precision": {"compute": "bf16"}})
    losses = np.array([record["loss"] for record in records]) - golden.losses()
    square = lambda arrays: sum(float(np.square(array.astype(float)).sum()) for array in arrays)
    exact = golden.gradients
    ours = {
        "gradients": np.sqrt(square(gradients[key] - exact[key] for key in exact) / square(exact.values())),
        "losses": np.sqrt(np.mean(np.square(losses))),
    }
    for what, value in ours.items():
        report.check(0 < value <= theirs[what], f"{name} on {target}: {what} are {value:.2e} from float64, PyTorch's {theirs[what]:.2e}")


for name, theirs in json.loads((fairseq.DATA / "bf16.json").read_text())["configurations"].items():
    for target in ["cpu:native"] + ["cuda:simulated"] * simulated:
        beside_torch(name, target, theirs)
report.finish()
