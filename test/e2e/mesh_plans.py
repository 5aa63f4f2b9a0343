"""Compiled plans of any mesh train what the plan of one rank trains.

A small layer of experts with tokens dropped and dropout drawn, on 2, 4 and 8 ranks that are threads: every split into
data x expert, every --fsdp, one and two choices, one and four micro-batches per update. Against the plan of one rank:
losses, norms and clip factors of three updates of SGD, every gradient of the first update, weights after the last.
Tolerance: float32 sums in another order; 1e-5 of the norm of a tensor, plus 1e-7 of the norm of all gradients. A missing
reduction, a doubled one or a row sent to the wrong expert is above 1e-2. With --recompute full every bit is the same.
"""
import itertools
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

BATCH, SEQ, UPDATES, VOCABULARY = 8, 8, 3, 40
report = lab.Report()
random = np.random.default_rng(5)


def inputs(path, batches):
    shape = (batches, BATCH, SEQ)
    tokens, labels = (random.integers(4, VOCABULARY, shape, dtype=np.int64) for _ in range(2))
    labels[:, :, 3] = 1  # padding, which is not counted
    lab.save(path, {"input_ids": tokens, "labels": labels})


def train(source, accumulate, ranks, *flags):
    recipe = {"optimizer": {"name": "sgd", "lr": 0.2}, "clip_norm": 0.05, "accumulate": accumulate, "routing_groups": 2, "seed": 3}
    lab.compile_plan(source, "plan.moe", BATCH, SEQ, "--threads", "1", "--ranks", ranks, *flags, recipe=recipe)
    done = lab.run("moerun", "run", "plan.moe", "--ranks", ranks, "--inputs", f"inputs{accumulate}", "--steps", UPDATES,
                   "--log-format", "json", "--save-gradients", "gradients", "--save-state", "weights")  # fmt: skip
    return lab.records(done.stdout), lab.load("gradients"), lab.load("weights")


def worst(got, want, floor):
    if got.keys() != want.keys():
        return np.inf
    return max(np.linalg.norm(got[key].astype(np.float64) - value) / (1e-5 * np.linalg.norm(value) + floor) for key, value in want.items())


cases = 0
for top1, accumulate in itertools.product((False, True), (1, 4)):
    inputs(f"inputs{accumulate}", UPDATES * accumulate)
    lab.model("model.onnx", "--moe-freq", "2", "--moe-expert-count", "8", "--dropout", "0.1", "--attention-dropout", "0.1",
              "--share-decoder-input-output-embed", *(["--moe-top1-expert"] if top1 else []), width=16, heads=2, tokens=SEQ,
              vocabulary=VOCABULARY)  # fmt: skip
    logs, gradients, weights = train("model.onnx", accumulate, 1)
    # With one choice there is no metric of what is dropped, but there are as many slots as tokens.
    dropped = logs[0]["unused_expert1_count"] if top1 else logs[0]["overflow_expert1"] + logs[0]["overflow_expert2"]
    report.check(dropped > 0, f"top-{1 if top1 else 2}: tokens are dropped")
    report.check(logs[0]["clip_factor"] < 1, "gradients are clipped")
    floor = 1e-7 * np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in gradients.values()))
    for ranks in (2, 4, 8):
        for experts in (size for size in (1, 2, 4, 8) if size <= ranks):
            # Not all with all: each split meets each --fsdp, with one micro-batch or with four.
            for number, fsdp in enumerate(("off", "optimizer", "full")):
                if (number + experts + ranks + top1) % 2 != (accumulate == 4):
                    continue
                cases += 1
                name = f"{ranks // experts} x {experts}, fsdp {fsdp}, top-{1 if top1 else 2}, accumulate {accumulate}"
                log, grads, state = train("model.onnx", accumulate, ranks, "--expert-parallel", experts, "--fsdp", fsdp)
                near = all(abs(a[key] - b[key]) <= 1e-5 * abs(b[key]) for a, b in zip(log, logs) for key in ("loss", "gnorm", "clip_factor"))
                off = [worst(grads, gradients, floor), worst(state, weights, 1e-7)]
                if fsdp == "full":
                    again = train("model.onnx", accumulate, ranks, "--expert-parallel", experts, "--fsdp", fsdp, "--recompute", "full")
                    same = again[0] == log and all(np.array_equal(again[i][key], value) for i, kept in ((1, grads), (2, state)) for key, value in kept.items())
                    report.check(same, f"{name}: --recompute full gives the same bits")
                report.check(len(log) == UPDATES and near and max(off) <= 1, f"{name}: gradients {off[0]:.3f}, weights {off[1]:.3f} of tolerance")
report.check(cases >= 48, f"{cases} plans of many ranks")
report.finish()
