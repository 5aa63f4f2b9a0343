"""Models exported in float64, float16 or bfloat16 train as their float32 twins do, in coarse operations and float32 states.

The twins are made from the stored float32 models by giving every float in the file (weights, constants, casts, inputs,
results) another type. float64 rounds nothing: the losses of the float32 file are repeated to 1e-6, the sums of float32
being what they are. 16-bit weights are off by 2^-9 or 2^-12 of themselves and so is what is computed from them: a loss of
5.5 by less than 1 %, while a weight read in the wrong width gives numbers of another order.
"""
import json
import os
import sys

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

WIDTHS = {"float64": (TensorProto.DOUBLE, np.float64, 1e-6), "float16": (TensorProto.FLOAT16, np.float16, 1e-2),
          "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 1e-2)}  # fmt: skip


def tensor_as(tensor, kind, dtype):
    with np.errstate(over="ignore"):  # the lowest number of a mask
        array = numpy_helper.to_array(tensor)
        narrow = np.clip(array, ml_dtypes.finfo(dtype).min, ml_dtypes.finfo(dtype).max).astype(dtype)
    tensor.CopyFrom(helper.make_tensor(tensor.name, kind, narrow.shape, narrow.tobytes(), raw=True))


def graph_as(graph, kind, dtype):
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor_as(tensor, kind, dtype)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                graph_as(attribute.g, kind, dtype)
            elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                tensor_as(attribute.t, kind, dtype)
            elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = kind


def train(model, folder, bind):
    """(losses of three updates, what moec says, coarse operations that it finds)"""
    flags = [model, "--recipe", folder / "recipe.yaml", *bind]
    said = lab.run("moec", "compile", *flags, "-o", "plan.moe").stderr
    found = json.loads(lab.run("moec", "inspect", *flags, "--json").stdout)["blocks"]
    done = lab.run("moerun", "run", "plan.moe", "--inputs", folder / "inputs.safetensors", "--steps", 3, "--poison",
                   "--log-format", "json", "--save-state", "state").stdout  # fmt: skip
    kinds = {value.dtype for value in lab.load("state").values() if value.dtype.kind == "f"}
    blocks = [(block["kind"], block["form"]) for block in found]
    return np.array([line["loss"] for line in lab.records(done)]), said, blocks, kinds


report = lab.Report()
for name, widths in {"gpt2": ("float64", "float16"), "llama": ("bfloat16",), "mixtral": ("float16", "bfloat16")}.items():
    folder = lab.ROOT / "test/data/onnx" / name
    bind = ["--bind", "batch=4", "--bind", "seq=32"] if json.loads((folder / "golden.json").read_text())["symbolic"] else []
    losses, said, blocks, _ = train(folder / "model.onnx", folder, bind)
    report.check("float64" not in said, f"{name}: no word about float64")
    for width in widths:
        kind, dtype, tolerance = WIDTHS[width]
        model = onnx.load(folder / "model.onnx")
        graph_as(model.graph, kind, dtype)
        onnx.save(model, "model.onnx")
        others, said, found, kinds = train("model.onnx", folder, bind)
        apart = np.max(np.abs(others - losses) / losses) if len(others) == len(losses) == 3 else np.inf
        report.check(apart <= tolerance, f"{name} in {width}: losses differ by {apart:.1e}")
        report.check(("float64" in said) == (width == "float64"), f"{name} in {width}: a warning that float64 is computed in float32")
        report.check(found == blocks, f"{name} in {width}: {sum(block in found for block in blocks)} of {len(blocks)} blocks found")
        report.check(kinds == {np.dtype("f4")}, f"{name} in {width}: states are {kinds}")
report.finish()
