"""Compiled plans of any mesh train what the plan of one rank trains.

A small layer of experts with tokens dropped and dropout drawn, on 2, 4, 8 and 16 ranks that are threads: every split into
data x expert, every --fsdp, one and two choices, one and four micro-batches per update. Against the plan of one rank:
losses, norms and clip factors of three updates of SGD, every gradient of the first update, weights after the last.
Tolerance: float32 sums in another order; 1e-5 of the norm of a tensor, plus 1e-7 of the norm of all gradients. A missing
reduction, a doubled one or a row sent to the wrong expert is above 1e-2. The same plan again and the plan of
--recompute full give the same bits. Adam, which hides a wrong scale of gradients but not of their parts, for 20 updates:
losses and weights within 1e-4, but for biases of keys, whose exact gradient is zero.
"""
import concurrent.futures
import itertools
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

BATCH, SEQ, UPDATES, ADAM_UPDATES, VOCABULARY = 16, 4, 3, 20, 40
SGD = {"optimizer": {"name": "sgd", "lr": 0.2}, "clip_norm": 0.05}
ADAM = {"optimizer": {"name": "adam", "lr": 0.002}, "clip_norm": 1.0}
report = lab.Report()
random = np.random.default_rng(5)


def inputs(path, batches):
    shape = (batches, BATCH, SEQ)
    tokens, labels = (random.integers(4, VOCABULARY, shape, dtype=np.int64) for _ in range(2))
    labels[:, :, 3] = 1  # padding, which is not counted
    lab.save(path, {"input_ids": tokens, "labels": labels})


class Plan:
    """Of a model on a mesh, in a folder of its own."""

    def __init__(self, name, source, recipe, accumulate, ranks, *flags):
        self.folder, self.ranks = pathlib.Path(name), ranks
        self.folder.mkdir()
        recipe = recipe | {"accumulate": accumulate, "routing_groups": 4, "seed": 3}
        lab.compile_plan(source, self.folder / "plan.moe", BATCH, SEQ, "--threads", 1, "--ranks", ranks, *flags, recipe=recipe)

    def train(self, data, updates):
        """Records of the log, gradients of update 0, weights after the last."""
        gradients, weights = self.folder / "gradients", self.folder / "weights"
        done = lab.run("moerun", "run", self.folder / "plan.moe", "--ranks", self.ranks, "--inputs", data, "--steps", updates,
                       "--log-format", "json", "--save-gradients", gradients, "--save-state", weights)  # fmt: skip
        return lab.records(done.stdout), lab.load(gradients), lab.load(weights)


def same(run, other):
    def equal(a, b):
        return a.keys() == b.keys() and all(np.array_equal(a[key], value) for key, value in b.items())

    return run[0] == other[0] and equal(run[1], other[1]) and equal(run[2], other[2])


def meshes():
    for ranks in (2, 4, 8, 16):
        for experts in (size for size in (1, 2, 4, 8, 16) if size <= ranks):
            yield ranks, experts


def sgd(source, top1, accumulate, one, ranks, experts, fsdp, recompute):
    name = f"{ranks // experts} x {experts}, fsdp {fsdp}, top-{1 if top1 else 2}, accumulate {accumulate}"
    words = [source, SGD, accumulate, ranks, "--expert-parallel", experts, "--fsdp", fsdp]
    plan = Plan(name, *words)
    data = f"inputs{accumulate}"
    run = plan.train(data, UPDATES)
    floor = 1e-7 * np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in one[1].values()))
    off = [lab.worst(run[1], one[1], floor), lab.worst(run[2], one[2], 1e-7)]
    good = lab.near(run[0], one[0], ("loss", "gnorm", "clip_factor")) and max(off) <= 1
    results = [(good, f"{name}: gradients {off[0]:.3f}, weights {off[1]:.3f} of tolerance"),
               (same(plan.train(data, UPDATES), run), f"{name}: twice the same bits")]  # fmt: skip
    if recompute:
        again = Plan(f"{name}, recompute", *words, "--recompute", "full").train(data, UPDATES)
        results.append((same(again, run), f"{name}: --recompute full gives the same bits"))
    return results


def adam(source, one, ranks, experts, fsdp):
    name = f"Adam, {ranks // experts} x {experts}, fsdp {fsdp}, {source}"
    log, _, weights = Plan(name, source, ADAM, 1, ranks, "--expert-parallel", experts, "--fsdp", fsdp).train("inputs-adam", ADAM_UPDATES)
    keys = [key for key in one[2] if not key.endswith("k_proj.bias")]
    off = lab.worst({key: weights[key] for key in keys}, {key: one[2][key] for key in keys}, 1e-7, tolerance=1e-4)
    return [(lab.near(log, one[0], ("loss",), tolerance=1e-4) and off <= 1, f"{name}: weights {off:.3f} of tolerance after {len(log)} updates")]


# Compilers and trainers are processes; two at a time, as there are cores.
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    work, cases = [], 0
    inputs("inputs-adam", ADAM_UPDATES)
    for accumulate in (1, 4):
        inputs(f"inputs{accumulate}", UPDATES * accumulate)
    for top1, accumulate in itertools.product((False, True), (1, 4)):
        source = f"top{1 if top1 else 2}.onnx"
        lab.model(source, "--moe-freq", "2", "--moe-expert-count", "16", "--dropout", "0.1", "--attention-dropout", "0.1",
                  "--share-decoder-input-output-embed", *(["--moe-top1-expert"] if top1 else []), width=16, heads=2, tokens=SEQ,
                  vocabulary=VOCABULARY)  # fmt: skip
        one = Plan(f"one rank, {source}, {accumulate}", source, SGD, accumulate, 1).train(f"inputs{accumulate}", UPDATES)
        first = one[0][0]
        # With one choice there is no metric of what is dropped, but there are as many slots as tokens.
        dropped = first["unused_expert1_count"] if top1 else first["overflow_expert1"] + first["overflow_expert2"]
        report.check(dropped > 0, f"top-{1 if top1 else 2}: tokens are dropped")
        report.check(first["clip_factor"] < 1, "gradients are clipped")
        # Not all with all: each layout meets one choice and two, one micro-batch and four; --recompute full on 8 ranks, and 16
        # ranks at all, once.
        for (ranks, experts), (number, fsdp) in itertools.product(meshes(), enumerate(("off", "optimizer", "full"))):
            once = top1 == number % 2
            if (number + experts + ranks + top1) % 2 == (accumulate == 4) and (ranks < 16 or once):
                work.append(pool.submit(sgd, source, top1, accumulate, one, ranks, experts, fsdp, once or ranks < 8))
                cases += 1
        if accumulate == 1:
            one = Plan(f"Adam on one rank, {source}", source, ADAM, 1, 1).train("inputs-adam", ADAM_UPDATES)
            for layout in ((2, 1, "full"), (4, 2, "optimizer"), (4, 4, "full"), (8, 2, "full"), (16, 8, "off")):
                work.append(pool.submit(adam, source, one, *layout))
    for done in work:
        for good, text in done.result():
            report.check(good, text)
report.check(cases >= 48, f"{cases} plans of many ranks")
report.finish()
