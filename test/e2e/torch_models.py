"""Transformers that PyTorch exported train as PyTorch trains them.

`test/data/onnx/*` holds exports of public model code, ten batches each, and what PyTorch computed from them in float64:
outputs and gradients of update 0, losses of ten updates with SGD and AdamW. Tolerance: 1e-5 of the norm of a tensor, ten
times what PyTorch's own float32 is off, plus 1e-7 of the norm of all gradients for those that are zero in exact
arithmetic (biases of keys).
"""
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()


def recipe(folder, hyperparameters):
    """The model's recipe with the optimizer of one run in place of its own."""
    lines = [line for line in (folder / "recipe.yaml").read_text().splitlines() if not line.startswith("optimizer")]
    optimizer = {key: value for key, value in hyperparameters.items() if key != "clip_norm"}
    return "\n".join(lines + [f"optimizer: {json.dumps(optimizer)}", f"clip_norm: {hyperparameters['clip_norm']}", "seed: 1"])


def wrong_by(got, want, floor):
    """Distance in tolerances."""
    if got is None or got.shape != want.shape or not np.isfinite(got).all():
        return np.inf
    want = want.astype(np.float64)
    return np.linalg.norm(got - want) / (1e-5 * np.linalg.norm(want) + floor)


for folder in sorted(path.parent for path in (lab.ROOT / "test/data/onnx").glob("*/model.onnx")):
    golden, facts = lab.load(folder / "golden.safetensors"), json.loads((folder / "golden.json").read_text())
    for kind, wanted in facts["runs"].items():
        name = f"{folder.name} {kind}"
        with open("recipe.yaml", "w") as file:
            file.write(recipe(folder, wanted["hyperparameters"]))
        bind = ["--bind", "batch=4", "--bind", "seq=32"] if facts["symbolic"] else []
        lab.run("moec", "compile", folder / "model.onnx", "--recipe", "recipe.yaml", *bind, "-o", "plan.moe")
        done = lab.run("moerun", "run", "plan.moe", "--inputs", folder / "inputs.safetensors", "--steps", 10,
                       "--log-format", "json", "--save-gradients", "gradients", "--save-outputs", "outputs")  # fmt: skip
        losses = np.array([line["loss"] for line in lab.records(done.stdout)][:10], dtype=np.float64)
        exact = np.array(wanted["float64"])
        report.check(losses.shape == exact.shape and np.all(np.abs(losses - exact) <= 1e-5 * np.abs(exact)), f"{name}: losses")
        outputs, gradients = lab.load("outputs"), lab.load("gradients")
        expected = {key[5:] for key in golden if key.startswith("grad.")}
        report.check(gradients.keys() == expected, f"{name}: gradients of {len(expected)} weights")
        floor = 1e-7 * facts["gradient_norm"]
        errors = {key: wrong_by(gradients.get(key[5:]), golden[key], floor) for key in golden if key.startswith("grad.")}
        errors |= {key: wrong_by(outputs.get(key[7:]), golden[key], floor) for key in golden if key.startswith("output.")}
        worst = max(errors, key=errors.get)
        report.check(errors[worst] <= 1, f"{name}: worst of {len(errors)} tensors {worst} by {errors[worst]:.2f} of the tolerance")
report.finish()
