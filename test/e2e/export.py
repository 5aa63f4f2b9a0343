"""`moerun export`: names, shapes and bytes of the weights, as PyTorch had them before the model became ONNX.

Each model is exported before it is trained, so that the bytes must be those of the ONNX initializers. Which initializer
was which parameter is found out here by other means than the compiler's, which reads the metadata of single nodes: by
where in the sorted list of a layer's modules the products come, and by what is in the models' source (transformers).
"""
import json
import os
import struct
import sys

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()


def header(path):
    data = open(path, "rb").read()
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + size])


def linear(layer, parts):
    """Weights of linear layers in the order in which a decoder layer computes them."""
    return [f"{layer}.{part}.weight" for part in parts]


LLAMA = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
# Initializers without a module's name that are trained, in the order of the nodes that read them.
ANONYMOUS = {
    "gpt2": [],
    "gpt2-loss": [],
    "gpt-torchscript": [],
    "bart": [],
    "opt": [],
    "llama": sum((linear(f"m.model.layers.{i}", LLAMA) for i in range(3)), []) + ["m.lm_head.weight"],
    "mixtral": sum((linear(f"m.model.layers.{i}", LLAMA[:4]) + [f"m.model.layers.{i}.mlp.experts.{part}" for part in ("gate_up_proj", "down_proj")]
                    for i in range(2)), []) + ["m.lm_head.weight"],
    # A position table that the exporter has cut has no name any more.
    "capacity-moe": ["slice_1"] + sum(([f"qkv.{i}.weight", f"out.{i}.weight"] for i in range(2)), []),
}  # fmt: skip
TRANSPOSED = ("proj.weight", "lm_head.weight", "qkv.0.weight", "qkv.1.weight", "out.0.weight", "out.1.weight")

for name, order in ANONYMOUS.items():
    folder = lab.ROOT / "test/data/onnx" / name
    model = onnx.load(folder / "model.onnx")
    symbolic = any(d.dim_param for i in model.graph.input for d in i.type.tensor_type.shape.dim)
    bind = ["--bind", "batch=4", "--bind", "seq=32"] if symbolic else []
    lab.run("moec", "compile", folder / "model.onnx", "--recipe", folder / "recipe.yaml", *bind, "-o", "p.moe")
    lab.run("moerun", "export", "p.moe", "--output", "out.safetensors")
    got = lab.load("out.safetensors")

    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    frozen = [line.split("freeze: [")[1].split("]")[0].split(", ") for line in (folder / "recipe.yaml").read_text().splitlines()
              if "freeze" in line][0]  # fmt: skip
    expected = {key: value for key, value in weights.items() if "." in key}
    used = [key for node in model.graph.node for key in node.input if key in weights and "." not in key]
    anonymous = [key for key in dict.fromkeys(used) if key not in frozen and weights[key].ndim > 1]
    report.check(len(anonymous) == len(order), f"{name}: {len(anonymous)} weights have no name of a module")
    for key, wanted in zip(anonymous, order):
        value = weights[key]
        expected[wanted] = value.T if wanted.endswith(TRANSPOSED) and value.ndim == 2 else value
    report.check(got.keys() == expected.keys(), f"{name}: {len(got)} names {sorted(got.keys() ^ expected.keys())[:4]}")
    wrong = [key for key in got if key not in expected or not np.array_equal(got[key], expected[key])]
    report.check(not wrong, f"{name}: shapes and bytes {wrong[:4]}")
    report.check(header("out.safetensors")["__metadata__"] == {"format": "pt"}, f"{name}: transformers asks for the format")

# What is trained is exported: from train itself, and from its checkpoint; prefixes go.
llama = lab.ROOT / "test/data/onnx/llama"
lab.run("moec", "compile", llama / "model.onnx", "--recipe", llama / "recipe.yaml", "-o", "llama.moe")
lab.run("moerun", "train", "llama.moe", "--data", llama / "inputs.safetensors", "--max-update", 3, "--save-dir", "run",
        "--export", "trained.safetensors", "--strip-prefix", "m.")  # fmt: skip
lab.run("moerun", "export", "llama.moe", "--save-dir", "run", "--output", "again.safetensors", "--strip-prefix", "m.")
report.check(lab.digest("trained.safetensors") == lab.digest("again.safetensors"), "train --export and export agree")
state, trained = lab.load("run/checkpoint_00000003.safetensors"), lab.load("trained.safetensors")
report.check(np.array_equal(trained["model.layers.1.self_attn.k_proj.weight"], state["val_258"].T), "a trained weight, transposed")
report.check(not any(key.startswith("m.") for key in trained) and "model.norm.weight" in trained, "--strip-prefix")

# Ties of the recipe are written under both names.
mixtral = lab.ROOT / "test/data/onnx/mixtral"
text = (mixtral / "recipe.yaml").read_text() + 'tie: [["m.model.embed_tokens.weight", "val_616^T"]]\n'
open("tied.yaml", "w").write(text)
lab.run("moec", "compile", mixtral / "model.onnx", "--recipe", "tied.yaml", "--bind", "batch=4", "--bind", "seq=32", "-o", "tied.moe")
lab.run("moerun", "export", "tied.moe", "--output", "tied.safetensors")
tied = lab.load("tied.safetensors")
report.check(np.array_equal(tied["m.lm_head.weight"], tied["m.model.embed_tokens.weight"]), "a tied head is the table")
done = lab.run("moerun", "export", "tied.moe", "--output", "x", "--checkpoint", "run/checkpoint_00000003.safetensors", code=1)
report.check("unexpected" in done.stderr or "missing" in done.stderr, "a checkpoint of another model")
report.finish()
