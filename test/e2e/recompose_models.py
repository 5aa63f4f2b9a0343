"""`recompose` finds the attention, norms and GELUs of every model that PyTorch exported, and changes no loss.

Of each model in `test/data/onnx`: how many coarse operations its forward program has after the phase, which of its
attentions are causal and which keep a mask as a bias; ten losses with and without the phase, equal to 1e-6 (both are
float32 runs of one formula in two orders of operations; ten updates amplify 6e-8 by less than ten).
"""
import json
import os
import re
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

# name: attentions, of them causal, with a bias; layer norms, rms norms, GELUs. A mask made of an input by the lowest
# number stays a bias (BART, whose encoder and cross attention see one): it means something for a sequence of padding.
FOUND = {
    "bart": (6, 2, 4, 12, 0, 4),
    "capacity-moe": (2, 2, 0, 5, 0, 0),
    "gpt-torchscript": (2, 2, 0, 5, 0, 2),
    "gpt2": (3, 3, 0, 7, 0, 3),
    "gpt2-loss": (3, 3, 0, 7, 0, 3),
    "llama": (3, 3, 0, 0, 7, 0),
    "mixtral": (2, 2, 0, 0, 5, 0),
    "opt": (2, 2, 0, 5, 0, 0),
}

# name: forms of attention, of norms, of feed-forward networks that `moec inspect` names, and how many rotations.
NAMED = {
    "bart": ({"biased", "causal", "biased, cross"}, {"layer"}, {"gelu"}, 0),
    "llama": ({"causal, grouped-query"}, {"rms"}, {"gated silu"}, 6),
    "opt": ({"causal"}, {"layer"}, {"relu"}, 0),
    "gpt-torchscript": ({"causal"}, {"layer"}, {"gelu"}, 0),
}

# name: layers of experts that `moec inspect` names, as form and number of experts.
EXPERTS = {"capacity-moe": [("with capacity", 4)] * 2, "mixtral": [("dropless", 4)] * 2}
# name: what these have, in two layers of four, weights and biases; the gates are not theirs.
IN_EXPERTS = {"capacity-moe": 2 * 4 * (64 * 128 + 128 + 128 * 64), "mixtral": 2 * 4 * (192 * 64 + 64 * 96)}

report = lab.Report()
for folder in sorted(path.parent for path in (lab.ROOT / "test/data/onnx").glob("*/model.onnx")):
    facts = json.loads((folder / "golden.json").read_text())
    bind = ["--bind", "batch=4", "--bind", "seq=32"] if facts["symbolic"] else []
    flags = [folder / "model.onnx", "--recipe", folder / "recipe.yaml", *bind]
    module = lab.run("moec", "compile", *flags, "--emit", "recompose").stdout
    forward = module[module.index("func.func @forward") :]
    forward = forward[: forward.index("\n  }")]
    attentions = re.findall(r"moe\.attention .*", forward)
    count = lambda name: len(re.findall(rf"moe\.{name} ", forward))
    found = (len(attentions), sum("causal" in line for line in attentions), sum(" bias " in line for line in attentions),
             count("layer_norm"), count("rms_norm"), count("gelu"))  # fmt: skip
    if folder.name in FOUND:
        report.check(found == FOUND[folder.name], f"{folder.name}: {found} found, {FOUND[folder.name]} expected")
    if folder.name in (*NAMED, *EXPERTS):
        inspected = lab.run("moec", "inspect", folder / "model.onnx", "--recipe", folder / "recipe.yaml", *bind, "--json")
        described = json.loads(inspected.stdout)
        blocks = described["blocks"]
        of_experts = described["counts"]["in_experts"]
        report.check(of_experts == IN_EXPERTS.get(folder.name, 0), f"{folder.name}: {of_experts} elements in experts")
        experts = [(block["form"], block["experts"]) for block in blocks if block["kind"] == "experts"]
        report.check(experts == EXPERTS.get(folder.name, []), f"{folder.name}: experts {experts}")
    if folder.name in NAMED:
        forms = lambda kind: [block["form"] for block in blocks if block["kind"] == kind]
        named = (*(set(forms(kind)) for kind in ("attention", "norm", "feed-forward")), len(forms("rotary positions")))
        report.check(named == NAMED[folder.name], f"{folder.name}: {named} named, {NAMED[folder.name]} expected")
        report.check(not any("why" in block for block in blocks), f"{folder.name}: nothing stays fine")
        layers = {block["layer"] for block in blocks if block["kind"] == "attention"}
        report.check(layers == set(range(len(layers))), f"{folder.name}: attention in layers {layers}")
    losses = []
    for more in ([], ["--no-recompose"]):
        lab.run("moec", "compile", *flags, *more, "-o", "plan.moe")
        done = lab.run("moerun", "run", "plan.moe", "--inputs", folder / "inputs.safetensors", "--steps", 10, "--log-format", "json")
        losses.append(np.array([line["loss"] for line in lab.records(done.stdout)][:10], dtype=np.float64))
    apart = np.max(np.abs(losses[0] - losses[1]) / np.abs(losses[1]))
    report.check(len(losses[0]) == 10 and apart <= 1e-6, f"{folder.name}: losses without recompose differ by {apart:.1e}")
report.finish()
