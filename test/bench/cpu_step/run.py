#!/usr/bin/env python3
"""Training updates of moerun, PyTorch eager, torch.compile and JAX, taking turns on one machine.

    python3 test/bench/cpu_step/run.py --bin build/bin -o test/bench/results/cpu_step

Models: `moe` (the preset of tools/demo against the peer in torch_peer), `gpt2` and `llama` (of transformers, against what its
exporter makes of them), at three widths. Same first weights, batches, compute type, threads; each update is forward,
backward, clipping and AdamW with float32 master weights (bf16 is torch.autocast on PyTorch's side). Each round gives each
program a few updates in a row; of all its updates the fastest and the median are reported, since other work on the machine
only ever adds. Needs PyTorch, transformers, JAX and the C++ compiler that torch.compile calls. Writes OUT.json and OUT.md.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from torch_peer import programs, safetensors  # noqa: E402
from torch_peer.settings import Config, Recipe  # noqa: E402

FIRST_TOKEN, BATCHES = 4, 4
# Relative, of a first loss: sums over some thousand tokens in float32; values of 8 bits.
LOSS_TOLERANCES = {"f32": 1e-5, "bf16": 1e-3}
STATE_BYTES = 16  # of a parameter: itself, its gradient, two moments


@dataclasses.dataclass(frozen=True)
class Size:
    width: int
    heads: int
    rows: int


SIZES = {64: Size(64, 2, 16), 192: Size(192, 6, 16), 768: Size(768, 12, 8)}
PEERS = ("eager", "compile", "jax")
KINDS = ("moe", "gpt2", "llama")


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str
    size: Size
    compute: str

    @property
    def name(self):
        return f"{self.kind} {self.size.width} {self.compute}"

    def config(self):
        """Length and vocabulary are those of all kinds, the rest is that of `moe`."""
        return Config(width=self.size.width, ffn=4 * self.size.width, heads=self.size.heads)

    def compile(self, args, folder):
        """(plan, moec's report); the weights of `moe` are drawn by moerun, the others' lie in the ONNX file."""
        recipe = Recipe().yaml() + f"precision: {{compute: {self.compute}}}\n"
        if self.kind == "moe":
            model = folder / "model.onnx"
            programs.call([args.bin / "moec", "model", "transformer_lm_gpt", *self.config().flags(), "-o", model])
        else:
            model = self.export(folder)
            recipe += f"loss: {{cross_entropy: {{logits: logits, labels: labels, ignore_index: {self.config().pad}}}}}\n"
        (folder / "recipe.yaml").write_text(recipe)
        plan = folder / "model.moe"
        bind = ["--bind", f"batch={self.size.rows}", "--bind", f"seq={self.config().length}"] if self.kind == "moe" else []
        report = programs.call([args.bin / "moec", "compile", model, "--recipe", folder / "recipe.yaml", *bind, "--threads",
                                args.threads, "--json", "-o", plan])  # fmt: skip
        return plan, json.loads(report)

    def export(self, folder):
        """In a process of its own: the exporter leaves much behind."""
        import foreign

        model = folder / "model.onnx"
        shape = foreign.Shape(self.kind, self.size.width, self.size.heads)
        subprocess.run([sys.executable, pathlib.Path(foreign.__file__), json.dumps(dataclasses.asdict(shape)), str(self.size.rows),
                        str(model)], check=True, capture_output=True)  # fmt: skip
        return model


def processor_seconds(pid):
    """Processor time of all threads of a process so far."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except OSError:  # the thread has ended
            pass
    return total * 1e-9


def peak_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclasses.dataclass
class Turn:
    """What one program did in one round."""

    seconds: list
    processor: float  # seconds per update
    losses: list
    peak: int


class Moerun:
    """A new process each round, from the first weights; its first update, which touches all memory, is not counted."""

    name = "moerun"

    def __init__(self, args, plan, inputs):
        self.command = [args.bin / "moerun", "run", plan, "--inputs", inputs, "--log-format", "json"]

    def turn(self, updates):
        updates = min(updates, BATCHES - 1)
        command = [str(word) for word in [*self.command, "--steps", updates + 1]]
        arrivals, losses = [], []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if '"loss"' not in line:
                    continue
                arrivals.append((time.perf_counter(), processor_seconds(process.pid)))
                losses.append(json.loads(line)["loss"])
                peak = peak_bytes(process.pid)
        if process.returncode != 0 or len(losses) != updates + 1:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        seconds = [b[0] - a[0] for a, b in zip(arrivals, arrivals[1:])]
        return Turn(seconds, (arrivals[-1][1] - arrivals[0][1]) / updates, losses, peak)

    def close(self):
        pass


class Peer:
    """A worker program. One process for all rounds; two updates of its first turn warm up."""

    def __init__(self, args, case, mode, initial, inputs):
        self.name = "JAX" if mode == "jax" else f"PyTorch {mode}"
        job = {"kind": case.kind, "compute": case.compute, "config": dataclasses.asdict(case.config()),
               "recipe": dataclasses.asdict(Recipe()), "mode": mode, "threads": args.threads, "initial": str(initial),
               "inputs": str(inputs)}  # fmt: skip
        worker = pathlib.Path(__file__).with_name("jax_worker.py" if mode == "jax" else "torch_worker.py")
        environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
        self.process = subprocess.Popen([sys.executable, worker, json.dumps(job)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)  # fmt: skip
        self.first = self.ask(2)["losses"]

    def ask(self, updates):
        self.process.stdin.write(f"{updates}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name} has ended")
        return json.loads(answer)

    def turn(self, updates):
        before = processor_seconds(self.process.pid)
        answer = self.ask(updates)
        processor = (processor_seconds(self.process.pid) - before) / updates
        return Turn(answer["seconds"], processor, self.first, answer["peak_bytes"])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def product_times(args, plan):
    """moerun bench's record: `seconds` of all steps, `product_seconds` of matrix products and attention alone."""
    done = subprocess.run([args.bin / "moerun", "bench", plan, "--steps", "5", "--json"], capture_output=True, text=True)
    return programs.records(done.stdout)[-1] if done.returncode == 0 else None


def measure(args, case, folder):
    config, size = case.config(), case.size
    plan, report = case.compile(args, folder)
    tokens = np.random.default_rng(1).integers(FIRST_TOKEN, config.vocabulary, (BATCHES, size.rows, config.length + 1))
    inputs, initial = folder / "inputs.safetensors", folder / "initial.safetensors"
    safetensors.save(inputs, {"input_ids": np.ascontiguousarray(tokens[..., :-1]),
                              "labels": np.ascontiguousarray(tokens[..., 1:])})  # fmt: skip
    programs.call([args.bin / "moerun", "run", plan, "--inputs", inputs, "--steps", 0, "--save-state", initial])

    turns, peers = {}, [Moerun(args, plan, inputs)]
    for mode in args.peers:
        print(f"{case.name}: starting {mode}", flush=True)
        peers.append(Peer(args, case, mode, initial, inputs))
    profile = None
    for number in range(args.rounds):
        for peer in peers:
            turn = peer.turn(args.updates)
            turns.setdefault(peer.name, []).append(turn)
            print(f"{case.name}, round {number + 1}: {peer.name} {min(turn.seconds) * 1e3:.1f} ms, "
                  f"processor {turn.processor * 1e3:.1f} ms", flush=True)  # fmt: skip
        again = product_times(args, plan)
        if again and (not profile or again["product_seconds"] < profile["product_seconds"]):
            profile = again
    for peer in peers:
        peer.close()

    exact = turns["moerun"][0].losses[:2]
    for name, list_of_turns in turns.items():
        for ours, theirs in zip(exact, list_of_turns[0].losses[:2]):
            if abs(ours - theirs) > LOSS_TOLERANCES[case.compute] * abs(theirs):
                raise SystemExit(f"{case.name}: {name} does not train the same model: loss {theirs}, ours {ours}")
    count = size.rows * config.length
    rows = []
    for name, list_of_turns in turns.items():
        seconds = [s for turn in list_of_turns for s in turn.seconds]
        rows.append({
            "program": name, "fastest": min(seconds), "median": statistics.median(seconds), "updates": len(seconds),
            "tokens_per_second": count / min(seconds),
            "processor_seconds": min(turn.processor for turn in list_of_turns),
            "peak_bytes": max(turn.peak for turn in list_of_turns),
            "step_bytes": max(turn.peak for turn in list_of_turns) - STATE_BYTES * report["parameters"],
        })  # fmt: skip
    return {"model": case.kind, "compute": case.compute, "width": size.width, "tokens": count, "parameters": report["parameters"], "rows": rows,
            "certificate_bytes": report["memory"]["total"],
            "profile": {key: profile[key] for key in ("seconds", "product_seconds", "wall_seconds")} if profile else None,
            "first_losses": exact}  # fmt: skip


def table(result):
    head = result["surroundings"]
    lines = [
        f"# One training update beside PyTorch and JAX, {head['date']}",
        "",
        f"{head['cpu']}, threads: {head['threads']}; PyTorch {head['torch']}; forward, backward, clipping and AdamW, float32 master weights. "
        f"4 layers, 256 positions; moe: 8 experts (top-2) in every second layer. {head['rounds']} rounds in turns; load average of the "
        f"machine {head['load'][0]:.1f} at the start, {head['load'][1]:.1f} at the end (a quiet machine shows about 2).",
        "",
        "Fastest and median update; processor time of all threads per update, least of the rounds. Peak: of the process, of the others above their imports; "
        "step: that without 16 bytes for each parameter (itself, gradient, moments). GEMMs: the plan's matrix products and attention steps, "
        "as `moerun bench` times them (attention with its softmax); what is divided by them is the processor time if there is one thread, "
        "else the fastest update.",
        "",
        "| model | width | compute | program | tokens/s | fastest ms | median ms | processor ms | ÷ GEMMs | peak MiB | step MiB | "
        "time ÷ moerun's | processor ÷ moerun's |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in result["sizes"]:
        ours = size["rows"][0]
        products = size["profile"]["product_seconds"] if size["profile"] else None
        for row in size["rows"]:
            # One thread waits for no other: its processor time is what a machine without other work would need.
            step = row["processor_seconds"] if head["threads"] == 1 else row["fastest"]
            ratio = f"{step / products:.2f}" if products else ""
            lines.append(
                f"| {size['model']} | {size['width']} | {size['compute']} | {row['program']} | {row['tokens_per_second']:.0f} | "
                f"{row['fastest'] * 1e3:.1f} | {row['median'] * 1e3:.1f} | {row['processor_seconds'] * 1e3:.1f} | {ratio} | "
                f"{row['peak_bytes'] / 2**20:.0f} | {row['step_bytes'] / 2**20:.0f} | {row['fastest'] / ours['fastest']:.2f} | "
                f"{row['processor_seconds'] / ours['processor_seconds']:.2f} |")  # fmt: skip
    lines.append("")
    for size in result["sizes"]:
        text = (f"{size['model']} {size['width']} {size['compute']}: {size['parameters']} parameters, certificate "
                f"{size['certificate_bytes'] / 2**20:.0f} MiB")  # fmt: skip
        if size["profile"]:
            p = size["profile"]
            text += (f"; steps one by one {p['seconds'] * 1e3:.1f} ms, GEMMs of them {p['product_seconds'] * 1e3:.1f} ms, "
                     f"ratio {p['seconds'] / p['product_seconds']:.2f}")  # fmt: skip
        lines += [text + ".", ""]
    return "\n".join(lines).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of moec and moerun")
    parser.add_argument("--models", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--compute", nargs="+", default=["f32"], choices=list(LOSS_TOLERANCES))
    parser.add_argument("--widths", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=3, help=f"measured in a row in a round, at most {BATCHES - 1}")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="writes OUT.json and OUT.md")
    args = parser.parse_args()
    if not 1 <= args.updates < BATCHES:
        parser.error(f"--updates must be 1 to {BATCHES - 1}")
    load, sizes = [os.getloadavg()[0]], []
    surroundings = programs.surroundings() | {"threads": args.threads, "rounds": args.rounds}
    for case in (Case(kind, SIZES[width], compute) for width in args.widths for kind in args.models for compute in args.compute):
        with tempfile.TemporaryDirectory() as folder:
            sizes.append(measure(args, case, pathlib.Path(folder)))
        result = {"surroundings": surroundings | {"load": load + [os.getloadavg()[0]]}, "sizes": sizes}
        if args.out:  # after each size: the larger ones take long
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
            args.out.with_suffix(".md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
