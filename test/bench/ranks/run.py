#!/usr/bin/env python3
"""What a second rank costs: updates of one and two ranks with the same work per rank, and collectives beside MPI's own.

    python3 test/bench/ranks/run.py --build build -o test/bench/results/ranks.md

Updates: the preset of tools/demo in three widths, eight sequences per rank; one rank, two threads and two processes train
turn by turn, each on one thread per rank, and the fastest and the median update of all turns are reported. Collectives:
bytes that a rank has afterwards per second, in turns with MPI_Alltoall, MPI_Allgather and a copy of as many bytes by all
ranks at once. Other work on the machine only ever adds; the load average is in the table.
"""
import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile

import numpy as np

RANKS, ROWS, LENGTH, VOCABULARY = 2, 8, 128, 260
MESHES = {
    "data 2": (),
    "expert 2": ("--expert-parallel", "2"),
    "expert 2, fsdp full": ("--expert-parallel", "2", "--fsdp", "full"),
}


def call(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


class Bench:
    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()
        self.launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", RANKS]

    def program(self, name):
        return self.build / "bin" / name

    def compile(self, plan, width, batch, *flags):
        call(self.program("moec"), "model", "transformer_lm_gpt", "--decoder-layers", 2, "--decoder-embed-dim", width,
             "--decoder-ffn-embed-dim", 4 * width, "--decoder-attention-heads", width // 32, "--tokens-per-sample", LENGTH,
             "--vocab-size", VOCABULARY, "--moe-freq", 2, "--moe-expert-count", 4, "-o", "m.onnx")  # fmt: skip
        call(self.program("moec"), "compile", "m.onnx", "--bind", f"batch={batch}", "--bind", f"seq={LENGTH}", "--threads", 1,
             "--set", "optimizer.name=adamw", "--set", f"routing_groups={RANKS if batch > ROWS else 1}", *flags, "-o", plan)  # fmt: skip

    def updates(self, words, plan, tokens, count):
        """Seconds of each update, without the first two."""
        with tempfile.TemporaryDirectory() as folder:
            out = call(*words, self.program("moerun"), "train", plan, "--data", "text", "--save-dir", folder, "--max-update", count,
                       "--log-interval", 1, "--log-format", "json", *(() if words or plan == "one.moe" else ("--ranks", RANKS)))  # fmt: skip
        lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return [tokens / line["tokens_per_second"] for line in lines if "loss" in line][2:]

    def steps(self, rounds):
        text = "| width | mesh | one rank | two threads | two processes | threads / one | processes / one |\n|--:|---|--:|--:|--:|--:|--:|\n"
        for width in (64, 192, 384):
            self.compile("one.moe", width, ROWS)
            for mesh, flags in MESHES.items():
                self.compile("two.moe", width, ROWS * RANKS, "--ranks", RANKS, *flags)
                times = collections.defaultdict(list)
                for _ in range(rounds):
                    times["one"] += self.updates((), "one.moe", ROWS * LENGTH, 12)
                    times["threads"] += self.updates((), "two.moe", RANKS * ROWS * LENGTH, 12)
                    times["processes"] += self.updates(self.launcher, "two.moe", RANKS * ROWS * LENGTH, 12)
                best = {way: min(values) for way, values in times.items()}
                cells = [f"{best[way] * 1e3:.1f} ({statistics.median(times[way]) * 1e3:.1f})" for way in ("one", "threads", "processes")]
                text += f"| {width} | {mesh} | {' | '.join(cells)} | {best['threads'] / best['one']:.2f} | {best['processes'] / best['one']:.2f} |\n"
        return text

    def collectives(self, rounds):
        times = collections.defaultdict(list)
        program = self.build / "test/bench_collectives"
        for _ in range(rounds):
            for ways, words in (("threads", [program, RANKS, 5]), ("processes", [*self.launcher, program, 0, 5])):
                for line in call(*words).splitlines():
                    entry = json.loads(line)
                    way = {"moerun": ways, "mpi": "MPI", "copy": f"copy by {ways}"}[entry["way"]]
                    times[entry["what"], entry["bytes"], way].append((entry["best"], entry["median"]))
        ways = ("threads", "copy by threads", "processes", "MPI", "copy by processes")
        text = "| collective | KiB | threads | copy by threads | processes | MPI | copy by processes | processes / MPI |\n|---|" + "--:|" * 7 + "\n"
        for what, size in sorted({key[:2] for key in times}):
            rate = {way: size / min(best for best, _ in times[what, size, way]) / 1e9 for way in ways}
            middle = {way: size / statistics.median(median for _, median in times[what, size, way]) / 1e9 for way in ways}
            cells = " | ".join(f"{rate[way]:.2f} ({middle[way]:.2f})" for way in ways)
            text += f"| {what} | {size >> 10} | {cells} | {rate['processes'] / rate['MPI']:.2f} |\n"
        return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    output = pathlib.Path(arguments.output).resolve()
    os.environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    bench = Bench(arguments.build)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pathlib.Path("text").write_bytes(np.random.default_rng(1).integers(97, 123, 200000, dtype=np.uint8).tobytes())
        collectives, steps = bench.collectives(arguments.rounds), bench.steps(arguments.rounds)
    output.write_text(f"""\
# Two ranks beside one, and collectives beside MPI

{datetime.date.today()}, {processor()}, {os.cpu_count()} processors, load average {load:.1f} before and {os.getloadavg()[0]:.1f} after;
no device. Made by `test/bench/ranks/run.py`.

## Updates: milliseconds, fastest (median)

{ROWS} sequences of {LENGTH} tokens per rank, 2 layers, the second one of 4 experts, AdamW, one thread per rank. Ideal is 1.00.

{steps}
## Collectives of {RANKS} ranks: GB/s, fastest (median)

Bytes that a rank has afterwards; half of them were its own.

{collectives}""")


if __name__ == "__main__":
    main()
