"""A model that no machine at hand can train is compiled like any other: quickly, in little memory, with its certificate.

4.0 G parameters; its weights are a sparse file. Seconds are of the processor, so that a busy machine does not count.
"""
import json
import os
import resource
import shutil
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

LAYERS, WIDTH, EXPERTS, VOCABULARY, TOKENS, BATCH = 24, 2048, 8, 260, 2048, 4
report = lab.Report()
lab.model("large.onnx", "--decoder-ffn-embed-dim", 4 * WIDTH, "--moe-freq", 2, "--moe-expert-count", EXPERTS, "--moe-gate-loss-wt", 0.01,
          layers=LAYERS, width=WIDTH, heads=16, tokens=TOKENS)  # fmt: skip
report.check(os.stat("large.onnx.data").st_blocks * 512 < 64 << 20, "the file of zeros takes no room on the disk")
before = resource.getrusage(resource.RUSAGE_CHILDREN)
printed = json.loads(lab.compile_plan("large.onnx", "large.moe", BATCH, TOKENS, "--json").stdout)
after = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
report.check(seconds < 20, f"compiled in {seconds:.1f} s of 20 s")
report.check(after.ru_maxrss < 1e6, f"in {after.ru_maxrss / 1000:.0f} MB of 1000 MB")  # the larger of `moec`s two runs, in KB

# Counted here from fairseq's layers: weights and biases of attention, norms, dense and expert feed-forward layers, gates.
linear = lambda inputs, outputs: inputs * outputs + outputs
feed_forward = linear(WIDTH, 4 * WIDTH) + linear(4 * WIDTH, WIDTH)
layer = 4 * linear(WIDTH, WIDTH) + 2 * 2 * WIDTH
parameters = (LAYERS * layer + LAYERS // 2 * (feed_forward + EXPERTS * feed_forward + EXPERTS * WIDTH)
              + 2 * VOCABULARY * WIDTH + 2 * WIDTH)  # fmt: skip
report.check(printed["parameters"] == parameters, f"{printed['parameters']} parameters, {parameters} counted")
memory = printed["memory"]
report.check(memory["total"] == sum(memory[key] for key in ("state", "gradients", "step", "staging")),
             f"certificate: {memory['total'] / 2**30:.2f} GiB")  # fmt: skip
# Master weights and two moments; one gradient. The rest of the state: positions, counters, metrics, padding.
report.check(1 <= memory["state"] / (12 * parameters) < 1.01, f"state: {memory['state'] / 2**30:.2f} GiB")
report.check(1 <= memory["gradients"] / (4 * parameters) < 1.001, f"gradients: {memory['gradients'] / 2**30:.2f} GiB")
report.check(1 <= printed["arena_ratio"] <= 1.02, f"step arena: {memory['step'] / 2**30:.2f} GiB, {printed['arena_ratio']} of its lower bound")
# Two passes over the weights of a token backward for one forward; experts get 2 * tokens rows (top-2).
used = LAYERS * 4 * WIDTH**2 + LAYERS // 2 * 3 * 8 * WIDTH**2 + VOCABULARY * WIDTH
flops = 6 * BATCH * TOKENS * used
report.check(1 <= printed["flops_per_micro_step"] / flops < 1.2, f"{printed['flops_per_micro_step']:.3g} FLOPs, {flops:.3g} without attention")

# The same for a GPU that is not there, in bf16; to machine code where the toolkit's assembler is.
before = resource.getrusage(resource.RUSAGE_CHILDREN)
printed = json.loads(lab.compile_plan("large.onnx", "large.moe", BATCH, TOKENS, "--json", "--target", "cuda:sm_90",
                                      recipe={"precision": {"compute": "bf16"}}).stdout)  # fmt: skip
after = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
report.check(seconds < 20, f"compiled for sm_90 in {seconds:.1f} s of 20 s")
report.check(1 <= printed["arena_ratio"] <= 1.02 and printed["memory"]["total"] < 139 * 2**30,
             f"certificate: {printed['memory']['total'] / 2**30:.2f} GiB of the 139 GiB of an H200")  # fmt: skip
images = json.loads(lab.run("moec", "inspect", "large.moe", "--json").stdout)["images"]
assembler = shutil.which("ptxas", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
report.check([image["format"] for image in images] == ["cubin" if assembler else "ptx"], f"images: {images}")
report.finish()
