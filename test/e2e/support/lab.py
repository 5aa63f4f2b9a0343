"""What the end-to-end scripts share: running the programs, reading and writing safetensors, comparing.

A script puts this folder on its path and runs in an empty folder, with moec and moerun on PATH (see test/scripts).
"""
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import sys
import time

import ml_dtypes
import numpy as np

ROOT = pathlib.Path(os.environ["MOEC_ROOT"])
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
         "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}  # fmt: skip


def load(path):
    """{name: array} of a safetensors file."""
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + x for x in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def save(path, tensors):
    """Writes {name: array} as safetensors."""
    names = {np.dtype(kind): name for name, kind in TYPES.items()}
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


def run(*words, code=0, env=None):
    """Runs a program, which must end with `code`; the completed process, with text output."""
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=env and os.environ | env)
    if done.returncode != code:
        sys.exit(f"{' '.join(words)}\nended with {done.returncode}, not {code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done


def model(path, *flags, layers=2, width=32, heads=4, tokens=32, vocabulary=260):
    """Writes a small transformer_lm_gpt preset."""
    run("moec", "model", "transformer_lm_gpt", "--decoder-layers", layers, "--decoder-embed-dim", width,
        "--decoder-ffn-embed-dim", 2 * width, "--decoder-attention-heads", heads, "--tokens-per-sample", tokens,
        "--vocab-size", vocabulary, *flags, "-o", path)  # fmt: skip


def compile_plan(source, plan, batch, seq, *flags, recipe=None):
    """Compiles a model; `recipe` is a dictionary (JSON is YAML)."""
    words = ["moec", "compile", source, "--bind", f"batch={batch}", "--bind", f"seq={seq}", *flags, "-o", plan]
    if recipe is not None:
        path = pathlib.Path(f"{plan}.yaml")
        path.write_text(json.dumps(recipe))
        words += ["--recipe", path]
    return run(*words)


def records(output, key="loss"):
    """The JSON lines of a program's output that have `key`."""
    lines = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    return [line for line in lines if key in line]


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def gap(expected, actual, tolerance, only=None):
    """How far tensors are from others, as a multiple of `tolerance` times each one's norm, and the name of the worst; or of one.

    Gradients of some parameters are zero up to rounding, as that of the bias of keys is, which softmax does not see: a floor of
    a hundredth of that of the norm of all."""
    if expected.keys() != actual.keys():
        return np.inf, "names"
    floor = 1e-2 * tolerance * np.sqrt(sum(np.sum(value.astype(float) ** 2) for value in expected.values()))
    return max((np.linalg.norm(actual[name] - value) / (tolerance * np.linalg.norm(value) + floor), name)
               for name, value in expected.items() if only in (None, name))  # fmt: skip


def near(log, expected, keys, tolerance=1e-5):
    """Whether two logs have as many lines, and in each the same numbers under `keys` but for `tolerance` of them."""
    return len(log) == len(expected) and all(abs(a[key] - b[key]) <= tolerance * abs(b[key]) for a, b in zip(log, expected) for key in keys)


def worst(actual, expected, floor, tolerance=1e-5):
    """The largest ||a - b|| / (tolerance ||b|| + floor) of tensors by name; infinite if the names differ."""
    if actual.keys() != expected.keys():
        return np.inf
    return max(np.linalg.norm(actual[name].astype(np.float64) - value) / (tolerance * np.linalg.norm(value) + floor)
               for name, value in expected.items())  # fmt: skip


def letters(path, count, seed=1):
    """A text of random letters, the same for the same seed."""
    pathlib.Path(path).write_bytes(np.random.default_rng(seed).integers(97, 123, count, dtype=np.uint8).tobytes())


class Report:
    """Collects what failed, so that one run shows everything."""

    def __init__(self):
        self.failed, self.start = 0, time.monotonic()

    def check(self, condition, text):
        self.failed += not condition
        print(f"{'ok  ' if condition else 'FAIL'} {text}", flush=True)

    def finish(self):
        print(f"{self.failed} failed, {time.monotonic() - self.start:.1f} s")
        sys.exit(bool(self.failed))
