"""Plans of many ranks for CUDA, each rank on a simulated device of its own: they train what one rank trains on the CPU.

Ranks are threads, or processes under mpirun, which must leave the same bits. What NCCL does on devices its stand-in does
(test/gpu/sim/Nccl.cpp); everything around it, sums included, is what runs on devices. Tokens are dropped and dropout is
drawn. Tolerance as in mesh_plans.py.
"""
import os
import pathlib
import shutil
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

if not pathlib.Path(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so").exists():
    print("skipped: this build has no simulated device")
    sys.exit()

BATCH, SEQ, UPDATES, VOCABULARY = 4, 8, 3, 40
RECIPE = {"optimizer": {"name": "sgd", "lr": 0.2}, "clip_norm": 0.05, "accumulate": 2, "routing_groups": 2, "seed": 3}
report = lab.Report()
random = np.random.default_rng(5)
tokens, labels = (random.integers(4, VOCABULARY, (2 * UPDATES, BATCH, SEQ), dtype=np.int64) for _ in range(2))
labels[:, :, 3] = 1  # padding, which is not counted
lab.save("inputs", {"input_ids": tokens, "labels": labels})
lab.model("model.onnx", "--moe-freq", "2", "--moe-expert-count", "4", "--dropout", "0.1", width=16, heads=2, tokens=SEQ,
          vocabulary=VOCABULARY)  # fmt: skip
DEVICES = {"MOE_SIM_DEVICES": "4"}


def compiled(name, target, ranks, *flags, recipe=RECIPE):
    lab.compile_plan("model.onnx", f"{name}.moe", BATCH, SEQ, "--threads", "1", "--target", target, "--ranks", ranks, *flags, recipe=recipe)


def train(name, ranks, *more, launcher=()):
    done = lab.run(*launcher, "moerun", "run", f"{name}.moe", *(() if launcher else ("--ranks", ranks)), "--inputs", "inputs",
                   "--steps", UPDATES, "--log-format", "json", "--save-gradients", f"{name}.gradients", "--save-state",
                   f"{name}.weights", *more, env=DEVICES)  # fmt: skip
    return lab.records(done.stdout), lab.load(f"{name}.gradients"), lab.load(f"{name}.weights")


def worst(got, want):
    return lab.worst(got, want, floor=1e-7 * np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in want.values())))


def same(one, other):
    return all(a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a) for a, b in zip(one[1:], other[1:]))


compiled("one", "cpu:x86-64-v3", 1)
logs, gradients, weights = train("one", 1)
report.check(logs[0]["overflow_expert1"] + logs[0]["overflow_expert2"] > 0, "tokens are dropped")
report.check(logs[0]["clip_factor"] < 1, "gradients are clipped")
results = {}
for name, ranks, flags in (("data", 2, ("--fsdp", "off")), ("expert", 2, ("--expert-parallel", 2, "--fsdp", "full")),
                           ("both", 4, ("--expert-parallel", 2, "--fsdp", "optimizer")),
                           ("again", 4, ("--expert-parallel", 2, "--fsdp", "full", "--recompute", "full"))):  # fmt: skip
    compiled(name, "cuda:simulated", ranks, *flags)
    found, own_gradients, own_weights = results[name] = train(name, ranks)
    parts = [worst(own_gradients, gradients), worst(own_weights, weights)]
    for key in ("loss", "gnorm", "clip_factor", "moe_gate_loss"):
        parts.append(max(abs(record[key] / expected[key] - 1) / 1e-5 for record, expected in zip(found, logs)))
    report.check(len(found) == UPDATES and max(parts) <= 1, f"{name}: {ranks} ranks, {' '.join(map(str, flags))}: {max(parts):.3f} of the tolerance")
report.check(same(train("both", 4, "--poison"), results["both"]), "--poison changes no bit")
if shutil.which("mpirun") and pathlib.Path(os.environ["MOEC_BUILD"], "lib/libmoerun-mpi.so").exists():
    launcher = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", 2)
    report.check(same(train("expert", 2, launcher=launcher), results["expert"]), "processes leave the same bits as threads")

compiled("bf16", "cuda:simulated", 2, "--expert-parallel", 2, "--fsdp", "full", recipe=RECIPE | {"precision": {"compute": "bf16"}})
found = train("bf16", 2)[0]
part = max(abs(record["loss"] / expected["loss"] - 1) / 2e-2 for record, expected in zip(found, logs))
report.check(part <= 1, f"bfloat16: {part:.3f} of the tolerance")

failed = lab.run("moerun", "run", "both.moe", "--ranks", 4, "--inputs", "inputs", "--steps", 1, code=1, env={"MOE_SIM_DEVICES": "2"})
report.check("two ranks use the same device" in failed.stderr, f"too few devices: {failed.stderr.strip()}")
report.finish()
