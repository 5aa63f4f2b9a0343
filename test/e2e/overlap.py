"""Communication during computation changes when things happen, not what comes out.

A small model with experts on 2 x 2 ranks: with --overlap on every loss, gradient and weight has the bits that it has with
--overlap off, for each --fsdp, with and without recomputation, one micro-batch or several. The step arena grows by one
gathered bucket at most, and computation waits for less: the report of the compiler says so.
"""
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

BATCH, SEQ, VOCABULARY, RANKS = 8, 16, 60, 4
report = lab.Report()
random = np.random.default_rng(7)


def inputs(path, batches):
    tokens, labels = (random.integers(4, VOCABULARY, (batches, BATCH, SEQ), dtype=np.int64) for _ in range(2))
    lab.save(path, {"input_ids": tokens, "labels": labels})


def train(overlap, accumulate, compute, *flags):
    recipe = {"routing_groups": 4, "accumulate": accumulate, "clip_norm": 0.1, "seed": 2, "precision": {"compute": compute}}
    plan = f"{overlap}.moe"
    done = lab.compile_plan("model.onnx", plan, BATCH, SEQ, "--threads", 1, "--ranks", RANKS, "--expert-parallel", 2, "--overlap", overlap,
                            "--json", *flags, recipe=recipe)  # fmt: skip
    run = lab.run("moerun", "run", plan, "--ranks", RANKS, "--inputs", f"inputs{accumulate}", "--steps", 2, "--log-format", "json",
                  "--save-gradients", "gradients", "--save-state", "weights")  # fmt: skip
    losses = [(each["loss"], each["gnorm"]) for each in lab.records(run.stdout)]
    return json.loads(done.stdout), (losses, lab.digest("gradients"), lab.digest("weights"))


def exposed(said, program):
    """Seconds for which computation waits for communication, and those that communication takes, by the report."""
    rows = said["programs"][program]["communication"]
    return sum(row["exposed_seconds"] for row in rows), sum(row["seconds"] for row in rows)


lab.model("model.onnx", "--moe-freq", "2", "--moe-expert-count", "4", "--dropout", "0.1", "--share-decoder-input-output-embed",
          layers=4, width=32, heads=2, tokens=SEQ, vocabulary=VOCABULARY)  # fmt: skip
for accumulate in (1, 2):
    inputs(f"inputs{accumulate}", 2 * accumulate)
# The largest bucket is one of experts: two of a rank, each of two matrices and biases.
bucket = 4 * 2 * (2 * 32 * 64 + 32 + 64) * 1.1
for fsdp, recompute, accumulate in (("off", "none", 2), ("optimizer", "none", 1), ("full", "none", 1), ("full", "full", 2)):
    compute = "bf16" if accumulate == 2 else "f32"
    flags = ("--fsdp", fsdp, "--recompute", recompute)
    (on, bits), (off, same) = (train(overlap, accumulate, compute, *flags) for overlap in ("on", "off"))
    what = f"--fsdp {fsdp} --recompute {recompute}, {accumulate} micro-batches, {compute}"
    report.check(bits == same, f"{what}: the same bits")
    grown = on["memory"]["step"] - off["memory"]["step"]
    report.check(grown <= bucket, f"{what}: {grown} bytes more in the step arena, of {bucket:.0f}")
    for program in ("micro_step", "update"):
        (waits, takes), (before, took) = (exposed(said, program) for said in (on, off))
        report.check(waits < before and before <= took * (1 + 1e-9) and abs(takes - took) <= 1e-9 * took,
                     f"{what}, {program}: {1e6 * waits:.1f} of {1e6 * takes:.1f} us exposed, {1e6 * before:.1f} without overlap")  # fmt: skip
report.finish()
