#!/usr/bin/env python3
"""How far PyTorch's own bfloat16 is from float64, for models of another folder of recordings.

    record_bfloat16.py SCRIPTS TARGET          needs torch, transformers

SCRIPTS holds `export.py` and `zoo.py`, which recorded the models of one file `model.onnx` each. Every model is built again
as they do; its float64 losses must be those of TARGET/NAME/golden.json. Writes TARGET/bfloat16.json: what `record.py` calls
`bfloat16_apart`, by model and optimizer, and the losses of the model itself.
"""
import copy
import json
import pathlib
import sys

import numpy as np
import torch
from torch import nn

scripts, target = map(pathlib.Path, sys.argv[1:3])
sys.path.insert(0, str(scripts))
import export
import record
import zoo


def train(step, batches, kind):
    """As `export.train`, with the model and its loss under autocast."""
    step, chosen = copy.deepcopy(step), export.OPTIMIZERS[kind]
    optimizer, losses = export.optimizer(kind, step.parameters()), []
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = step(batch)
        loss.backward()
        if chosen["clip_norm"]:
            nn.utils.clip_grad_norm_(step.parameters(), chosen["clip_norm"])
        optimizer.step()
        losses.append(loss.item())
    return losses


found = {}
for entry in zoo.ZOO:
    torch.manual_seed(0)
    step, batches = export.Step(entry), export.batches(entry)
    step.model.train()
    for module in step.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    known = json.loads((target / entry.name / "golden.json").read_text())["runs"]
    found[entry.name] = {}
    for kind in export.OPTIMIZERS:
        exact = export.train(step, batches, kind, torch.float64)
        if not np.allclose(exact, known[kind]["float64"], rtol=1e-9):
            sys.exit(f"{entry.name} {kind}: not the model that was recorded: {exact} instead of {known[kind]['float64']}")

        def losses(each, dtype, kind=kind, batches=batches):
            return train(each, batches, kind) if dtype == torch.bfloat16 else export.train(each, batches, kind, dtype)

        distance = record.apart(step, losses)
        found[entry.name][kind] = {"losses": losses(step, torch.bfloat16), "bfloat16_apart": distance}
        alone = np.sqrt(np.mean(np.subtract(found[entry.name][kind]["losses"], exact) ** 2))
        print(f"{entry.name} {kind}: off by {distance:.1e}, the model itself by {alone:.1e}", flush=True)
(target / "bfloat16.json").write_text(json.dumps(found, indent=1) + "\n")
