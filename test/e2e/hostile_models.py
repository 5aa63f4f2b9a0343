"""Models made to hurt: `moec compile` refuses each with a message, within ten seconds of processor time and 1 GB.

Sizes that overflow, graphs that never end, weights outside of the model's folder, nesting without bounds, a million nodes.
"""
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

ROOT = pathlib.Path(os.environ["MOEC_ROOT"])
SECONDS, BYTES = 10, 1 << 30
report = lab.Report()
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def model(nodes, inputs=(("x", [4]),), weights=(), functions=(), name="hostile.onnx"):
    """Writes a model with the output `y`."""
    graph = helper.make_graph(nodes, "hostile", [helper.make_tensor_value_info(key, FLOAT, shape) for key, shape in inputs],
                              [helper.make_tensor_value_info("y", FLOAT, None)], list(weights))  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    pathlib.Path(name).write_bytes(helper.make_model(graph, functions=list(functions), opset_imports=opsets).SerializeToString())


def refuses(what, *texts):
    """The model just written must be refused by a message that has all `texts`, and not for its loss."""
    with open("message", "w+", errors="replace") as message:
        process = subprocess.Popen(["moec", "compile", "hostile.onnx", "--recipe", "recipe.yaml", "-o", "p.moe"], stdout=message, stderr=message,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (3 * SECONDS, 3 * SECONDS)))  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
    text, code = pathlib.Path("message").read_text(errors="replace"), os.waitstatus_to_exitcode(status)
    seconds, size = used.ru_utime + used.ru_stime, used.ru_maxrss << 10
    faults = [] if code == 1 else [f"exit code {code} instead of 1"]
    faults += [] if re.search("^error: ", text, re.M) else ["no message"]
    faults += [f"no '{part}' in the message" for part in texts if part not in text]
    faults += ["complaint of the loss"] if "loss" in text else []
    faults += [f"{seconds:.1f} s"] if seconds > SECONDS else []
    faults += [f"{size >> 20} MB"] if size > BYTES else []
    report.check(not faults, f"{what}: {'; '.join(faults)} {text[:300] if faults else text.splitlines()[0][:120]}")


def varint(value):
    return (bytes([value & 127 | 128]) + varint(value >> 7)) if value > 127 else bytes([value])


def field(number, content):
    """A field of a protobuf message with a length; the library that writes messages takes a gigabyte for a large one itself."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def wire(kind, inputs, outputs, domain=b""):
    """A NodeProto, as its bytes."""
    return b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs) + field(4, kind) + field(7, domain)


def written(nodes=b"", rest=b""):
    """Writes y = x with `nodes` behind it, and `rest` behind the graph: a message that is written twice is merged."""
    model([node("Identity", ["x"], ["y"])])
    with open("hostile.onnx", "ab") as file:
        file.write(field(7, nodes) + rest)


def constant(name, values):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, np.int64), name))


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, **attributes)


def weight(dims, **fields):
    tensor = TensorProto(name="w", data_type=FLOAT, dims=dims, **fields)
    return tensor


def outside(location, offset=0, length=16):
    tensor = weight([4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


pathlib.Path("recipe.yaml").write_text("loss: {output: y}\nparameters: {default: train}\n")
add = [node("Add", ["x", "w"], ["z"]), node("ReduceSum", ["z"], ["y"], keepdims=0)]

# Sizes.
for dims in ([1 << 62, 4], [1 << 32, 1 << 32], [(1 << 63) - 1]):
    model([node("ReduceSum", ["x"], ["y"], keepdims=0)], [("x", dims)])
    refuses(f"an input of {dims}")
    model(add, weights=[weight(dims, raw_data=b"\0" * 16)])
    refuses(f"a weight of {dims}", "w")
model([node("ReduceSum", ["x"], ["y"], keepdims=0)], [("x", [-4])])
refuses("an input of a negative size", "x")
model(add, weights=[weight([-4], raw_data=b"\0" * 16)])
refuses("a weight of a negative size", "w")
for what, values in (("huge", [1 << 31, 1 << 31]), ("negative", [-7]), ("overflowing", [1 << 62, 4])):
    model([constant("s", values), node("ConstantOfShape", ["s"], ["c"]), node("ReduceSum", ["c"], ["d"], keepdims=0), node("Add", ["x", "d"], ["y"])])
    refuses(f"a constant of {what} shape", "c")
    model([constant("s", values), node("Expand", ["x", "s"], ["c"]), node("ReduceSum", ["c"], ["y"], keepdims=0)])
    refuses(f"an expansion to {what} shape", "c")
model([constant("s", [1 << 40]), node("Tile", ["x", "s"], ["c"]), node("ReduceSum", ["c"], ["y"], keepdims=0)])
refuses("a repetition without end", "c")
model([constant("s", [1 << 60, 1 << 60]), node("Pad", ["x", "s"], ["c"]), node("ReduceSum", ["c"], ["y"], keepdims=0)])
refuses("a padding without end", "c")
scalars = [node("Constant", [], [key], value_int=value) for key, value in (("a", 0), ("b", 1 << 50), ("step", 1))]
model([*scalars, node("Range", ["a", "b", "step"], ["r"]), node("Cast", ["r"], ["c"], to=FLOAT), node("ReduceSum", ["c"], ["y"], keepdims=0)])
refuses("a range without end", "r")
model([node("Conv", ["x", "w"], ["c"], pads=[1 << 40, 1 << 40]), node("ReduceSum", ["c"], ["y"], keepdims=0)], [("x", [1, 1, 4])],
      [weight([1, 1, 2], raw_data=b"\0" * 8)])  # fmt: skip
refuses("a convolution with padding without end", "c")

# Graphs that do not end.
model([node("Add", ["x", "y"], ["z"]), node("Add", ["z", "x"], ["y"])])
refuses("a cycle")
call = helper.make_function("f", "Again", ["a"], ["b"], [node("Again", ["a"], ["b"], domain="f")], [helper.make_opsetid("f", 1)])
model([node("Again", ["x"], ["y"], domain="f")], functions=[call])
refuses("a function that calls itself")
doubling = [helper.make_function("f", f"F{i}", ["a"], ["c"], [node(f"F{i + 1}", ["a"], ["b"], domain="f"), node(f"F{i + 1}", ["b"], ["c"], domain="f")],
                                 [helper.make_opsetid("f", 1)]) for i in range(60)]  # fmt: skip
last = helper.make_function("f", "F60", ["a"], ["b"], [node("Identity", ["a"], ["b"])], [helper.make_opsetid("", 20)])
model([node("F0", ["x"], ["y"], domain="f")], functions=[*doubling, last])
refuses("functions that double sixty times")
body = helper.make_graph([node("Identity", ["on"], ["still"]), node("Add", ["v", "v"], ["w"])], "body",
                         [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("on", BOOL, []), helper.make_tensor_value_info("v", FLOAT, [4])],
                         [helper.make_tensor_value_info("still", BOOL, []), helper.make_tensor_value_info("w", FLOAT, [4])])  # fmt: skip
model([node("Constant", [], ["n"], value_int=1 << 60), node("Loop", ["n", "", "x"], ["y"], body=body)])
refuses("a loop without end", "y")

step = helper.make_graph([node("Add", ["v", "e"], ["w"])], "step", [helper.make_tensor_value_info(key, FLOAT, []) for key in ("v", "e")],
                         [helper.make_tensor_value_info("w", FLOAT, [])])  # fmt: skip
model([node("ReduceSum", ["x"], ["v0"], keepdims=0), node("Scan", ["v0", "x"], ["y"], body=step, num_scan_inputs=1)], [("x", [1 << 30])])
refuses("a scan without end", "y", "too many to unroll")

inner = node("If", ["on"], ["b"], **{key: helper.make_graph([node("Again", ["a"], ["c"], domain="f")], key, [],
                                                                [helper.make_tensor_value_info("c", FLOAT, [4])]) for key in ("then_branch", "else_branch")})  # fmt: skip
call = helper.make_function("f", "Again", ["a"], ["b"], [node("Constant", [], ["n"], value_int=1), node("Cast", ["n"], ["on"], to=BOOL), inner],
                            [helper.make_opsetid("f", 1), helper.make_opsetid("", 20)])  # fmt: skip
model([node("Again", ["x"], ["y"], domain="f")], functions=[call])
refuses("a function that calls itself in a branch", "nested too deeply")
shutil.copy(ROOT / "test/fuzz/corpus/onnx/finding-slow-loops", "hostile.onnx")
refuses("loops in loops in a function in loops", "the program is too large")

# Nesting.
for depth in (90, 2000):
    branch = field(1, field(1, b"x") + field(2, b"y") + field(4, b"Identity")) + field(12, field(1, b"y"))
    for _ in range(depth):
        attributes = b"".join(field(5, field(1, name) + b"\xa0\x01\x05" + field(6, branch if name[0] == 116 else b"")) for name in (b"then_branch", b"else_branch"))
        branch = field(1, field(1, b"x") + field(2, b"y") + field(4, b"If") + attributes) + field(12, field(1, b"y"))
    written(branch)
    refuses(f"branches {depth} deep", "nested")
for depth in (70, 100_000):
    functions = b"".join(field(25, field(1, b"F%d" % i) + field(4, b"a") + field(5, b"b") + field(10, b"f") + field(9, field(1, b"f") + b"\x10\x01") +
                                   field(7, wire(b"F%d" % (i + 1), [b"a"], [b"b"], b"f"))) for i in range(depth))  # fmt: skip
    written(field(1, wire(b"F0", [b"x"], [b"z"], b"f")), functions)
    refuses(f"functions {depth} deep", "more than 64 around it")

# Weights outside.
os.mkdir("folder")
for path in ("elsewhere", "folder/inside"):
    pathlib.Path(path).write_bytes(b"\0" * 64)
os.chdir("folder")
os.rename("../recipe.yaml", "recipe.yaml")
for location in ("/etc/passwd", "../elsewhere", "a/../../elsewhere", "", ".", "inside\0", "none"):
    model(add, weights=[outside(location)])
    refuses(f"weights at {location!r}", "initializer 'w'")
for offset, length in ((60, 16), (1 << 63, 16), (-4, 16), (0, 12), (0, 1 << 62)):
    model(add, weights=[outside("inside", offset, length)])
    refuses(f"weights from byte {offset}, {length} bytes long", "initializer 'w'")

os.symlink("../elsewhere", "link")
os.symlink("..", "up")
os.symlink("inside", "alias")
for location in ("link", "up/elsewhere"):
    model(add, weights=[outside(location)])
    refuses(f"weights at {location!r}, a link", "initializer 'w'", "outside the folder of the model")


def tensors(*places):
    """Weights w, w1, w2, ... of four numbers each or as many as they are long; `add` reads the first."""
    made = [outside(*place) for place in places]
    for i, (tensor, place) in enumerate(zip(made, places)):
        tensor.name = f"w{i}" if i else "w"
        tensor.dims[:] = [place[2] // 4]
    return made


# In one file by two names, at its end, one in the other, behind two that are equal.
for places, texts in (
    ([("inside", 0, 16), ("alias", 12, 8)], ["initializer 'w1'", "initializer 'w'", "bytes 12 to 20"]),
    ([("inside", 48, 16), ("inside", 44, 8)], ["initializer 'w'", "initializer 'w1'"]),
    ([("inside", 16, 16), ("inside", 0, 64)], ["initializer 'w'", "initializer 'w1'"]),
    ([("inside", 0, 16), ("inside", 0, 16), ("inside", 0, 20)], ["initializer 'w2'"]),
):
    model(add, weights=tensors(*places))
    refuses(f"weights at {places}", "overlap", *texts)
# Ties, neighbours and tensors without elements have no bytes in common in part.
model(add, weights=tensors(("inside", 16, 16), ("alias", 16, 16), ("inside", 32, 4), ("inside", 0, 16), ("inside", 20, 0)))
done = subprocess.run(["moec", "compile", "hostile.onnx", "--recipe", "recipe.yaml", "-o", "p.moe"], capture_output=True, text=True)
report.check(done.returncode == 0, "weights that are equal or side by side are taken" + done.stderr[:300])
# A model that is itself a link has its data beside the file that is meant.
os.rename("p.moe", "direct.moe")
os.mkdir("linked")
for name in ("hostile.onnx", "inside", "alias", "recipe.yaml"):
    os.symlink(f"../{name}", f"linked/{name}")
done = subprocess.run(["moec", "compile", "linked/hostile.onnx", "--recipe", "recipe.yaml", "-o", "p.moe"], capture_output=True, text=True)
report.check(done.returncode == 0, "a model and its weights that are links into one folder are taken" + done.stderr[:300])

# A million of everything.
MILLION = range(1_000_000)
written(b"".join(field(1, wire(b"Neg", [b"x" if i == 0 else b"v%d" % (i - 1)], [b"v%d" % i])) for i in MILLION))
refuses("a million nodes", "nodes")
written(b"".join(field(1, wire(b"Neg", [b"n%d" % i], [b"v%d" % i])) for i in MILLION))
refuses("a million nodes that read what there is not", "before it is computed")
written(b"".join(field(1, wire(b"Unknown", [b"x"], [b"v%d" % i])) for i in MILLION))
refuses("a million unknown operators", "no translation of this operator")
written(field(1, b"") * 8_000_000)
refuses("eight million nodes without anything", "small parts")
written(b"", field(25, b"") * 4_000_000)
refuses("four million functions without anything", "small parts")
written(b"".join(field(11, field(1, b"x%d" % i) + field(2, field(1, b"\x08\x01" + field(2, field(1, field(2, b"d%d" % i)))))) for i in MILLION))
refuses("a million inputs whose extents are not bound", "not bound")
written(b"".join(field(5, field(8, b"w") + b"\x10\x01" + field(9, bytes(4))) for i in MILLION))
refuses("a million weights of one name", "twice")
written(field(1, wire(b"Add", [b"x", b"w"], [b"z"])) + field(5, field(1, b"\x01" * 1_000_000) + field(8, b"w") + b"\x10\x01" + field(9, bytes(4))))
refuses("a weight of a million dimensions", "64 dimensions")
written(field(11, field(1, b"a") + field(2, field(1, b"\x08\x01" + field(2, field(1, b"\x08\x01") * 1_000_000)))))
refuses("an input of a million dimensions", "1000000 dimensions")
written(field(1, wire(b"SequenceConstruct", [b"x"], [b"s0"])) +
        b"".join(field(1, wire(b"SequenceInsert", [b"s%d" % i, b"x"], [b"s%d" % (i + 1)])) for i in range(200_000)))  # fmt: skip
refuses("two hundred thousand sequences, each longer than the last", "the program is too large")

# Names.
written(field(1, wire(b"Neg", [b"x"], [b"a\xff"])))
refuses("a name that is no text", "UTF-8")
report.check("libprotobuf" not in pathlib.Path("message").read_text(errors="replace"), "protobuf itself says nothing")
report.finish()
