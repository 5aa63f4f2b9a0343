"""bf16 compute is as near to float64 as PyTorch's own bf16, for every model that PyTorch exported.

Ours is `precision: {compute: bf16}`, theirs `torch.autocast(bfloat16)`, both over float32 weights. Measure: the RMS over ten
updates of how far the loss is from that of the float64 run, of which theirs may be twice exceeded; theirs is the RMS over
eight models whose weights differ by 0.1 %, since one run is one draw of rounding errors. With words as arguments: only
models whose names begin so.
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import exports
import lab

report = lab.Report()
for export in exports.all_of(sys.argv[1:]):
    for kind, run in export.runs.items():
        export.compile(kind, "plan.moe", "bf16")
        losses, theirs = export.train("plan.moe"), run["bfloat16_apart"]
        ours = np.sqrt(np.mean((losses - run["float64"]) ** 2)) if len(losses) == len(run["float64"]) else np.inf
        report.check(0 < ours <= 2 * theirs, f"{export.name} {kind}: off by {ours:.2e}, PyTorch's bf16 by {theirs:.2e}: {ours / theirs:.2f}")
report.finish()
