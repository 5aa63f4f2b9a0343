"""Writes inputs to start fuzzing from, one folder for each target, none of them larger than 40 KB.

    seeds.py FOLDER BUILD_FOLDER

Models: the ONNX standard's node tests (one for each operator and set of attributes), presets of `moec model`, the exports of
test/data/onnx with their weights in `weights.bin`. Plans: BUILD_FOLDER/test/fuzz_seed_plans. Checkpoints: of the model in
CheckpointModel.h. Recipes, data: a small file of each form. The corpus in this folder is what `-merge=1` kept of them and of
what was found.
"""
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LARGEST = 40_000
folder, build = (pathlib.Path(word).resolve() for word in sys.argv[1:3])


def write(target, name, contents):
    if len(contents) <= LARGEST:
        (folder / target).mkdir(parents=True, exist_ok=True)
        (folder / target / name).write_bytes(contents)


def node_tests():
    """Small operands that may decide about shapes become weights: integers, and scalars."""
    warnings.filterwarnings("ignore")
    seen = set()
    for test in collect_testcases(None):
        model = onnx.ModelProto()
        model.CopyFrom(test.model)
        graph = model.graph
        key = (tuple(node.op_type for node in graph.node)[:4],
               tuple(attribute.name for node in graph.node for attribute in node.attribute)[:8])  # fmt: skip
        if key in seen or len(key[0]) == 0:
            continue
        for value, array in zip(list(graph.input), test.data_sets[0][0], strict=False):
            if isinstance(array, np.ndarray) and array.size <= 32 and (array.dtype in (np.int64, np.bool_) or array.ndim == 0):
                graph.initializer.append(numpy_helper.from_array(array, value.name))
                graph.input.remove(value)
        contents = model.SerializeToString()
        if len(contents) <= 1500:
            seen.add(key)
            write("onnx", test.name, contents)


def strip(model):
    """Leaves of an export what the importer reads: weights move to a file that the target makes."""
    offset = 0
    for tensor in model.graph.initializer:
        bytes_ = numpy_helper.to_array(tensor).nbytes
        if bytes_ > 64:
            for key in ("raw_data", "float_data", "external_data"):
                tensor.ClearField(key)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", str(offset)), ("length", str(bytes_))):
                tensor.external_data.add(key=key, value=value)
            offset += bytes_
    for part in [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        part.ClearField("doc_string")
        if part is not model:
            part.ClearField("metadata_props")
    model.graph.ClearField("value_info")


def exports():
    for path in sorted((ROOT / "test/data/onnx").glob("*/*.onnx")):
        model = onnx.load(path)
        strip(model)
        write("onnx", f"export_{path.parent.name}_{path.stem}", model.SerializeToString())


def run(*words, place=None):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, cwd=place)


def presets(work):
    shape = ["--decoder-layers", 2, "--decoder-embed-dim", 8, "--decoder-ffn-embed-dim", 16, "--decoder-attention-heads", 2,
             "--tokens-per-sample", 4, "--vocab-size", 20]  # fmt: skip
    forms = {"dense": [], "experts": ["--moe-freq", 2, "--moe-expert-count", 2, "--moe-gate-loss-wt", 0.01, "--dropout", 0.1]}
    plans = []
    for name, flags in forms.items():
        run(build / "bin/moec", "model", "transformer_lm_gpt", *shape, *flags, "-o", work / f"{name}.onnx")
        model = onnx.load(work / f"{name}.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = "weights.bin" if entry.key == "location" else entry.value
        write("onnx", f"preset_{name}", model.SerializeToString())
        # A plan names its model as the command did: without the folder, which is another one each time.
        run(build / "bin/moec", "compile", f"{name}.onnx", "--bind", "batch=2", "--bind", "seq=4", "--set", "accumulate=2",
            "--set", "clip_norm=1", "--threads", 1, "-o", f"{name}.moe", place=work)  # fmt: skip
        plans.append(work / f"{name}.moe")
    (folder / "plan").mkdir(parents=True, exist_ok=True)
    run(build / "test/fuzz_seed_plans", folder / "plan", *plans)


def safetensors(tensors, metadata=None):
    header, offset = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, (kind, array) in tensors.items():
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for _, array in tensors.values())


def checkpoints():
    """Their digest is wrong until the mutator has repaired it."""
    floats = np.arange(4, dtype=np.float32)
    state = {"control.num_updates": ("I64", np.array([3])), "weight": ("F32", floats), "weight.exp_avg": ("F32", floats)}
    metadata = {"moe.format": "1", "moe.num_updates": "3", "moe.data.samples": "24", "moe.data.windows": "7",
                "moe.data.sample_length": "4", "moe.data.seed": "7", "moe.data.order": "shuffled", "moe.routing_groups": "1",
                "moe.model_digest": "0000000000001234", "moe.digest": "0" * 16}  # fmt: skip
    write("checkpoint", "whole", safetensors(state, metadata))
    write("checkpoint", "parameters", safetensors({"weight": ("F32", floats)}))
    for kind, width in (("F64", 8), ("F16", 2), ("BF16", 2), ("I8", 1), ("F8_E4M3", 1)):
        write("checkpoint", kind, safetensors({"weight": (kind, np.zeros(4, f"V{width}"))}, {"format": "pt"}))
    write("checkpoint", "empty", safetensors({"weight": ("F32", floats), "none": ("I32", np.zeros((2, 0), np.int32))}))


def data():
    import io

    def npy(array, version=None):
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version)
        return file.getvalue()

    def form(number, model, contents):
        return bytes([number | model << 4]) + contents

    ids = np.arange(40) % 37
    for kind in (np.uint8, np.int16, np.int32, np.int64, np.uint16):
        write("data", f"npy_{np.dtype(kind)}", form(0, 0, npy(ids.astype(kind))))
    write("data", "npy_rows", form(0, 1, npy(ids.astype(np.int32).reshape(4, 10), (2, 0))))
    lengths, tokens = [10, 1, 17, 12], ids.astype(np.uint16).tobytes()
    pointers = np.cumsum([0, *lengths])[:-1] * 2
    megatron = (b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, len(lengths), len(lengths) + 1)
                + np.array(lengths, np.int32).tobytes() + pointers.astype(np.int64).tobytes() + np.arange(5, dtype=np.int64).tobytes())  # fmt: skip
    fairseq = (b"TNTIDX\0\0" + struct.pack("<QQQQQ", 1, 8, 2, len(lengths), len(lengths))
               + np.arange(5, dtype=np.int64).tobytes() + np.cumsum([0, *lengths]).astype(np.int64).tobytes()
               + np.array(lengths, np.int64).tobytes())  # fmt: skip
    for name, index in (("megatron", megatron), ("fairseq", fairseq)):
        write("data", f"pair_{name}", form(1, 0, struct.pack("<H", len(index)) + index + tokens))
    write("data", "text", form(2, 0, b"In the beginning God created the heaven and the earth.\n"))
    line = b'{"input_ids": [5, 6, 7], "labels": [6, 7, -100], "note": {"a": [1.5, null, "\\u00e9"]}}'
    write("data", "json_line", form(3, 0, line))
    write("data", "json_lines", form(4, 0, line + b'\n\n{"input_ids": [9], "labels": 3}\n'))
    write("data", "json_lines_truncated", form(4, 4, line + b'\n{"input_ids": [1, 2, 3, 4, 5, 6], "labels": [1, 2, 3, 4, 5]}\n'))
    write("data", "json_lines_decoder", form(4, 2, line + b"\n"))
    batch = np.arange(16).reshape(2, 2, 4)
    floats = np.ones((2, 2, 4), np.float32)
    write("data", "batches", form(5, 0, safetensors({"input_ids": ("I64", batch), "labels": ("I64", batch)})))
    mask = {"input_ids": ("I32", batch.astype(np.int32)), "labels": ("I64", batch), "attention_mask": ("F32", floats)}
    write("data", "batches_mask", form(5, 1, safetensors(mask)))
    write("data", "batches_pixels", form(5, 3, safetensors({"input_ids": ("I64", batch), "pixels": ("F32", floats)})))


def recipes():
    write("recipe", "empty", b"")
    for path in [ROOT / "tools/demo.yaml", *sorted((ROOT / "test/data/onnx").glob("*/recipe.yaml"))]:
        write("recipe", path.parent.name, path.read_bytes())
    write("recipe", "all", b"""\
loss: {output: nll, cross_entropy: {logits: y, labels: targets, ignore_index: -1, label_smoothing: 0.1}}
optimizer:
  name: sgd
  lr: 1.0e-2
  betas: [0.9, 0.95]
  eps: 1e-6
  weight_decay: 0.1
  momentum: 0.9
clip_norm: 0.5
schedule: {name: wsd, warmup_updates: 10, total_updates: 100, decay_updates: 20, decay: 1-sqrt, end_lr: 1e-5}
precision: {compute: bf16, reduce: f32}
accumulate: 4
parameters: {default: train, train: ["*.weight"], freeze: ['wpe*', "h.[0-3].*"]}
tie: [[wte, lm_head], [a, c^T]]
routing_groups: 2
seed: 7
""")  # fmt: skip
    write("recipe", "json", b'{"optimizer": {"name": "fairseq_adam", "lr": 5e-4}, "schedule": {"name": "inverse_sqrt", "warmup_updates": 4}}')
    write("recipe", "overrides", b"seed: 1\n\0optimizer.lr=1e-3\0schedule={name: polynomial_decay, total_updates: 9, power: 2}\0seed=3")
    write("recipe", "forms", b"# text\n---\nloss:\n  output: >-\n    folded\n    name\nparameters: &p\n  train:\n  - \"a\\tb\"\n  - |\n    c\n...\n")


with tempfile.TemporaryDirectory() as work:
    node_tests()
    exports()
    recipes()
    checkpoints()
    data()
    presets(pathlib.Path(work))
