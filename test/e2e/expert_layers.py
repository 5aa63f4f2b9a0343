"""Layers of experts of exported models compute what their tokens chose, in rows sorted by expert.

The exports of `test/data/onnx` have their experts gathered for each choice (mixtral) or in one-hot tensors with a capacity
(capacity-moe). Their numbers are compared with PyTorch's by torch_models.py; here is what the plans do to get them, and
that rows of any number, and experts without rows, give the losses and gradients of weights gathered for each choice.
"""
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()


def steps(name, *flags):
    """Steps of the micro-step of a model of `test/data/onnx`."""
    folder = lab.ROOT / "test/data/onnx" / name
    lab.run("moec", "compile", folder / "model.onnx", "--recipe", folder / "recipe.yaml", *flags, "-o", f"{name}.moe")
    done = lab.run("moec", "inspect", f"{name}.moe", "--steps", "micro_step", "--json")
    return json.loads(done.stdout)["steps"]


# Mixtral: 128 tokens choose 2 of 4 experts, whose layers are 64 -> 2 x 96 -> 64; two of them.
BIND = ["--bind", "batch=4", "--bind", "seq=32"]
TOKENS, CHOICES, EXPERTS, WIDTH, INNER, LAYERS = 128, 2, 4, 64, 96, 2
found = steps("mixtral", *BIND)
products = [step for step in found if step["kind"] == "grouped_gemm"]
sums = [step for step in found if step["kind"] == "grouped_gemm_weight_grad"]
report.check(len(products) == 4 * LAYERS and len(sums) == 2 * LAYERS, f"{len(products)} products, {len(sums)} weight gradients")
# All experts on all tokens, forward, and twice that backward. Blocks of 16 rows pad 256 choices to 304 rows.
dense = 3 * 2 * TOKENS * EXPERTS * 3 * WIDTH * INNER * LAYERS
flops = sum(step["flops"] for step in products + sums)
report.check(CHOICES / EXPERTS <= flops / dense <= 0.6, f"{flops / dense:.3f} of the operations of all experts on all tokens")
# Weights that are gathered for each choice would be as large as this.
gathered = 4 * TOKENS * CHOICES * 2 * WIDTH * INNER
largest = max(operand["bytes"] for step in found for operand in step["operands"] if operand.get("arena") == "step")
report.check(largest < gathered / 8, f"the largest operand has {largest} bytes")

# GShard: 128 tokens, 4 experts with 56 slots: no tensor of tokens x experts x slots, and no product with one.
found = steps("capacity-moe")
report.check(all(operand["shape"][-3:] != [128, 4, 56] for step in found for operand in step["operands"]), "no one-hot tensors")

# 222 choices, which neither blocks nor chunks of choices divide, against the graph as it was exported: tokens at random,
# and one token everywhere, which leaves two experts of a layer without rows.
BATCH, SEQ = 3, 37
RECIPE = {
    "loss": {"cross_entropy": {"logits": "logits", "labels": "labels", "ignore_index": -100}},
    "parameters": {"default": "train", "freeze": ["m.model.rotary_emb.inv_freq"]},
    "optimizer": {"name": "adamw", "lr": 0.01},
}
random = np.random.default_rng(5)
tokens = random.integers(0, 256, (2, 1, BATCH, SEQ), dtype=np.int64)
for kind, ids in (("any tokens", tokens[0]), ("one token", np.full_like(tokens[0], 7))):
    lab.save("inputs", {"input_ids": ids, "labels": tokens[1]})
    plans = {"exported": ["--no-recompose"], "rows": []}
    if os.path.exists(os.path.join(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so")):
        plans["simulated"] = ["--target", "cuda:simulated"]
    losses, gradients = {}, {}
    for name, flags in plans.items():
        lab.compile_plan(lab.ROOT / "test/data/onnx/mixtral/model.onnx", "plan.moe", BATCH, SEQ, *flags, recipe=RECIPE)
        done = lab.run("moerun", "run", "plan.moe", "--inputs", "inputs", "--steps", 1, "--log-format", "json", "--save-gradients", "gradients")
        losses[name], gradients[name] = lab.records(done.stdout)[0]["loss"], lab.load("gradients")
    # The exporter's tables [expert, ...]: the rows of an expert without tokens have no gradient.
    idle = sum(not np.any(expert) for expert in gradients["exported"]["val_342"])
    report.check(idle == (0 if kind == "any tokens" else 2), f"{kind}: {idle} experts of the first layer are idle")
    for name in list(plans)[1:]:
        off, where = lab.gap(gradients["exported"], gradients[name], 1e-5)
        report.check(off <= 1 and abs(losses[name] - losses["exported"]) <= 1e-5, f"{kind}: {name}: {off:.3f} of tolerance from the exported graph, {where}")
report.finish()
