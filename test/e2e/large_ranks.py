"""Models for hundreds of ranks are compiled on a laptop: the plan is one for all ranks and does not grow with them.

A model of 1.1 T parameters (32 layers, 4096 wide, 512 experts in every second) for 8, 64 and 512 ranks, and one of 142 G
for 64. Weights are sparse files. Seconds are of the processor, so that a busy machine does not count. State per rank is
compared with an even part of all of it and one bucket, work per rank with an even part of all of it.
"""
import json
import os
import resource
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

TOKENS = 1024
report = lab.Report()


def compiled(name, batch, ranks):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["--ranks", ranks, "--expert-parallel", ranks, "--fsdp", "full", "--threads", 1, "--json"]
    done = lab.compile_plan(name, "plan.moe", batch, TOKENS, *words, recipe={"precision": {"compute": "bf16"}, "routing_groups": batch})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # The largest of all programs so far; each is checked against the same bound.
    report.check(seconds < 10 and after.ru_maxrss < 2e6, f"{name} for {ranks} ranks: {seconds:.1f} s of 10 s, at most {after.ru_maxrss / 1000:.0f} MB of 2000 MB")
    return json.loads(done.stdout), os.path.getsize("plan.moe")


def model(name, layers, width, experts, heads):
    lab.model(name, "--decoder-ffn-embed-dim", 4 * width, "--moe-freq", 2, "--moe-expert-count", experts, "--dropout", 0,
              "--share-decoder-input-output-embed", layers=layers, width=width, heads=heads, tokens=TOKENS)  # fmt: skip


model("trillion.onnx", 32, 4096, 512, 32)
plans = {ranks: compiled("trillion.onnx", 512, ranks) for ranks in (8, 64, 512)}
parameters = plans[8][0]["parameters"]
report.check(1.0e12 < parameters < 1.2e12, f"{parameters} parameters")
sizes = {ranks: size for ranks, (_, size) in plans.items()}
report.check(max(sizes.values()) < 1.1 * min(sizes.values()), f"bytes of the plans: {sizes}")
# Experts of a layer lie on all ranks, one bucket of theirs is an even part already; the largest dense one is a layer.
bucket = 4 * (4 * 4096**2 + 8 * 4096**2) * 1.01
for ranks, (plan, _) in plans.items():
    state = plan["memory"]["state"]
    even = 12 * parameters / ranks
    report.check(even <= state <= 1.001 * even + bucket, f"{ranks} ranks: {state / 2**30:.2f} GiB of state, an even part is {even / 2**30:.2f} GiB")
work = {ranks: plan["flops_per_micro_step"] * ranks for ranks, (plan, _) in plans.items()}
report.check(max(work.values()) <= 1.15 * min(work.values()), f"FLOPs of all ranks together: {work}")

# The largest of fairseq's examples: 142 G parameters, one expert per rank.
model("fairseq.onnx", 32, 4096, 64, 32)
plan, _ = compiled("fairseq.onnx", 64, 64)
report.check(1.41e11 < plan["parameters"] < 1.43e11, f"{plan['parameters']} parameters")
report.finish()
