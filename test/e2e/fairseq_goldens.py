"""Compiled plans equal what fairseq's own MoE trainer recorded in float64: nine configurations, ten updates each.

Fairseq's world size is the number of routing groups here, its ranks' batches are rows of one batch. Tolerances: loss,
gradient norm and learning rate of every update 1e-5 relative (float32 rounding of sums over a few hundred tokens is about
1e-7; a wrong constant in the gate loss or the gradient scale is above 1e-3); every gradient of the first update 1e-5 of
its norm, plus 1e-7 of the norm of all gradients for those that are sums of cancelling terms.
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import fairseq
import lab


def compare(report, name):
    golden = fairseq.Golden(name)
    golden.prepare()
    ours, gradients = golden.run(name, golden.updates)
    exact, updates = golden.exact, golden.updates
    report.check(len(ours) == len(exact) == updates, f"{name}: {len(ours)} updates")
    wanted = {
        "loss": golden.losses(),
        "gnorm": [update["gnorm"] for update in exact],
        "lr": [update["lr_used"] for update in exact],
    }
    for key, values in wanted.items():
        got, want = np.array([line[key] for line in ours]), np.array(values)
        error = np.max(np.abs(got - want) / np.maximum(np.abs(want), 1e-9))
        report.check(error <= 1e-5, f"{name}: {key} differs by {error:.1e} of 1e-5")

    want = golden.gradients
    report.check(gradients.keys() == want.keys(), f"{name}: {len(want)} gradients {sorted(gradients.keys() ^ want.keys())}")
    floor = 1e-7 * np.sqrt(sum(np.sum(value**2) for value in want.values()))
    part, worst = max((np.linalg.norm(gradients[key] - value) / (1e-5 * np.linalg.norm(value) + floor), key)
                      for key, value in want.items() if key in gradients)  # fmt: skip
    report.check(part <= 1, f"{name}: worst gradient {worst} at {part:.2f} of its tolerance")


report = lab.Report()
folders = sorted(path.parent for path in fairseq.DATA.glob("*/config.json"))
report.check(len(folders) == 9, f"{len(folders)} configurations")
for golden in folders:
    compare(report, golden.name)
report.finish()
