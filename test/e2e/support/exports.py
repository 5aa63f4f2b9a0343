"""The models of `test/data/onnx` and what PyTorch computed from them, whichever script recorded it."""
import dataclasses
import json
import os
import pathlib

import lab
import numpy as np

FOLDER = pathlib.Path(os.environ.get("MOEC_EXPORTS", lab.ROOT / "test/data/onnx"))
LOSS = "loss:\n  cross_entropy: {logits: logits, labels: labels, ignore_index: -100}"


@dataclasses.dataclass
class Export:
    name: str
    model: pathlib.Path
    inputs: pathlib.Path  # ten batches
    recipe: str  # without the optimizer
    bind: dict  # sizes of symbolic dimensions
    tensors: dict  # of update 0, in float64: `grad.INITIALIZER`, `output.NAME`
    gradient_norm: float  # of all gradients
    runs: dict  # {"sgd": {"hyperparameters", "float64": losses, "bfloat16_apart"}, "adamw": …}

    def compile(self, kind, plan, precision="f32", *flags):
        """Compiles the model with the optimizer of one run; what the compiler prints."""
        hyperparameters = dict(self.runs[kind]["hyperparameters"])
        clip = hyperparameters.pop("clip_norm")
        lines = [self.recipe, f"optimizer: {json.dumps(hyperparameters)}", f"clip_norm: {clip}", "seed: 1",
                 f"precision: {{compute: {precision}}}"]  # fmt: skip
        pathlib.Path("recipe.yaml").write_text("\n".join(lines))
        bind = [word for name, size in self.bind.items() for word in ("--bind", f"{name}={size}")]
        return lab.run("moec", "compile", self.model, "--recipe", "recipe.yaml", *bind, *flags, "-o", plan).stdout

    def train(self, plan, *flags):
        """Losses of ten updates."""
        done = lab.run("moerun", "run", plan, "--inputs", self.inputs, "--steps", 10, "--log-format", "json", *flags)
        return np.array([line["loss"] for line in lab.records(done.stdout)][:10], dtype=np.float64)


def single(folder):
    """A folder of one model, with its recipe."""
    facts, tensors = json.loads((folder / "golden.json").read_text()), lab.load(folder / "golden.safetensors")
    recipe = "\n".join(line for line in (folder / "recipe.yaml").read_text().splitlines() if not line.startswith("optimizer"))
    tensors = {key: value for key, value in tensors.items() if key.startswith(("grad.", "output."))}
    bind = {"batch": 4, "seq": 32} if facts["symbolic"] else {}
    narrow = json.loads((folder.parent / "bfloat16.json").read_text())[folder.name]
    runs = {kind: run | {"bfloat16_apart": narrow[kind]["bfloat16_apart"]} for kind, run in facts["runs"].items()}
    yield Export(folder.name, folder / "model.onnx", folder / "inputs.safetensors", recipe, bind, tensors, facts["gradient_norm"], runs)


def several(folder):
    """A folder of `record.py`: several exports of one model. Half of them run with one optimizer, half with the other."""
    facts, golden = json.loads((folder / "golden.json").read_text()), lab.load(folder / "golden.safetensors")
    runs = {kind: run | run["losses"] for kind, run in facts["updates"].items()}
    for number, (form, said) in enumerate(facts["forms"].items()):
        tensors = {"output.logits": golden["output.logits"]}
        for initializer, (parameter, transposed) in said["parameters"].items():
            if parameter in golden:
                tensors[f"grad.{initializer}"] = golden[parameter].T if transposed else golden[parameter]
        frozen = json.dumps(said["frozen"] + [key for key, (parameter, _) in said["parameters"].items() if parameter not in golden])
        ties = json.dumps([[first, other] for first, *others in said["ties"] for other in others])
        recipe = f"{LOSS}\nparameters: {{default: train, freeze: {frozen}}}\ntie: {ties}"
        yield Export(f"{folder.name} {form}", folder / f"{form}.onnx", folder / "inputs.safetensors", recipe, facts.get("bind", {}), tensors,
                     facts["gradient_norm"], dict([list(runs.items())[number % len(runs)]]))  # fmt: skip


def all_of(words=()):
    """Every export whose name begins with one of the words, or every one."""
    for folder in sorted(path.parent for path in FOLDER.glob("*/golden.json")):
        for export in (single if (folder / "model.onnx").exists() else several)(folder):
            if not words or export.name.startswith(tuple(words)):
                yield export
