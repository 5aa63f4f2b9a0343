"""Transformers that PyTorch exported train as PyTorch trains them.

`test/data/onnx/*` holds exports of public model code, ten batches each, and what PyTorch computed from them in float64:
outputs and gradients of update 0, losses of ten updates with SGD and AdamW. Tolerance: 1e-5 of the norm of a tensor, ten
times what PyTorch's own float32 is off, plus 1e-7 of the norm of all gradients for those that are zero in exact
arithmetic (biases of keys). With words as arguments: only models whose names begin so.
"""
import os
import pathlib
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import exports
import lab

report = lab.Report()


def wrong_by(got, want, floor):
    """Distance in tolerances."""
    if got is None or got.shape != want.shape or not np.isfinite(got).all():
        return np.inf
    want = want.astype(np.float64)
    return np.linalg.norm(got - want) / (1e-5 * np.linalg.norm(want) + floor)


def compare(export, kind, *flags):
    name = " ".join([export.name, kind, *flags])
    wanted = export.runs[kind]
    export.compile(kind, "plan.moe", "f32", *flags)
    losses, exact = export.train("plan.moe", "--save-gradients", "gradients", "--save-outputs", "outputs"), np.array(wanted["float64"])
    near = losses.shape == exact.shape and np.all(np.abs(losses - exact) <= 1e-5 * np.abs(exact))
    report.check(near, f"{name}: losses" + ("" if near else f" {losses} expected {exact}"))
    outputs, gradients = lab.load("outputs"), lab.load("gradients")
    expected = {key[5:] for key in export.tensors if key.startswith("grad.")}
    odd = sorted(gradients.keys() ^ expected)
    report.check(not odd, f"{name}: gradients of {len(expected)} weights{': not both here and there ' if odd else ''}{', '.join(odd[:4])}")
    got = {f"grad.{key}": value for key, value in gradients.items()} | {f"output.{key}": value for key, value in outputs.items()}
    errors = {key: wrong_by(got.get(key), want, 1e-7 * export.gradient_norm) for key, want in export.tensors.items()}
    worst = max(errors, key=errors.get)
    report.check(errors[worst] <= 1, f"{name}: worst of {len(errors)} tensors {worst} by {errors[worst]:.2f} of the tolerance")


simulated = pathlib.Path(os.environ["MOEC_BUILD"], "lib/simulated/libmoerun-cuda.so").exists()
for export in exports.all_of(sys.argv[1:]):
    for kind in export.runs:
        compare(export, kind)
    # Its attention has windows and softcaps.
    if simulated and export.name.startswith("gemma2"):
        compare(export, next(iter(export.runs)), "--target", "cuda:simulated")
report.finish()
