"""Integers of 8, 16 and 32 bits, signed or not, overflow in compiled programs and in the interpreter as NumPy's of the same type do,
as inputs, as constants and as tables of a file; a mask of bytes in a file is a mask.

Kernels compute such numbers in wider ones. Every operand runs over the ends of its type, where a sum, difference, product,
negation, cast or sum of many that is not wrapped, or wrapped with the wrong sign, shows.
"""
import json
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

KINDS = [np.int8, np.uint8, np.int16, np.uint16, np.uint32]
COUNT = 40
report, random = lab.Report(), np.random.default_rng(5)
nodes, inputs, outputs, weights, numbers, wanted = [], [], [], [], {}, {}


def node(operator, operands, name, result, **attributes):
    nodes.append(helper.make_node(operator, operands, [name], **attributes))
    outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(result.dtype), result.shape))
    wanted[name] = result


def draw(kind):
    """Numbers of all sizes, and both ends of the type."""
    ends = np.iinfo(kind)
    array = random.integers(ends.min, ends.max, COUNT, kind, endpoint=True)
    array[:4] = [ends.min, ends.max, 1, ends.max // 2]
    return array


for kind in KINDS:
    name = np.dtype(kind).name
    a, b, c, table = draw(kind), draw(kind)[::-1].copy(), draw(kind), np.tile(draw(kind), 200)
    for side, array in (("a", a), ("b", b)):
        inputs.append(helper.make_tensor_value_info(f"{name}_{side}", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
        numbers[f"{name}_{side}"] = array[None]
    nodes.append(helper.make_node("Constant", [], [f"{name}_c"], value=numpy_helper.from_array(c)))
    weights.append(numpy_helper.from_array(table, f"{name}_table"))
    tiled = np.tile(a, 200)
    nodes.append(helper.make_node("Constant", [], [f"{name}_times"], value=numpy_helper.from_array(np.array([200]))))
    nodes.append(helper.make_node("Tile", [f"{name}_a", f"{name}_times"], [f"{name}_tiled"]))
    operands = [f"{name}_a", f"{name}_b"]
    with np.errstate(over="ignore"):
        node("Add", operands, f"{name}_add", a + b)
        node("Sub", operands, f"{name}_sub", a - b)
        node("Mul", operands, f"{name}_mul", a * b)
        node("Add", [f"{name}_a", f"{name}_c"], f"{name}_add_constant", a + c)
        node("Sub", [f"{name}_c", f"{name}_c"], f"{name}_zero", c - c)
        node("Mul", [f"{name}_c", f"{name}_c"], f"{name}_square", c * c)
        node("Add", [f"{name}_table", f"{name}_tiled"], f"{name}_add_table", table + tiled)
        node("Max", operands, f"{name}_max", np.maximum(a, b))
        node("Less", operands, f"{name}_less", a < b)
        node("BitwiseNot", [f"{name}_a"], f"{name}_not", ~a)
        node("BitwiseXor", operands, f"{name}_xor", a ^ b)
        node("ReduceSum", [f"{name}_a"], f"{name}_sum", np.sum(a, dtype=kind, keepdims=True))
        # A sum that overflows decides what follows it.
        nodes.append(helper.make_node("Greater", [f"{name}_add", f"{name}_a"], [f"{name}_more"]))
        node("Where", [f"{name}_more", *operands], f"{name}_where", np.where(a + b > a, a, b))
        if np.issubdtype(kind, np.signedinteger):
            node("Neg", [f"{name}_a"], f"{name}_neg", -a)
            node("Abs", [f"{name}_a"], f"{name}_abs", np.abs(a))
        for other in [*KINDS, np.int32, np.int64, np.float32]:
            to = helper.np_dtype_to_tensor_dtype(np.dtype(other))
            node("Cast", [f"{name}_a"], f"{name}_as_{np.dtype(other).name}", a.astype(other), to=to)
for wide in (np.int32, np.int64):
    array = random.integers(-(2**31), 2**31, COUNT, wide)
    name = np.dtype(wide).name
    inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
    numbers[name] = array[None]
    for kind in KINDS:
        node("Cast", [name], f"{name}_as_{np.dtype(kind).name}", array.astype(kind), to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

# Old exports keep a causal mask as bytes.
mask, scores = np.tril(np.ones((80, 80), np.uint8)), random.uniform(-1, 1, (80, 80)).astype(np.float32)
weights += [numpy_helper.from_array(mask, "mask"), numpy_helper.from_array(np.float32(-1e4), "hidden"), numpy_helper.from_array(np.float32(1), "w")]
inputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores.shape))
numbers["scores"] = scores[None]
nodes.append(helper.make_node("Cast", ["mask"], ["seen"], to=TensorProto.BOOL))
node("Where", ["seen", "scores", "hidden"], "masked", np.where(mask, scores, np.float32(-1e4)))
node("Identity", ["w"], "loss", np.float32(1))

graph = helper.make_graph(nodes, "integers", inputs, outputs, weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), "model.onnx")
with open("recipe.yaml", "w") as file:
    file.write(f"loss: {{output: loss}}\nparameters: {json.dumps({'default': 'freeze', 'train': ['w']})}\noptimizer: {{name: sgd, lr: 0.0}}\n")
lab.run("moec", "compile", "model.onnx", "--recipe", "recipe.yaml", "-o", "plan.moe")
lab.save("inputs", numbers)
lab.save("batch", {name: array[0] for name, array in numbers.items()})
lab.run("moerun", "run", "plan.moe", "--inputs", "inputs", "--steps", 1, "--save-outputs", "outputs", "--poison")
lab.run(os.path.join(os.environ["MOEC_BUILD"], "test/interpret_model"), "model.onnx", "recipe.yaml", "batch", "interpreted")
interpreted = {name.removeprefix("output."): value for name, value in lab.load("interpreted").items()}
for way, results in {"compiled": lab.load("outputs"), "interpreted": interpreted}.items():
    for name, want in wanted.items():
        equal = np.array_equal(results[name].reshape(want.shape), want)
        report.check(equal, f"{name} {way}" + ("" if equal else f"\n{results[name]}\nexpected\n{want}"))
report.finish()
