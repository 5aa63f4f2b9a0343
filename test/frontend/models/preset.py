"""Shared by the tests: runs `moec model`, writes weights into a model's external data, runs ONNX Runtime."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import onnx
import onnxruntime

DATA = pathlib.Path(__file__).resolve().parents[2] / "data" / "fairseq"
MOEC = sys.argv[1] if len(sys.argv) > 1 else "moec"

# Sizes that are quick to check; every test adds what it is about.
TINY = """--decoder-layers 2 --decoder-embed-dim 8 --decoder-ffn-embed-dim 12 --decoder-attention-heads 2
--tokens-per-sample 16 --vocab-size 20""".split()


def moec(*args):
    return subprocess.run([MOEC, *map(str, args)], capture_output=True, text=True, timeout=300)


def write(path, *flags):
    """Runs `moec model transformer_lm_gpt FLAGS -o path`; returns the model without its external data."""
    done = moec("model", "transformer_lm_gpt", *flags, "-o", path)
    if done.returncode:
        raise AssertionError(f"exit {done.returncode}: {done.stderr}")
    return onnx.load(path, load_external_data=False)


def external(tensor):
    return {entry.key: entry.value for entry in tensor.external_data}


def fill(path, weights):
    """Writes `weights` {name: array} where the model file says they lie. Every trained initializer must be given."""
    model = onnx.load(path, load_external_data=False)
    bound = {b.key for b in model.training_info[0].initialization_binding}
    unbound = bound ^ set(weights)
    if unbound:
        raise AssertionError(f"names differ: {sorted(unbound)}")
    with open(f"{path}.data", "r+b") as data:
        for tensor in model.graph.initializer:
            if tensor.name not in weights:
                continue
            value = np.ascontiguousarray(weights[tensor.name], np.float32)
            if list(value.shape) != list(tensor.dims):
                raise AssertionError(f"{tensor.name}: {list(tensor.dims)} in the model, {value.shape} given")
            place = external(tensor)
            assert int(place["length"]) == value.nbytes
            data.seek(int(place["offset"]))
            data.write(value.tobytes())
    return model


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_weights(model, seed=0, scale=0.3):
    rng = np.random.default_rng(seed)
    bound = {b.key for b in model.training_info[0].initialization_binding}
    return {
        t.name: rng.normal(0, scale, tuple(t.dims)).astype(np.float32)
        for t in model.graph.initializer
        if t.name in bound
    }


class TestCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = self.folder / "model.onnx"


def main():
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
