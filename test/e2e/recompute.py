"""`--recompute full` changes no bit of a loss, a gradient or a weight, needs a smaller step arena, and computes no more than
one forward again, in the backward and layer by layer.

Presets deep enough for a saving, with dropout, sampled second experts, tokens that are dropped and two micro-batches, in
float32 and bf16; what fairseq recorded; every model that PyTorch exported. Bits are compared, so there are no tolerances: a
copy that drew other random numbers, routed other tokens, summed in another order or read a state too late would show in the
gradients of the first update. Memory is the certificate's.
"""
import json
import os
import pathlib
import re
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import exports
import fairseq
import lab

report = lab.Report()
POLICIES = ("none", "full")
# The exporter has renamed all parameters: there are no numbers of layers to be seen. In bf16 narrow copies of weights are made again.
NAMELESS = ("gemma2 optimised f32",)
rows = []


def flops(plan, part=lambda name: True):
    """Of the steps of the micro-step whose name is part of what is asked for."""
    return sum(step["flops"] for step in steps(plan, "micro_step") if part(step["name"]))


def steps(plan, program):
    return json.loads(lab.run("moec", "inspect", plan, "--steps", program, "--json").stdout)["steps"]


def same(name, compiled, run, shrinks):
    """Compiles and runs a model with both policies. `compiled(plan, *flags)` prints a report as JSON, `run(plan)` returns
    records. The plan of `full` stays as full.moe."""
    printed, lines, gradients, states = {}, {}, {}, {}
    for policy in POLICIES:
        for path in ("gradients", "state"):
            pathlib.Path(path).unlink(missing_ok=True)
        printed[policy] = json.loads(compiled(f"{policy}.moe", "--recompute", policy, "--json"))
        output = run(f"{policy}.moe", "--save-gradients", "gradients", "--save-state", "state")
        lines[policy] = [{key: value for key, value in line.items() if re.search(r"loss|gnorm|clip|overflow", key)} for line in output]
        gradients[policy], states[policy] = lab.load("gradients"), lab.load("state")
    other = [key for kept, again in ((gradients["none"], gradients["full"]), (states["none"], states["full"]))
             for key in kept if kept.keys() != again.keys() or kept[key].tobytes() != again[key].tobytes()]  # fmt: skip
    report.check(len(lines["none"]) > 0 and len(gradients["none"]) > 0 and lines["none"] == lines["full"] and not other,
                 f"{name}: {len(lines['none'])} updates and {len(gradients['none'])} gradients have the same bits {other[:3]}")  # fmt: skip
    none, full = (printed[policy]["memory"]["step"] for policy in POLICIES)
    again = printed["full"]["recompute"]
    total = flops("none.moe")
    extra, forward = flops("full.moe") - total, flops("none.moe", lambda name: not name.endswith(".grad"))
    rows.append((name, none, full, again["kept_bytes_without"], again["kept_bytes"], extra, total))
    if name in NAMELESS:
        return report.check(again["steps"] == 0 and full == none, f"{name}: nothing is computed again")
    report.check("policy" not in printed["none"].get("recompute", {}) and again["steps"] > 0 and again["kept_bytes"] < again["kept_bytes_without"],
                 f"{name}: {again['steps']} steps are computed again")  # fmt: skip
    # Kernels leave out what nobody reads any more, so that a bit less is computed than what is computed again.
    report.check(0 < extra <= again["flops"] <= forward, f"{name}: {extra:.3g} FLOPs more, a forward has {forward:.3g}")
    report.check(full <= none * shrinks, f"{name}: a step arena of {full} bytes instead of {none}")
    return lines


# Twelve layers: what is kept of each is its input, of about twenty tensors of that size.
lab.model("deep.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--moe-gate-loss-wt", 0.01, "--dropout", 0.1, "--attention-dropout", 0.1,
          layers=12, width=64, tokens=64)  # fmt: skip
ids, labels = np.random.default_rng(5).integers(4, 260, (2, 6, 4, 64), dtype=np.int64)
lab.save("inputs", {"input_ids": ids, "labels": labels})
simulated = pathlib.Path(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so").exists()
# On a GPU the order in which a kernel sums depends on all that it reads.
lab.model("short.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--moe-gate-loss-wt", 0.01, "--dropout", 0.1, "--attention-dropout", 0.1,
          layers=2, width=64, tokens=64)  # fmt: skip
for model, target, compute in [("short", "cuda:simulated", "bf16")] * simulated + [("deep", "cpu:native", kind) for kind in ("f32", "bf16")]:
    recipe = {"optimizer": {"name": "adamw", "lr": 1e-2}, "clip_norm": 1.0, "accumulate": 2, "precision": {"compute": compute}}

    def compiled(plan, *flags):
        return lab.compile_plan(f"{model}.onnx", plan, 4, 64, "--target", target, *flags, recipe=recipe).stdout

    def run(plan, *flags):
        return lab.records(lab.run("moerun", "run", plan, "--inputs", "inputs", "--steps", 3, "--seed", 7, "--poison", "--log-format",
                                   "json", *flags).stdout)  # fmt: skip

    lines = same(f"{model} {compute}{' simulated' * (model == 'short')}", compiled, run, 0.95 if model == "short" else 0.5)
    dropped = [line["overflow_expert1"] for line in lines["full"]]
    report.check(max(dropped) > 0 or model == "short", f"tokens are dropped: {dropped} %")

# In the backward, the last layer first, and none before the gradient has come through the layer after it.
parts = [(int(found[1]), found[2]) for step in steps("full.moe", "micro_step")
         if (found := re.match(r"decoder\.layers\.(\d+)\..*?(\.again|\.grad)?$", step["name"]))]  # fmt: skip
copies = [layer for layer, kind in parts if kind == ".again"]
report.check(len(copies) > 100 and copies == sorted(copies, reverse=True) and set(copies) == set(range(12)),
             f"{len(copies)} steps of twelve layers are computed again, the last layer first")  # fmt: skip
for layer in range(11):
    first = parts.index((layer, ".again"))
    behind = [index < first for index, part in enumerate(parts) if part == (layer + 1, ".grad")]
    report.check(sum(behind) >= 0.8 * len(behind), f"layer {layer} waits for {sum(behind)} of {len(behind)} steps of the gradient after it")

text = lab.run("moec", "inspect", "full.moe").stdout
report.check("computed again in the backward" in text, "moec inspect shows what is computed again")

# With FSDP, parameters are whole only while their layer computes: eight layers more need less than half of their parameters more,
# although `none` keeps their activations.
LAYERS, PARAMETERS = (4, 12), 8 * 128**2
for layers in LAYERS:
    lab.model(f"shared{layers}.onnx", "--dropout", 0.1, layers=layers, width=128, tokens=16)
lab.save("few", {"input_ids": ids[:, :2, :16], "labels": labels[:, :2, :16]})
for compute in ("f32", "bf16"):
    recipe = {"optimizer": {"name": "adamw", "lr": 1e-2}, "clip_norm": 1.0, "accumulate": 2, "precision": {"compute": compute}}
    steps_of = {}
    for layers in LAYERS:
        def compiled(plan, *flags):
            return lab.compile_plan(f"shared{layers}.onnx", plan, 2, 16, "--ranks", 2, "--fsdp", "full", *flags, recipe=recipe).stdout

        def run(plan, *flags):
            return lab.records(lab.run("moerun", "run", plan, "--ranks", 2, "--inputs", "few", "--steps", 3, "--seed", 7, "--poison",
                                       "--log-format", "json", *flags).stdout)  # fmt: skip

        same(f"fsdp, {layers} layers {compute}", compiled, run, 1.0)
        steps_of[layers] = [json.loads(compiled("x.moe", "--recompute", policy, "--json"))["memory"]["step"] for policy in POLICIES]
    growth = [(many - few) / (LAYERS[1] - LAYERS[0]) / (4 * PARAMETERS) for few, many in zip(*steps_of.values())]
    report.check(max(growth) < 0.5, f"fsdp {compute}: a layer more adds {growth[0]:.2f} of its parameters to the step arena, {growth[1]:.2f} with full")

for folder in sorted(path.parent.name for path in fairseq.DATA.glob("*/config.json")):
    golden = fairseq.Golden(folder)
    golden.prepare()
    _, batch, seq = golden.inputs["labels"].shape
    same(folder, lambda plan, *flags: lab.compile_plan(f"{folder}.onnx", plan, batch, seq, *flags, recipe=golden.recipe).stdout,
         lambda plan, *flags: lab.records(lab.run("moerun", "run", plan, "--init-state", f"{folder}.weights", "--inputs", f"{folder}.inputs",
                                                  "--steps", 2, "--log-format", "json", *flags).stdout), 0.95)  # fmt: skip

for export in exports.all_of():
    kind = next(iter(export.runs))
    for compute in ("f32", "bf16"):
        same(f"{export.name} {compute}", lambda plan, *flags: export.compile(kind, plan, compute, *flags),
             lambda plan, *flags: lab.records(lab.run("moerun", "run", plan, "--inputs", export.inputs, "--steps", 2, "--log-format",
                                                      "json", *flags).stdout), 1.0)  # fmt: skip

print(f"\n{'model':24} {'step arena, none':>16} {'full':>12} {'kept, none':>12} {'full':>12} {'extra FLOPs':>12}")
for name, none, full, without, kept, extra, total in rows:
    print(f"{name:24} {none:16} {full:12} {without:12} {kept:12} {100 * extra / total:10.1f} %")
report.finish()
