"""What fairseq's MoE trainer recorded (test/data/fairseq) as files and flags of moec and moerun."""
import json
import re
import shlex

import numpy as np

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


class Golden:
    """One configuration: its recipe, its inputs as `moerun run` takes them, and what float64 made of them.

    Attributes: `given` (fairseq's flags), `recipe`, `updates`, `inputs`, `initial` (weights by ONNX name), `exact` (per
    update, as recorded), `gradients` (of the first update, before clipping, by ONNX name)."""

    def __init__(self, name):
        folder = DATA / name
        config = json.loads((folder / "config.json").read_text())
        self.name, self.given = name, flags(config["args"])
        self.recipe = recipe(self.given, config["world"])
        self.updates, self.inputs = inputs(folder, self.recipe["accumulate"])
        self.initial = stack_experts(lab.load(DATA / config["init"]))
        self.exact = json.loads((folder / "exact-f64.json").read_text())["updates"]
        self.gradients = stack_experts(lab.load(folder / "grads1-f64.safetensors"))
        self.vocabulary = self.initial["decoder.embed_tokens.weight"].shape[0]

    def prepare(self):
        """Writes NAME.onnx, NAME.inputs and NAME.weights."""
        lab.save(f"{self.name}.inputs", self.inputs)
        lab.save(f"{self.name}.weights", {key: value.astype(np.float32) for key, value in self.initial.items()})
        shape = [word for key, value in self.given.items() if MODEL.match(key) for word in (f"--{key}", value) if word]
        lab.run("moec", "model", "transformer_lm_gpt", *shape, "--vocab-size", self.vocabulary, "-o", f"{self.name}.onnx")

    def run(self, plan, updates, *compile_words, recipe=None):
        """Compiles the model to PLAN.moe and runs it: the records, and the gradients of the first update."""
        _, batch, seq = self.inputs["labels"].shape
        lab.compile_plan(f"{self.name}.onnx", f"{plan}.moe", batch, seq, *compile_words, recipe=recipe or self.recipe)
        output = lab.run("moerun", "run", f"{plan}.moe", "--init-state", f"{self.name}.weights", "--inputs",
                         f"{self.name}.inputs", "--steps", updates, "--log-format", "json", "--save-gradients",
                         f"{plan}.gradients").stdout  # fmt: skip
        return lab.records(output), lab.load(f"{plan}.gradients")

    def losses(self):
        """The minimised scalar of each update, nats."""
        return [sum(part["loss"] for part in update["logging_outputs"]) / update["sample_size"] for update in self.exact]
