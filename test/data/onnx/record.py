#!/usr/bin/env python3
"""Exports architectures of `transformers` to ONNX and records what PyTorch computes with them.

    record.py FOLDER [--form optimised|raw|torchscript] [NAME ...]      needs torch, transformers, onnx, onnxscript, safetensors

Writes FOLDER/NAME/FORM.onnx for each form, one `inputs.safetensors` (ten batches), one `golden.safetensors` (float64
gradients of batch 0 under PyTorch's names, the logits and the loss) and `golden.json`: losses of ten updates with SGD and
AdamW in float64, the same in float32 and in bfloat16, and per form which initializer is which parameter.

bfloat16 means `torch.autocast(bfloat16)` over float32 weights: what PyTorch's users train with, and what `precision:
{compute: bf16}` is to be compared with. How far it is from float64 is a draw of rounding errors; `bfloat16_apart` is the
root mean square over the ten losses of the model and of those of seven neighbours, whose weights differ by 0.1 %.
"""
import argparse
import copy
import json
import pathlib

import architectures
import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import nn

UPDATES, NEIGHBOURS = 10, 7
HYPERPARAMETERS = {
    "sgd": {"name": "sgd", "lr": 0.1, "clip_norm": 0.0},
    "adamw": {"name": "adamw", "lr": 3e-3, "betas": [0.9, 0.95], "eps": 1e-7, "weight_decay": 0.1, "clip_norm": 1.0},
}


def loss_of(logits, labels):
    """Mean over the labels that are not -100."""
    return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=-100)


def forward(model, batch, dtype):
    """Loss and logits. `model` is of `dtype`; bfloat16 means a model in float32 that computes in bfloat16."""
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    values = [batch[name].to(wide) if batch[name].is_floating_point() else batch[name] for name in model.inputs]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = model(*values)
    return loss_of(logits.float() if dtype == torch.bfloat16 else logits, batch["labels"]), logits


def widened(model, dtype):
    return copy.deepcopy(model).to(torch.float32 if dtype == torch.bfloat16 else dtype)


def train(model, batches, kind, dtype):
    """Losses of the updates, each before its own update."""
    model, chosen = widened(model, dtype), dict(HYPERPARAMETERS[kind])
    clip, name = chosen.pop("clip_norm"), chosen.pop("name")
    optimizer = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]([weight for weight in model.parameters() if weight.requires_grad], **chosen)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss, _ = forward(model, batch, dtype)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def neighbours(model):
    """The model itself, and others near to it."""
    yield model
    random = torch.Generator().manual_seed(99)
    for _ in range(NEIGHBOURS):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for weight in other.parameters():
                weight.mul_(1 + 1e-3 * torch.randn(weight.shape, generator=random))
        yield other


def apart(model, losses):
    """RMS distance of bfloat16 from float64 over a model and its neighbours. `losses`: (model, dtype) to losses."""
    pairs = [(losses(each, torch.bfloat16), losses(each, torch.float64)) for each in neighbours(model)]
    return float(np.sqrt(np.mean([np.subtract(*pair) ** 2 for pair in pairs])))


def dimensions(name):
    """The symbolic dimensions of an input."""
    if name in ("pixel_values", "input_features"):
        return {0: "batch"}
    return {0: "batch", 1: "target" if name.startswith("decoder") else "seq"}


def export(entry, model, batch, form, path):
    values, names = tuple(batch[name] for name in entry.inputs), list(entry.inputs)
    model = copy.deepcopy(model).eval()
    common = {"input_names": names, "output_names": ["logits"]}
    if form == "torchscript":
        axes = {name: dimensions(name) for name in names} if entry.symbolic else {}
        torch.onnx.export(model, values, path, dynamo=False, opset_version=17, do_constant_folding=False, dynamic_axes=axes, **common)
    else:
        shapes = (tuple(dimensions(name) for name in names),) if entry.symbolic else None
        torch.onnx.export(model, values, dynamo=True, opset_version=entry.opset, dynamic_shapes=shapes,
                          optimize=form == "optimised", **common).save(path, external_data=False)  # fmt: skip
    strip(path)


def strip(path):
    """Removes what is no part of the model: stack traces name files of the machine that exported."""
    model = onnx.load(path)
    for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, path)


def initializers(path, parameters):
    """Which initializer is which parameter, by name and else by equal numbers.

    `parameters`: {initializer: [parameter, transposed]}; `ties`: lists of initializers that are one parameter, `^T` where a
    later one is the transpose of the first; `frozen`: other float tensors; `missing`: parameters that are no initializer."""
    graph, kinds = onnx.load(path).graph, onnx.TensorProto
    floats = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer
              if i.data_type in (kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE)}  # fmt: skip
    facts, known = {"parameters": {}, "ties": [], "frozen": [], "missing": []}, set()
    for name, parameter in parameters:
        want = parameter.detach().numpy()
        hits = [(key, turned) for key, value in floats.items() for turned in (False, True)
                if value.ndim >= 1 and (value.ndim == 2 or not turned) and np.array_equal(value.T if turned else value, want)]  # fmt: skip
        hits.sort(key=lambda hit: (not hit[0].endswith(name), hit[1]))
        if not hits:
            facts["missing"].append(name)
            continue
        facts["parameters"][hits[0][0]] = [name, hits[0][1]]
        known |= {key for key, _ in hits}
        if len(hits) > 1:
            facts["ties"].append([key + ("^T" if turned != hits[0][1] else "") for key, turned in hits])
    facts["frozen"] = [key for key, value in floats.items() if value.size > 1 and key not in known]
    return facts


def record(entry, folder, forms):
    torch.manual_seed(0)
    model, random = entry.build(), torch.Generator().manual_seed(1234)
    model.train()
    batches = [entry.batch(random) for _ in range(UPDATES)]
    exported = {}
    for form in forms or entry.forms:
        path = str(folder / f"{form}.onnx")
        export(entry, model, batches[0], form, path)
        exported[form] = initializers(path, model.named_parameters())
    # What an exporter folded into another number cannot be trained as PyTorch would train it.
    folded = {name for said in exported.values() for name in said["missing"]}
    for name, weight in model.named_parameters():
        weight.requires_grad_(name not in folded)
    wide = widened(model, torch.float64)
    loss, logits = forward(wide, batches[0], torch.float64)
    loss.backward()
    gradients = {name: weight.grad for name, weight in wide.named_parameters() if weight.grad is not None}
    facts = {"model": entry.name, "torch": torch.__version__, "opset": entry.opset, "forms": exported, "updates": {},
             "gradient_norm": sum(g.norm().item() ** 2 for g in gradients.values()) ** 0.5}  # fmt: skip
    if entry.symbolic:
        sizes = [batches[0][name].shape for name in entry.inputs]
        facts["bind"] = {dimension: size[axis] for name, size in zip(entry.inputs, sizes) for axis, dimension in dimensions(name).items()}
    for kind, chosen in HYPERPARAMETERS.items():
        runs = {str(dtype).removeprefix("torch."): train(model, batches, kind, dtype)
                for dtype in (torch.float64, torch.float32, torch.bfloat16)}  # fmt: skip
        distance = apart(model, lambda each, dtype: train(each, batches, kind, dtype))
        facts["updates"][kind] = {"hyperparameters": chosen, "losses": runs, "bfloat16_apart": distance}
    golden = {name: gradient.float().contiguous() for name, gradient in gradients.items()}
    save_file(golden | {"output.logits": logits.detach().float().contiguous()}, folder / "golden.safetensors")
    save_file({name: torch.stack([batch[name] for batch in batches]) for name in [*entry.inputs, "labels"]}, folder / "inputs.safetensors")
    (folder / "golden.json").write_text(json.dumps(facts, indent=1))
    print(f"{entry.name}: loss {loss.item():.5f}, bfloat16 off by", {kind: f"{run['bfloat16_apart']:.1e}" for kind, run in facts["updates"].items()},
          f"folded: {sorted(folded)}", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--form", action="append", default=[])
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    for entry in architectures.ARCHITECTURES:
        if not chosen.names or entry.name in chosen.names:
            (chosen.folder / entry.name).mkdir(parents=True, exist_ok=True)
            record(entry, chosen.folder / entry.name, chosen.form)


if __name__ == "__main__":
    main()
