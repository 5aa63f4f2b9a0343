"""Compiled plans equal what fairseq's own MoE trainer recorded in float64: nine configurations, ten updates each.

Fairseq's world size is the number of routing groups here, its ranks' batches are rows of one batch. Tolerances: loss,
gradient norm and learning rate of every update 1e-5 relative (float32 rounding of sums over a few hundred tokens is about
1e-7; a wrong constant in the gate loss or the gradient scale is above 1e-3); every gradient of the first update 1e-5 of
its norm, plus 1e-7 of the norm of all gradients for those that are sums of cancelling terms.
"""
import json
import os
import re
import shlex
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

DATA = lab.ROOT / "test/data/fairseq"
# Flags of the trainer that describe the model.
MODEL = re.compile(r"decoder-(?!input)|moe-(?!.*capacity.*train)|share-decoder|.*dropout$|tokens-per-sample|use-moe-pad-mask")


def flags(command):
    """fairseq's command line as {flag: value}, '' for a switch."""
    found, name = {}, None
    for word in shlex.split(command):
        if word.startswith("--"):
            name = word[2:]
            found[name] = ""
        else:
            found[name] = word
    return found


def stack_experts(tensors):
    """The preset keeps the experts of a layer in one tensor: `….experts.3.fc1.weight` is row 3 of `….experts.fc1.weight`."""
    stacked, rows = {}, {}
    for name, array in tensors.items():
        match = re.fullmatch(r"(.*\.experts\.)(\d+)\.(.*)", name)
        if match:
            rows.setdefault(match[1] + match[3], []).append((int(match[2]), array))
        else:
            stacked[name] = array
    for name, pairs in rows.items():
        stacked[name] = np.stack([array for _, array in sorted(pairs, key=lambda pair: pair[0])])
    return stacked


def recipe(given, world):
    schedule = {"name": given.get("lr-scheduler", "fixed"), "warmup_updates": int(given.get("warmup-updates", 0))}
    if "total-num-update" in given:
        schedule["total_updates"] = int(given["total-num-update"])
        schedule["power"] = float(given.get("power", 1))
    return {
        "optimizer": {
            "name": "fairseq_adam",
            "lr": float(given["lr"]),
            "betas": json.loads(given.get("adam-betas", "(0.9, 0.999)").replace("(", "[").replace(")", "]")),
            "eps": 1e-8,
            "weight_decay": float(given.get("weight-decay", 0)),
        },
        "schedule": schedule,
        "clip_norm": float(given.get("clip-norm", 0)),
        "accumulate": int(given.get("update-freq", 1)),
        "routing_groups": world,
    }


def inputs(folder, accumulate):
    """The recorded batches in order of update and micro-batch; the rows of all ranks, rank by rank."""
    ranks = [lab.load(path) for path in sorted(folder.glob("batches*.safetensors"))]
    updates = max(int(name.split(".")[0].removeprefix("attempt")) for name in ranks[0]) + 1

    def gather(part):
        return np.stack([
            np.concatenate([rank[f"attempt{update}.micro{micro}.{part}"] for rank in ranks])
            for update in range(updates)
            for micro in range(accumulate)
        ]).astype(np.int64)  # fmt: skip

    return updates, {"input_ids": gather("src"), "labels": gather("tgt")}


def compare(report, folder):
    name, config = folder.name, json.loads((folder / "config.json").read_text())
    given, world = flags(config["args"]), config["world"]
    settings = recipe(given, world)
    updates, batches = inputs(folder, settings["accumulate"])
    initial = stack_experts(lab.load(DATA / config["init"]))
    lab.save(f"{name}.inputs", batches)
    lab.save(f"{name}.weights", {key: value.astype(np.float32) for key, value in initial.items()})
    vocabulary = initial["decoder.embed_tokens.weight"].shape[0]
    shape = [word for key, value in given.items() if MODEL.match(key) for word in (f"--{key}", value) if word]
    lab.run("moec", "model", "transformer_lm_gpt", *shape, "--vocab-size", vocabulary, "-o", f"{name}.onnx")
    _, batch, seq = batches["labels"].shape
    lab.compile_plan(f"{name}.onnx", f"{name}.moe", batch, seq, recipe=settings)
    output = lab.run("moerun", "run", f"{name}.moe", "--init-state", f"{name}.weights", "--inputs", f"{name}.inputs",
                     "--steps", updates, "--log-format", "json", "--save-gradients", f"{name}.gradients").stdout  # fmt: skip

    exact = json.loads((folder / "exact-f64.json").read_text())["updates"]
    ours = lab.records(output)
    report.check(len(ours) == len(exact) == updates, f"{name}: {len(ours)} updates")
    wanted = {
        "loss": [sum(part["loss"] for part in update["logging_outputs"]) / update["sample_size"] for update in exact],
        "gnorm": [update["gnorm"] for update in exact],
        "lr": [update["lr_used"] for update in exact],
    }
    for key, values in wanted.items():
        got, want = np.array([line[key] for line in ours]), np.array(values)
        error = np.max(np.abs(got - want) / np.maximum(np.abs(want), 1e-9))
        report.check(error <= 1e-5, f"{name}: {key} differs by {error:.1e} of 1e-5")

    gradients, want = lab.load(f"{name}.gradients"), stack_experts(lab.load(folder / "grads1-f64.safetensors"))
    report.check(gradients.keys() == want.keys(), f"{name}: {len(want)} gradients {sorted(gradients.keys() ^ want.keys())}")
    floor = 1e-7 * np.sqrt(sum(np.sum(value**2) for value in want.values()))
    part, worst = max((np.linalg.norm(gradients[key] - value) / (1e-5 * np.linalg.norm(value) + floor), key)
                      for key, value in want.items() if key in gradients)  # fmt: skip
    report.check(part <= 1, f"{name}: worst gradient {worst} at {part:.2f} of its tolerance")


report = lab.Report()
folders = sorted(path.parent for path in DATA.glob("*/config.json"))
report.check(len(folders) == 9, f"{len(folders)} configurations")
for golden in folders:
    compare(report, golden)
report.finish()
