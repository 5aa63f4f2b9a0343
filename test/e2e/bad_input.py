"""Bad input gets one clear message and exit code 1 (input) or 2 (usage), and what was there before is still there.

What moerun alone can meet (damaged plans, checkpoints, data files, full disks) is tested in test/tools/moerun; here are the
compiler, and what goes wrong between the two programs.
"""
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import onnx

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()


def refuses(what, words, code, *texts):
    """`words` must fail with `code` and one message that has all `texts`, and leave the folder as it was."""
    before = {path: path.stat().st_mtime_ns for path in pathlib.Path().rglob("*")}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, errors="replace", timeout=60)
    after = {path: path.stat().st_mtime_ns for path in pathlib.Path().rglob("*") if path.is_file() or path in before}
    message = done.stderr
    faults = []
    if done.returncode != code:
        faults.append(f"exit code {done.returncode} instead of {code}")
    if len(re.findall(r"^error: ", message, re.M)) != 1:
        faults.append(f"{message.count('error: ')} errors reported")
    faults += [f"no '{text}' in the message" for text in texts if text not in message]
    faults += [f"'{word}' in the message" for word in ("Assertion", "Stack dump", "terminate called", "LLVM ERROR") if word in message]
    if any(after.get(path) != time for path, time in before.items() if path.is_file()):
        faults.append("a file has changed")
    faults += [f"left {path}" for path in after if path not in before and path.is_file()]
    report.check(not faults, f"{what}: {'; '.join(faults)}{':' if faults else ''} {message.strip() if faults else message.splitlines()[0]}")


def compiled(*more, source="m.onnx", sizes=("batch=4", "seq=32")):
    return ["moec", "compile", source, *(word for size in sizes for word in ("--bind", size)), "-o", "p.moe", *more]


def recipe(text):
    pathlib.Path("r.yaml").write_text(text)
    return compiled("--recipe", "r.yaml")


def train(*more, plan="p.moe"):
    return ["moerun", "train", plan, "--data", "text", "--max-update", 2, "--save-dir", "fresh", *more]


lab.letters("text", 5000)
lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 4)
lab.compile_plan("m.onnx", "p.moe", 4, 32)
model, weights, plan = (pathlib.Path(name).read_bytes() for name in ("m.onnx", "m.onnx.data", "p.moe"))

# Presets.
preset = ["moec", "model", "transformer_lm_gpt", "-o", "new.onnx"]
refuses("unknown preset", ["moec", "model", "transformer_lm_gtp", "-o", "new.onnx"], 2, "transformer_lm_gtp", "transformer_lm_gpt")
refuses("unknown flag of a preset", [*preset, "--decoder-layer", 3], 2, "--decoder-layer", "--decoder-layers")
refuses("heads that do not divide the width", [*preset, "--decoder-embed-dim", 30, "--decoder-attention-heads", 4], 1, "30", "4")
refuses("layers without experts", [*preset, "--moe-freq", 2], 1, "--moe-freq 2", "--moe-expert-count")
refuses("a layer count that is no number", [*preset, "--decoder-layers", "two"], 2, "two")
refuses("model into a folder that is not there", [*preset[:3], "-o", "no/new.onnx"], 1, "no/new.onnx", "No such file")

# Models.
refuses("no model", compiled(source="none.onnx"), 1, "none.onnx", "No such file")
for name, damaged in (("cut.onnx", model[: len(model) // 2]), ("text.onnx", b"hello, this is no model"), ("empty.onnx", b"")):
    pathlib.Path(name).write_bytes(damaged)
    refuses(name, compiled(source=name), 1, name)
altered = model.replace(b"LayerNormalization", b"LayerNormalizatiom", 1)
pathlib.Path("altered.onnx").write_bytes(altered)
refuses("unknown operation", compiled(source="altered.onnx"), 1, "LayerNormalizatiom")
pathlib.Path("m.onnx.data").write_bytes(weights[: len(weights) // 2])
refuses("weights cut off", compiled(), 1, "m.onnx.data")
os.rename("m.onnx.data", "away")
refuses("weights missing", compiled(), 1, "m.onnx.data")
refuses("weights missing when training starts", train(), 1, "m.onnx.data")
pathlib.Path("m.onnx.data").write_bytes(weights)
lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 2)
refuses("another model when training starts", train(), 1, "m.onnx", "compile")
pathlib.Path("m.onnx").write_bytes(model)
pathlib.Path("m.onnx.data").write_bytes(weights)

# Command line and recipe of the compiler.
refuses("unknown command", ["moec", "compil"], 2, "compil", "compile")
refuses("unknown flag", compiled("--recip", "r.yaml"), 2, "--recip", "--recipe")
refuses("no output", ["moec", "compile", "m.onnx"], 2, "-o")
refuses("unbound dimension", compiled(sizes=("batch=4",)), 1, "seq", "--bind")
refuses("unknown dimension", compiled("--bind", "sequence=3"), 1, "sequence")
refuses("empty batch", compiled(sizes=("batch=0", "seq=32")), 2, "batch")
refuses("more positions than the model has", compiled(sizes=("batch=4", "seq=64")), 1, "64")
refuses("unknown policy of recomputation", compiled("--recompute", "layers"), 2, "--recompute layers", "none or full")
refuses("ranks that are no mesh", compiled("--ranks", 4, "--expert-parallel", 3), 2, "--expert-parallel 3", "--ranks 4")
refuses("a batch that does not divide", compiled("--ranks", 3), 1, "4 sequences", "3 ranks", "multiple of 3")
refuses("experts that do not fit", compiled("--ranks", 3, "--expert-parallel", 3, sizes=("batch=6", "seq=32")), 1, "4 experts", "experts.fc1.weight", "--expert-parallel")
refuses("unknown way to split state", compiled("--fsdp", "some"), 2, "--fsdp some", "optimizer")
refuses("unknown processor", compiled("--target", "cpu:z80"), 2, "z80", "native")
refuses("bf16 on a processor without it", compiled("--target", "cpu:x86-64-v3", "--set", "precision.compute=bf16"), 1, "bf16", "AVX-512")
refuses("unknown CUDA device", compiled("--target", "cuda:sm_70"), 2, "sm_70", "sm_80")
refuses("too little memory", compiled("--memory", "100KiB"), 1, "--memory")
refuses("unknown phase", [*compiled()[:-2], "--emit", "fused"], 2, "fused", "fuse")
refuses("plan into a folder that is not there", [*compiled(), "-o", "no/p.moe"], 1, "no/p.moe", "No such file")
pathlib.Path("file").write_text("")
refuses("plan below a file", [*compiled(), "-o", "file/p.moe"], 1, "file/p.moe", "Not a directory")
refuses("no recipe", compiled("--recipe", "none.yaml"), 1, "none.yaml", "No such file")
refuses("unknown key", recipe("clipnorm: 1\n"), 1, "clipnorm", "clip_norm")
refuses("unknown key below", recipe("optimizer: {name: adamw, lr: 1.0e-3, weightdecay: 0}\n"), 1, "weightdecay", "weight_decay")
refuses("unknown key on the command line", compiled("--set", "optimizer.betta=1"), 1, "betta", "betas")
refuses("unknown optimizer", recipe("optimizer: {name: adamm}\n"), 1, "adamm", "adam")
refuses("text for a number", recipe("clip_norm: much\n"), 1, "clip_norm", "much")
refuses("no YAML", recipe("optimizer: {name: adamw\n"), 1, "r.yaml")
refuses("groups that do not divide the batch", recipe("routing_groups: 3\n"), 1, "routing_groups", "3")
refuses("tie of an unknown weight", recipe("tie: [[decoder.embed_token.weight, decoder.output_projection.weight]]\n"), 1,
        "decoder.embed_token.weight", "did you mean 'decoder.embed_tokens.weight'?")  # fmt: skip
refuses("tie of shapes that differ", recipe("tie: [[decoder.embed_tokens.weight, decoder.output_projection.weight^T]]\n"), 1,
        "cannot tie", "shape [260, 32]")  # fmt: skip

# No error: weights that look as if they had been one get a warning, and what it proposes ends it.
twins = onnx.load("m.onnx")
stored = np.random.default_rng(1).standard_normal((260, 32)).astype(np.float32)
for tensor in twins.graph.initializer:
    if tensor.name in ("decoder.embed_tokens.weight", "decoder.output_projection.weight"):
        tensor.CopyFrom(onnx.numpy_helper.from_array(stored, tensor.name))
onnx.save(twins, "twins.onnx")
warning = lab.run(*compiled(source="twins.onnx")).stderr
remedy = warning.partition("tie: ")[2].splitlines()[:1]
report.check(warning.startswith("warning: ") and remedy == ['[["decoder.embed_tokens.weight", "decoder.output_projection.weight"]]'],
             f"a weight that is stored twice: {warning.strip()}")  # fmt: skip
tied = lab.run(*compiled("--set", f"tie={remedy[0]}", source="twins.onnx")).stderr
report.check(tied == "", f"and is tied: {tied.strip()}")
pathlib.Path("p.moe").write_bytes(plan)

# Between the programs.
pathlib.Path("p.moe").write_bytes(plan[:8] + struct.pack("<I", 999) + plan[12:])
refuses("plan of another format", train(), 1, "p.moe", "999", "compile")
pathlib.Path("p.moe").write_bytes(plan[:-5000])
refuses("plan without the end of its kernels", train(), 1, "p.moe")
blob = bytearray(plan)
blob[len(plan) * 3 // 4] ^= 1
pathlib.Path("p.moe").write_bytes(blob)
refuses("plan with altered kernels", train(), 1, "p.moe")
pathlib.Path("p.moe").write_bytes(plan)
lab.run(os.path.join(os.environ["MOEC_BUILD"], "test/retarget_plan"), "p.moe", "quantum512", "elsewhere.moe")
for command in (train(plan="elsewhere.moe"), ["moerun", "eval", "elsewhere.moe", "--data", "text", "--save-dir", "fresh"]):
    refuses(f"{command[1]} with a plan for another CPU", command, 1, "another CPU", "quantum512", "--target cpu:native")
for name, tokens, texts in (
    ("beyond.npy", np.full(5000, 260, np.uint16), ("260", "vocabulary")),
    ("negative.npy", np.full(5000, -3, np.int64), ("-3",)),
    ("real.npy", np.zeros(5000, np.float32), ("f4",)),
):
    np.save(name, tokens)
    refuses(f"tokens of {name}", train("--data", name), 1, name, *texts)
lab.save("wrong.weights", {"decoder.embed_tokens.weight": np.zeros((260, 31), np.float32), "extra": np.zeros(1, np.float32)})
refuses("weights of another model", train("--init-state", "wrong.weights"), 1, "decoder.embed_tokens.weight", "extra", "decoder.layers.0.fc1.weight")

# MPI is absent: the part of moerun that knows it, or the library itself (here under a name that nothing has). The launcher tells
# by the environment that there are two ranks.
build = pathlib.Path(os.environ["MOEC_BUILD"])
under_mpirun = ["env", "OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2"]
for name in ("apart", "apart/bin", "apart/lib"):
    os.mkdir(name)
shutil.copy(build / "bin/moerun", "apart/bin")
refuses("ranks without the part that knows MPI", [*under_mpirun, "apart/bin/moerun", *train()[1:]], 1, "built without MPI", "libmoerun-mpi.so", "--ranks N")
if (build / "lib/libmoerun-mpi.so").exists():
    library = (build / "lib/libmoerun-mpi.so").read_bytes()
    pathlib.Path("apart/lib/libmoerun-mpi.so").write_bytes(library.replace(b"libmpi.so", b"libmpx.so"))
    refuses("ranks without MPI", [*under_mpirun, "apart/bin/moerun", *train()[1:]], 1, "libmpx.so", "cannot open shared object", "openmpi-bin")

# A run of another model: its tensors are listed, its checkpoint stays.
lab.run(*train("--save-dir", "run"))
lab.model("other.onnx")
lab.compile_plan("other.onnx", "other.moe", 4, 32)
refuses("checkpoint of another model", train("--save-dir", "run", "--resume", "--max-update", 4, plan="other.moe"), 1,
        "decoder.layers.1.fc1.weight", "decoder.layers.1.moe_layer.gate.wg.weight")  # fmt: skip
refuses("evaluation of another model", ["moerun", "eval", "other.moe", "--data", "text", "--save-dir", "run"], 1,
        "decoder.layers.1.fc1.weight", "decoder.layers.1.moe_layer.gate.wg.weight")  # fmt: skip
report.finish()
