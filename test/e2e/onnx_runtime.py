"""ONNX Runtime runs the file that `moec model` writes, and with the same weights and tokens finds what we find.

Logits and auxiliary loss to 1e-4 (float32, two libraries; a token routed elsewhere changes a logit by about 1). Dropout 0 and
second-expert policy `all`, as these files do not draw. A tight capacity makes the MoE cases drop tokens.
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

BATCH, SEQ = 4, 32
MOE = ["--moe-freq", 2, "--moe-expert-count", 4, "--moe-gate-loss-wt", 0.01, "--moe-second-expert-policy", "all"]
CASES = {
    "dense": [],
    "tied": ["--share-decoder-input-output-embed", "--decoder-learned-pos"],
    "top1": MOE + ["--moe-top1-expert"],
    "top2": MOE,
    "top2-groups": MOE + ["--routing-groups", 2, "--moe-eval-capacity-token-fraction", -1],
    "top2-prioritized": MOE + ["--moe-batch-prioritized-routing", "--moe-normalize-gate-prob-before-dropping"],
    "padded": MOE + ["--use-moe-pad-mask"],
}


def weights(path, random):
    """Draws values for the zeros of a preset's file, and stores them in it; {name: array} of what is trained."""
    message = onnx.load(path)
    trained = {binding.key for info in message.training_info for binding in info.initialization_binding}
    drawn = {}
    for tensor in message.graph.initializer:
        if tensor.name in trained:
            spread = 0.2 if len(tensor.dims) > 1 else 0.5
            drawn[tensor.name] = random.normal(0, spread, list(tensor.dims)).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(drawn[tensor.name], tensor.name))
    onnx.checker.check_model(message, full_check=True)
    return message.SerializeToString(), drawn


report = lab.Report()
for number, (name, flags) in enumerate(CASES.items()):
    random = np.random.default_rng(number)
    lab.model(f"{name}.onnx", *flags, "--dropout", 0, "--attention-dropout", 0)
    onnx.checker.check_model(f"{name}.onnx", full_check=True)
    lab.compile_plan(f"{name}.onnx", f"{name}.moe", BATCH, SEQ)
    model, drawn = weights(f"{name}.onnx", random)
    lab.save(f"{name}.weights", drawn)
    ids, labels = random.integers(4, 260, (2, BATCH, SEQ), dtype=np.int64)
    if name == "padded":
        ids[1, 20:] = labels[1, 20:] = ids[3, 7:] = labels[3, 7:] = 1
    lab.save(f"{name}.inputs", {"input_ids": ids[None], "labels": labels[None]})
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = dict(zip((output.name for output in session.get_outputs()), session.run(None, {"input_ids": ids, "labels": labels})))
    lab.run("moerun", "run", f"{name}.moe", "--init-state", f"{name}.weights", "--inputs", f"{name}.inputs", "--steps", 0,
            "--save-outputs", f"{name}.outputs")  # fmt: skip
    ours = lab.load(f"{name}.outputs")
    report.check(ours.keys() == wanted.keys(), f"{name}: outputs {' '.join(wanted)}")
    for key, value in wanted.items():
        error = np.max(np.abs(ours[key] - value))
        report.check(error <= 1e-4, f"{name}: {key} (largest {np.max(np.abs(value)):.3g}) differs by at most {error:.1e}")
report.finish()
