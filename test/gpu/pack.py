#!/usr/bin/env python3
"""Fills a folder with what a machine with a GPU, but without MLIR, needs for test/gpu/check.py and test/bench/gpu/run.py.

    .venv/bin/python test/gpu/pack.py --build build --target sm_90 -o build/gpu

moerun, its libraries (not those of CUDA, C and C++), the kernels' tests, plans, inputs, and what a plan for the CPU computes
from them. At most 64 MiB: first weights are drawn there, from the seed of the recipe. With `--target simulated` the same
scripts run here, as a rehearsal; `--small` takes sizes that the simulated device has in seconds.
"""
import argparse
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))
from torch_peer import safetensors  # noqa: E402
from torch_peer.settings import Config, Recipe  # noqa: E402

LIMIT = 64 << 20
FIRST_TOKEN, UPDATES = 4, 4  # updates of test/gpu
# Of C, C++ and CUDA: the machine has its own, made for each other.
FOREIGN = re.compile(r"^(ld-linux|lib(c|m|dl|pthread|rt|stdc\+\+|gcc_s)\.so|libcu|libnv)")

SMALL = Config(layers=2, width=64, ffn=128, heads=2, length=32, experts=4)
LARGE = Config(layers=24, width=2048, ffn=8192, heads=16, length=1024, vocabulary=50000)


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    config: Config
    rows: int  # sequences of a batch
    compute: str

    @property
    def size(self):
        return self.name.split("-")[0]


def models(small):
    """demo: compared with the CPU, measured. small: for tools that take long. large: measured."""
    demo, large = ((SMALL, 4), (SMALL, 4)) if small else ((Config(), 16), (LARGE, 8))
    return [Model("demo-f32", *demo, "f32"), Model("demo-bf16", *demo, "bf16"), Model("small-f32", SMALL, 4, "f32"),
            Model("large-bf16", *large, "bf16")]  # fmt: skip


def call(*words):
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def compile_plan(args, model, target, plan, folder):
    """Writes the plan; returns moec's report."""
    onnx, recipe = folder / "model.onnx", folder / "recipe.yaml"
    recipe.write_text(Recipe().yaml())
    call(args.build / "bin/moec", "model", "transformer_lm_gpt", *model.config.flags(), "-o", onnx)
    return json.loads(call(args.build / "bin/moec", "compile", onnx, "--recipe", recipe, "--target", target, "--bind",
                           f"batch={model.rows}", "--bind", f"seq={model.config.length}", "--set",
                           f"precision.compute={model.compute}", "--json", "-o", plan))  # fmt: skip


def libraries(path):
    """Files that a program or library is linked with, and those with; without the foreign ones."""
    found = re.findall(r"(\S+) => (/\S+)", call("ldd", path))
    return {name: pathlib.Path(file) for name, file in found if not FOREIGN.match(name)}


def pack_programs(args):
    simulated = args.target == "simulated"
    kernels = args.build / "test" / ("cuda_kernels_test" if simulated else "cuda_kernels_on_device")
    backend = pathlib.Path("lib") / ("simulated" if simulated else "") / "libmoerun-cuda.so"
    files = {"bin/moerun": args.build / "bin/moerun", "bin/kernels": kernels, backend: args.build / backend}
    if not simulated:
        files["lib/libmoec_count_calls.so"] = args.build / "test/libmoec_count_calls.so"
    for file in list(files.values()):
        if not file.exists():
            raise SystemExit(f"{file} is not built")
        files |= {f"lib/{name}": path for name, path in libraries(file).items()}
    for name, file in files.items():
        (args.out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, args.out / name)


def pack_inputs(args, model):
    """Random tokens, the same for all programs."""
    path = args.out / f"{model.size}.safetensors"
    tokens = np.random.default_rng(1).integers(FIRST_TOKEN, model.config.vocabulary, (args.batches, model.rows, model.config.length + 1))
    safetensors.save(path, {"input_ids": np.ascontiguousarray(tokens[..., :-1]), "labels": np.ascontiguousarray(tokens[..., 1:])})
    return path


def pack_model(args, model, folder):
    """What the index says of a model."""
    plan, inputs = f"{model.name}.moe", pack_inputs(args, model)
    report = compile_plan(args, model, f"cuda:{args.target}", args.out / plan, folder)
    entry = {"name": model.name, "plan": plan, "inputs": inputs.name, "rows": model.rows, "compute": model.compute,
             "config": dataclasses.asdict(model.config), "recipe": dataclasses.asdict(Recipe()), "updates": UPDATES, "batches": args.batches,
             "flops": report["flops_per_micro_step"], "parameters": report["parameters"], "memory": report["memory"]}  # fmt: skip
    if model.size == "demo" and model.compute == "f32":
        on_cpu, gradients = folder / "cpu.moe", args.out / "demo-gradients.safetensors"
        compile_plan(args, model, "cpu:native", on_cpu, folder)
        said = call(args.build / "bin/moerun", "run", on_cpu, "--inputs", inputs, "--steps", UPDATES, "--save-gradients",
                    gradients, "--log-format", "json")  # fmt: skip
        losses = [json.loads(line)["loss"] for line in said.splitlines() if line.startswith("{")]
        (args.out / "demo-losses.json").write_text(json.dumps(losses) + "\n")
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder, all of it built")
    parser.add_argument("--target", default="sm_90", help="as in moec compile --target cuda:TARGET")
    parser.add_argument("--small", action="store_true", help="sizes for the simulated device")
    parser.add_argument("-o", "--out", type=pathlib.Path, required=True, help="folder, overwritten if pack.py has made it")
    args = parser.parse_args()
    args.build = args.build.resolve()
    args.batches = 4 if args.small else 12  # updates of test/bench/gpu
    if args.out.exists():
        if not (args.out / "index.json").exists():
            raise SystemExit(f"{args.out} exists, and pack.py has not made it")
        shutil.rmtree(args.out)
    args.out.mkdir(parents=True)
    (args.out / "index.json").write_text("{}\n")  # unfinished
    pack_programs(args)
    letters = np.random.default_rng(2).integers(97, 123, 1 << 17, dtype=np.uint8)
    (args.out / "text").write_bytes(letters.tobytes())
    with tempfile.TemporaryDirectory() as folder:
        entries = [pack_model(args, model, pathlib.Path(folder)) for model in models(args.small)]
    index = {"target": args.target, "text": "text", "models": entries}
    (args.out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out}: {size / 2**20:.1f} MiB for {args.target}")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT >> 20} MiB")


if __name__ == "__main__":
    main()
