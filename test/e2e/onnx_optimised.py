"""Exports that ONNX Runtime optimised train as PyTorch trains the models.

ONNX Runtime fuses what it knows in the files of `test/data/onnx` into operators of its own (domain com.microsoft) and writes
them anew. Losses of ten updates are compared with those that PyTorch computed from the model in float64, to 1e-5: all weights
move in between. With words as arguments: only models whose names begin so.
"""
import collections
import json
import os
import pathlib
import re
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import exports
import lab

MODELS = ["gpt2", "llama", "mixtral", "opt", "bert", "bart", "vit"]
report, found = lab.Report(), collections.Counter()


def optimised(source):
    """Writes the optimised form of a model as `optimised.onnx`; the numbers of its operators outside of the standard."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = "optimised.onnx"
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    model = onnx.load("optimised.onnx")
    return model, collections.Counter(node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx"))


def weights_of(export):
    """{name: array} of what is trained in the original."""
    trained = {name.removeprefix("grad.") for name in export.tensors}
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(export.model).graph.initializer if tensor.name in trained}


def policy(model, weights):
    """What a user says about the new file: which tensors are no weights, and which are tied; and which weights are lost.

    It transposes weights in advance, under names of its own: those are weights too, and tied where the original is left. Masks
    and tables that it computed are not. What holds one number is a constant unless it is named."""
    turned = {array.T.tobytes(): name for name, array in weights.items() if array.ndim == 2}
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    frozen, ties, lost = [], [], weights.keys() - arrays.keys()
    for name, array in arrays.items():
        if name in weights or array.dtype != np.float32 or array.size == 1:
            continue
        original = turned.get(array.tobytes())
        if original is None:
            frozen.append(name)
        elif original in arrays:
            ties.append([original, f"{name}^T"])
        else:
            lost -= {original}
    return frozen, ties, lost


for export in exports.all_of(sys.argv[1:] or MODELS):
    for data in export.model.parent.glob("*.data"):
        shutil.copy(data, ".")
    model, fused = optimised(str(export.model))
    found += fused
    frozen, ties, lost = policy(model, weights_of(export))
    # Rows of tables of positions may have been computed in advance: then only the first loss is that of the original.
    count = 1 if lost else 10
    export.recipe = re.sub(r"freeze: \[.*?\]", lambda _: f"freeze: {json.dumps(frozen)}", export.recipe)
    export.recipe = re.sub(r"^tie:.*", "", export.recipe, flags=re.M) + f"\ntie: {json.dumps(ties)}"
    export.model = pathlib.Path("optimised.onnx")
    for kind, wanted in export.runs.items():
        export.compile(kind, "plan.moe")
        losses, exact = export.train("plan.moe")[:count], np.array(wanted["float64"])[:count]
        near = losses.shape == exact.shape and np.all(np.abs(losses - exact) <= 1e-5 * np.abs(exact))
        report.check(near, f"{export.name} {kind}: {count} losses with {sum(fused.values())} fused operators" + ("" if near else f" {losses} expected {exact}"))
kinds = {"BiasGelu", "FastGelu", "FusedGemm", "FusedMatMul", "QuickGelu", "SkipLayerNormalization"}
report.check(sys.argv[1:] or kinds <= found.keys(), f"fused: {dict(found)}")
report.finish()
