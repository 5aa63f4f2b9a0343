"""Public bugs of loading and saving experts on many ranks, made again with experts that all differ.

All ranks loaded the experts of rank 0, or a checkpoint had the experts of one rank, and training went on:
https://github.com/huggingface/transformers/pull/45662, https://github.com/KempnerInstitute/KempnerForge/issues/202,
https://github.com/verl-project/verl/issues/2086. Others are modules in test/mesh/bugs and tests in test/mesh/BugsTest.cpp.
"""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

MESHES = {"one": (1,), "split": (4, "--expert-parallel", 4, "--fsdp", "full"), "replicas": (4, "--expert-parallel", 2)}
report = lab.Report()
random = np.random.default_rng(3)
lab.letters("text", 20000)
lab.save("inputs", {name: random.integers(4, 260, (1, 8, 16), dtype=np.int64) for name in ("input_ids", "labels")})
lab.model("model.onnx", "--moe-freq", 2, "--moe-expert-count", 8, width=16, heads=2, tokens=16)
for name, words in MESHES.items():
    # So small a rate that no weight changes, and a common one.
    for rate in (1e-30, 0.1):
        recipe = {"optimizer": {"name": "sgd", "lr": rate}, "routing_groups": 4}
        lab.compile_plan("model.onnx", f"{name}{rate}.moe", 8, 16, "--threads", 1, "--ranks", *words, recipe=recipe)


def run(name, *words):
    done = lab.run("moerun", "run", f"{name}1e-30.moe", "--ranks", MESHES[name][0], "--inputs", "inputs", "--steps", 1, "--log-format", "json",
                   "--save-state", f"{name}.state", *words)  # fmt: skip
    return lab.records(done.stdout)[0]["loss"], lab.load(f"{name}.state")


# From a file.
state = {name: random.normal(0, 0.3, value.shape).astype(np.float32) for name, value in run("one")[1].items()}
lab.save("file", state)
losses = {}
for name in MESHES:
    losses[name], loaded = run(name, "--init-state", "file")
    report.check(all(np.array_equal(loaded[key], value) for key, value in state.items()), f"{name}: every rank has its own experts")
report.check(all(abs(loss - losses["one"]) < 1e-5 * losses["one"] for loss in losses.values()), f"losses are those of one rank: {losses}")

# Into a checkpoint, and from that of another mesh.
saved = {}
for name, (ranks, *_) in MESHES.items():
    lab.run("moerun", "train", f"{name}0.1.moe", "--ranks", ranks, "--data", "text", "--save-dir", name, "--max-update", 2)
    lab.run("moerun", "export", f"{name}0.1.moe", "--ranks", ranks, "--save-dir", name, "--output", f"{name}.exported")
    saved[name] = lab.load(f"{name}.exported")
    off, worst = lab.gap(saved["one"], saved[name], 1e-5)
    report.check(off <= 1, f"{name}: the checkpoint has all experts; {worst} is {off:.3f} of the tolerance off")
experts = saved["split"]["decoder.layers.1.moe_layer.experts.fc1.weight"]
report.check(len({expert.tobytes() for expert in experts}) == len(experts) == 8, "experts in the checkpoint all differ")
lab.run("moerun", "train", "replicas0.1.moe", "--ranks", 4, "--data", "text", "--save-dir", "split", "--max-update", 3, "--resume")
lab.run("moerun", "export", "replicas0.1.moe", "--ranks", 4, "--save-dir", "split", "--output", "resumed")
lab.run("moerun", "train", "one0.1.moe", "--data", "text", "--save-dir", "one", "--max-update", 3, "--resume")
lab.run("moerun", "export", "one0.1.moe", "--save-dir", "one", "--output", "straight")
off, worst = lab.gap(lab.load("straight"), lab.load("resumed"), 1e-5)
report.check(off <= 1, f"a checkpoint of 1 x 4 goes on as 2 x 2; {worst} is {off:.3f} of the tolerance off")
report.finish()
