"""Experts of exported models, which drop nothing, lie on the ranks of axis `expert`: each has its weights and its rows only.

An exported Mixtral (128 tokens choose 2 of 4 experts, 64 -> 2 x 96 -> 64, two layers), with the weights of all experts in
one initializer, as it was exported, and in one for each expert. On 2 to 8 ranks that are threads, with every --fsdp,
and with a single choice that is weighted by its probability, against the plan of one rank: losses, gradients and weights
of three updates, under the names of the initializers. Tolerance: float32 sums in another order, as in mesh_plans.py. Then
what each rank has and does: state, floating-point operations, what is sent; bf16; checkpoints of four ranks that one rank
resumes; and exports, which say nothing of ranks.
"""
import json
import os
import pathlib
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

BATCH, SEQ, UPDATES, EXPERTS, LAYERS, TOKENS, CHOICES, WIDTH, INNER = 8, 16, 3, 4, 2, 128, 2, 64, 96
TABLES = ("val_342", "val_351", "val_563", "val_571")
report = lab.Report()
random = np.random.default_rng(3)
source = lab.ROOT / "test/data/onnx/mixtral/model.onnx"
RECIPE = {
    "loss": {"cross_entropy": {"logits": "logits", "labels": "labels", "ignore_index": -100}},
    "parameters": {"default": "train", "freeze": ["m.model.rotary_emb.inv_freq"]},
    "optimizer": {"name": "adamw", "lr": 0.01, "eps": 1e-3},
    "clip_norm": 0.5,
    "seed": 3,
}


def separate(path):
    """The model with an initializer for each expert, the first table's transposed: joined again before they are used."""
    model = onnx.load(source)
    graph, first = model.graph, []
    for tensor in [t for t in graph.initializer if t.name in TABLES]:
        turned, parts = tensor.name == TABLES[0], []
        for e, weight in enumerate(numpy_helper.to_array(tensor)):
            stored = np.ascontiguousarray(weight.T if turned else weight)
            graph.initializer.append(numpy_helper.from_array(stored, f"{tensor.name}.{e}"))
            parts.append(f"{tensor.name}.{e}")
            if turned:
                first.append(helper.make_node("Transpose", [parts[-1]], [f"{parts[-1]}.turned"], perm=[1, 0]))
                parts[-1] += ".turned"
            first.append(helper.make_node("Unsqueeze", [parts[-1], "separate.axes"], [f"{parts[-1]}.one"]))
            parts[-1] += ".one"
        first.append(helper.make_node("Concat", parts, [tensor.name], axis=0))
        graph.initializer.remove(tensor)
    axes = helper.make_node("Constant", [], ["separate.axes"], value=numpy_helper.from_array(np.array([0], np.int64)))
    nodes = [axes, *first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def single(path):
    """The model whose tokens choose one expert, and weight it by its probability."""
    model = onnx.load(source)
    graph = model.graph
    sizes = {"single.count": [1], "single.repeats": [1, 1, 1], "single.choices": [-1, 1, WIDTH]}
    for name, size in sizes.items():
        graph.initializer.append(numpy_helper.from_array(np.array(size, np.int64), name))
    producers = {output: node for node in graph.node for output in node.output}
    constants = {node.output[0]: numpy_helper.to_array(node.attribute[0].t).tolist() for node in graph.node if node.op_type == "Constant"}
    constants |= {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer if len(tensor.dims) == 1 and tensor.dims[0] <= 3}
    changed = 0
    for node in graph.node:
        given = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "TopK":
            node.input[1], changed = "single.count", changed + 1
        elif node.op_type == "Expand" and given == [1, CHOICES, 1]:
            node.input[1], changed = "single.repeats", changed + 1
        elif node.op_type == "Reshape" and given == [-1, CHOICES, WIDTH]:
            node.input[1], changed = "single.choices", changed + 1
        elif node.op_type == "Div" and node.input[0] in producers and producers[node.input[0]].op_type == "TopK":
            node.op_type, changed = "Identity", changed + 1
            del node.input[1]
    assert changed == 4 * LAYERS, changed
    onnx.save(model, path)


def plan(model, ranks, experts, *flags, accumulate=1, **more):
    recipe = RECIPE | {"accumulate": accumulate} | more
    words = ["--threads", 1, "--ranks", ranks, "--expert-parallel", experts, *flags, "--json"]
    return json.loads(lab.compile_plan(model, "plan.moe", BATCH, SEQ, *words, recipe=recipe).stdout)


def train(ranks, accumulate):
    done = lab.run("moerun", "run", "plan.moe", "--ranks", ranks, "--inputs", f"inputs{accumulate}", "--steps", UPDATES,
                   "--log-format", "json", "--save-gradients", "gradients", "--save-state", "weights")  # fmt: skip
    return lab.records(done.stdout), lab.load("gradients"), lab.load("weights")


def steps():
    return json.loads(lab.run("moec", "inspect", "plan.moe", "--steps", "micro_step", "--json").stdout)["steps"]


separate("separate.onnx")
single("single.onnx")
for accumulate in (1, 2):
    shape = (UPDATES * accumulate, BATCH, SEQ)
    lab.save(f"inputs{accumulate}", {name: random.integers(0, 256, shape, dtype=np.int64) for name in ("input_ids", "labels")})

MESHES = ((2, 1, "off"), (2, 2, "off"), (2, 2, "full"), (4, 1, "optimizer"), (4, 2, "off"), (4, 2, "optimizer"), (4, 4, "off"),
          (4, 2, "full", "--recompute", "full"), (4, 4, "off", "--recompute", "full"), (8, 4, "full"), (8, 2, "optimizer"))  # fmt: skip
MESHES_OF_SINGLE = ((2, 1, "full"), (2, 2, "off"), (4, 4, "full"))
for model, accumulate in ((source, 1), ("separate.onnx", 2), ("single.onnx", 1)):
    kind = "stacked" if model == source else model.removesuffix(".onnx")
    one = plan(model, 1, 1, accumulate=accumulate)
    logs, gradients, weights = train(1, accumulate)
    names = {name for name in weights if name.startswith(TABLES)}
    report.check(len(names) == len(TABLES) * (EXPERTS if kind == "separate" else 1), f"{kind}: weights of experts {sorted(names)[:3]}")
    report.check(logs[0]["clip_factor"] < 1, f"{kind}: gradients are clipped")
    floor = 1e-7 * np.sqrt(sum(np.sum(value.astype(np.float64) ** 2) for value in gradients.values()))
    products = sum(step["flops"] for step in steps() if step["kind"].startswith("grouped_gemm"))
    of_experts = sum(weights[name].nbytes for name in names)
    for ranks, experts, fsdp, *more in MESHES if model != "single.onnx" else MESHES_OF_SINGLE:
        name = f"{kind}, {ranks // experts} x {experts}, fsdp {fsdp}{' '.join(['', *more])}"
        made = plan(model, ranks, experts, "--fsdp", fsdp, *more, accumulate=accumulate)
        log, grads, state = train(ranks, accumulate)
        near = all(abs(a[key] - b[key]) <= 1e-5 * abs(b[key]) for a, b in zip(log, logs) for key in ("loss", "gnorm", "clip_factor"))
        off = [lab.worst(grads, gradients, floor), lab.worst(state, weights, 1e-6)]
        report.check(len(log) == UPDATES and near and max(off) <= 1, f"{name}: gradients {off[0]:.3f}, weights {off[1]:.3f} of tolerance")
        if more:
            continue
        # All of the model, and the products of experts alone; a part of the state of experts, moments included.
        ratio = made["flops_per_micro_step"] * ranks / one["flops_per_micro_step"]
        share = sum(step["flops"] for step in steps() if step["kind"].startswith("grouped_gemm")) * ranks / products
        report.check(ratio <= 1.15 and 0.8 <= share <= 1.15, f"{name}: {ratio:.3f}/N of one rank's operations, {share:.3f}/N of the products of experts")
        if fsdp == "off":
            saved = one["memory"]["state"] + one["memory"]["gradients"] - made["memory"]["state"] - made["memory"]["gradients"]
            least = 4 * of_experts * (1 - 1 / experts)
            report.check(abs(saved - least) <= 1 << 14, f"{name}: {saved} bytes of state less on each rank, {least:.0f} of them of experts")
        kinds = [step["kind"] for step in steps()]
        if experts > 1:
            report.check(kinds.count("all_gather") >= LAYERS and kinds.count("reduce_scatter") >= LAYERS, f"{name}: tokens gathered, sums scattered")

# What four ranks have saved one rank goes on with, and the other way round: a checkpoint knows the initializers only.
np.save("stream.npy", random.integers(0, 256, 20000).astype(np.uint16))


def saved(folder, updates, ranks, *flags):
    made = plan("separate.onnx", ranks, min(ranks, 2), *flags)
    assert made["parameters"] > 0
    lab.run("moerun", "train", "plan.moe", "--ranks", ranks, "--data", "stream.npy", "--max-update", updates, "--save-dir", folder,
            "--valid-split", 0, "--log-format", "json", *(["--resume"] if os.path.isdir(folder) else []))  # fmt: skip
    (last,) = [name for name in os.listdir(folder) if name.endswith(f"{updates}.safetensors")]
    return lab.load(f"{folder}/{last}")


whole = saved("whole", 4, 1)
shapes = {f"val_342.{e}": (WIDTH, 2 * INNER) for e in range(EXPERTS)} | {f"val_351.{e}": (WIDTH, INNER) for e in range(EXPERTS)}
for name, before, after in (("four, then one", (4, "--fsdp", "full"), (1,)), ("one, then four", (1,), (4, "--fsdp", "off"))):
    half = saved(name, 2, *before)
    done = saved(name, 4, *after)
    report.check(half.keys() == done.keys() == whole.keys(), f"{name}: {len(half)} tensors of the names of one rank")
    report.check(all(half[key + slot].shape == shape for key, shape in shapes.items() for slot in ("", ".exp_avg")), f"{name}: a tensor for each expert")
    off = max(np.linalg.norm(done[key].astype(float) - value) / (1e-5 * np.linalg.norm(value) + 1e-6) for key, value in whole.items())
    report.check(off <= 1, f"{name}: {off:.3f} of tolerance from the run that did not stop")

# Weights that are exported are those of the ONNX file, wherever they lie: before training, and from a checkpoint of four.
for ranks in (1, 4):
    plan("separate.onnx", ranks, ranks, "--fsdp", "full" if ranks > 1 else "off")
    lab.run("moerun", "export", "plan.moe", "--ranks", ranks, "--output", f"initial{ranks}.safetensors")
    lab.run("moerun", "export", "plan.moe", "--ranks", ranks, "--save-dir", "four, then one", "--output", f"trained{ranks}.safetensors")
for name in ("initial", "trained"):
    files = [pathlib.Path(f"{name}{ranks}.safetensors").read_bytes() for ranks in (1, 4)]
    report.check(files[0] == files[1], f"{name}: exports of one rank and of four are the same {len(files[0])} bytes")
initial, trained = lab.load("initial4.safetensors"), lab.load("trained4.safetensors")
given = {t.name: numpy_helper.to_array(t) for t in onnx.load("separate.onnx").graph.initializer}
report.check(all(np.array_equal(initial[name], given[name]) for name in shapes), "initial: experts as in the ONNX file")
report.check(all(not np.array_equal(initial[name], trained[name]) for name in shapes), "trained: every expert has moved")
lab.run("moerun", "train", "plan.moe", "--ranks", 4, "--data", "stream.npy", "--max-update", 1, "--save-dir", "export", "--valid-split", 0,
        "--export", "by-train.safetensors")  # fmt: skip
plan("separate.onnx", 1, 1)
lab.run("moerun", "export", "plan.moe", "--save-dir", "export", "--output", "by-one.safetensors")
report.check(lab.digest("by-train.safetensors") == lab.digest("by-one.safetensors"), "what four ranks export when they end one rank exports from their checkpoint")

# bf16: products are rounded on other parts of a sum; the same plan gives the same bits again.
for ranks, experts in ((1, 1), (2, 1), (2, 2)):
    plan(source, ranks, experts, precision={"compute": "bf16"})
    log, *tensors = train(ranks, 1)
    if ranks == 1:
        logs, (gradients, weights) = log, tensors
        continue
    again = train(ranks, 1)
    equal = all(np.array_equal(a[key], b[key]) for a, b in zip(tensors, again[1:]) for key in a)
    report.check(equal and [line["loss"] for line in log] == [line["loss"] for line in again[0]], f"bf16, {ranks // experts} x {experts}: the same bits again")
    off = max(abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(log, logs))
    gap = max(np.linalg.norm(tensors[0][key].astype(float) - value) / np.linalg.norm(value) for key, value in gradients.items() if np.any(value))
    report.check(off <= 1e-4 and gap <= 1e-2, f"bf16, {ranks // experts} x {experts}: losses {off:.1e}, gradients {gap:.1e} from those of one rank")
report.finish()
