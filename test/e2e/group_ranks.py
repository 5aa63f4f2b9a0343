"""Compiled plans of models whose routing groups do not divide among the ranks, or have slots and experts that do not.

Five experts of a preset, groups fewer than ranks, more, and no multiple of them: what three updates leave on any mesh is what
they leave on one rank: losses, norms, every gradient of the first update, weights, and the number of dropped tokens, which is
above zero. Tolerance: float32 sums in another order; 1e-5 of the norm of a tensor, plus 1e-7 of the norm of all gradients. No
rank idles because of the number of groups: FLOPs of a rank are at most 1.15 / N of those of one rank.
"""
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

BATCH, SEQ, UPDATES, VOCABULARY = 60, 8, 3, 40
# Groups and meshes. 480 tokens: 5 experts have 192 slots in one group, 96, 64, 48, 40 and 32 in each of 2, 3, 4, 5 and 6.
CASES = [(1, [(4, 1, "full"), (5, 1, "off"), (3, 1, "optimizer")]), (2, [(5, 1, "full")]), (3, [(2, 1, "full"), (5, 1, "optimizer")]),
         (4, [(6, 1, "full"), (3, 1, "off"), (5, 5, "full")]), (5, [(6, 1, "optimizer"), (15, 5, "full")]), (6, [(4, 1, "off")])]  # fmt: skip
report = lab.Report()
random = np.random.default_rng(11)


def train(groups, ranks, *flags):
    recipe = {"optimizer": {"name": "sgd", "lr": 0.2}, "clip_norm": 0.05, "routing_groups": groups, "seed": 3}
    said = lab.compile_plan("model.onnx", "plan.moe", BATCH, SEQ, "--threads", 1, "--ranks", ranks, "--json", *flags, recipe=recipe)
    done = lab.run("moerun", "run", "plan.moe", "--ranks", ranks, "--inputs", "inputs", "--steps", UPDATES, "--log-format", "json",
                   "--save-gradients", "gradients", "--save-state", "weights")  # fmt: skip
    return json.loads(said.stdout)["flops_per_micro_step"], lab.records(done.stdout), lab.load("gradients"), lab.load("weights")


lab.model("model.onnx", "--moe-freq", "2", "--moe-expert-count", "5", "--dropout", "0.1", "--activation-dropout", "0.1",
          "--attention-dropout", "0.1", "--share-decoder-input-output-embed", width=32, heads=2, tokens=SEQ, vocabulary=VOCABULARY)  # fmt: skip
tokens, labels = (random.integers(4, VOCABULARY, (UPDATES, BATCH, SEQ), dtype=np.int64) for _ in range(2))
labels[:, ::3, 5] = 1  # padding
lab.save("inputs", {"input_ids": tokens, "labels": labels})
for groups, meshes in CASES:
    alone, log, gradients, weights = train(groups, 1)
    dropped = log[0]["overflow_expert1"] + log[0]["overflow_expert2"]
    report.check(dropped > 0 and log[0]["clip_factor"] < 1, f"{groups} groups: {dropped:.2f} percent are dropped")
    floor = 1e-7 * np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in gradients.values()))
    for ranks, experts, fsdp in meshes:
        flops, other, theirs, after = train(groups, ranks, "--expert-parallel", experts, "--fsdp", fsdp)
        off = [lab.worst(theirs, gradients, floor), lab.worst(after, weights, 1e-7)]
        keys = ("loss", "gnorm", "clip_factor", "overflow_expert1", "overflow_expert2")
        name = f"{groups} groups on {ranks // experts} x {experts}, fsdp {fsdp}"
        report.check(lab.near(other, log, keys) and max(off) <= 1, f"{name}: gradients {off[0]:.3f}, weights {off[1]:.3f} of tolerance")
        report.check(flops * ranks <= 1.15 * alone, f"{name}: FLOPs {flops * ranks / alone:.3f} / N")
report.finish()
