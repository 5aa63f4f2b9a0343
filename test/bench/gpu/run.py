#!/usr/bin/env python3
"""How fast is training on a device? One call, at most nine minutes, on a machine with a GPU, CUDA 13 and PyTorch.

    python3 test/bench/gpu/run.py FOLDER [-o TABLE.md]

FOLDER: from test/gpu/pack.py. Prints a table whose first line says whether it ran on a device: training of the demo and of
the model of 4.13 B parameters beside PyTorch eager and torch.compile, and how many bytes each kind of step moves in a
second beside a copy on the device. The exit status is 1 if a row failed.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "gpu/support"), str(HERE.parent)]
from carried import Carried, Failed, Skipped, Table, call, records  # noqa: E402

# Dense products of bfloat16 (of float32 without TF32), FLOP/s, from the vendor's data sheets.
PEAKS = {"A100": (312e12, 19.5e12), "H100": (989e12, 67e12), "H200": (989e12, 67e12), "B200": (2250e12, 80e12)}
WARM_UP = 2
COLUMNS = ["words/s", "ms", "MFU", "device MiB", "certificate MiB", "start to first update, s", "more"]


class MemoryWatch:
    """The most device memory that a process had while it was watched, as nvidia-smi says."""

    def __init__(self, pid):
        self.pid, self.peak, self.done = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        words = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        while not self.done.wait(0.2):
            try:
                said = subprocess.run(words, capture_output=True, text=True, timeout=10).stdout
                used = {int(pid): int(mib) for pid, mib in (line.split(",") for line in said.splitlines())}
                # Inside a container pids are those of the host: the only process is ours.
                self.peak = max(self.peak, used.get(self.pid, next(iter(used.values())) if len(used) == 1 else 0))
            except (OSError, ValueError, subprocess.TimeoutExpired):
                pass

    def finish(self):
        self.done.set()
        self.thread.join()
        return self.peak


class Bench:
    def __init__(self, carried, table, on_device, sentence):
        self.carried, self.table, self.on_device = carried, table, on_device
        self.peaks = next((peaks for name, peaks in PEAKS.items() if name in sentence), None)
        self.copy = None  # bytes per second

    def cells(self, model, seconds, memory, certificate, start, more):
        """Columns of a row; `seconds`: of each update after the warm-up."""
        if not seconds:
            raise Failed("no update was measured")
        median = statistics.median(seconds)
        words = model["rows"] * model["config"]["length"]
        share = ""
        if self.peaks and self.on_device:
            share = f"{model['flops'] / median / self.peaks[model['compute'] == 'f32'] * 100:.1f} %"
        mib = lambda value: f"{value:.0f}" if value else ""
        return [f"{words / median:.0f}", f"{median * 1e3:.2f}", share, mib(memory), mib(certificate), f"{start:.1f}", more]

    def moerun(self, model):
        """Updates from a new process: each is one graph launch from the second on."""
        words = [self.carried.moerun, "run", self.carried.folder / model["plan"], "--inputs",
                 self.carried.folder / model["inputs"], "--steps", model["batches"], "--log-format", "json"]  # fmt: skip
        begin, arrivals, losses = time.perf_counter(), [], []
        with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=self.carried.environment) as process:  # fmt: skip
            watch = MemoryWatch(process.pid)
            killer = threading.Timer(max(1, min(200, self.table.left())), process.kill)
            killer.start()
            for line in process.stdout:
                if '"loss"' in line:
                    arrivals.append(time.perf_counter())
                    losses.append(json.loads(line)["loss"])
            error = process.stderr.read()
            process.wait()
            killer.cancel()
            memory = watch.finish()
        if process.returncode != 0:
            raise Failed(f"moerun ended with {process.returncode}: {error.strip()[-300:]}")
        seconds = [b - a for a, b in zip(arrivals, arrivals[1:])][WARM_UP - 1 :]
        return self.cells(model, seconds, memory, model["memory"]["total"] / 2**20, arrivals[0] - begin,
                          f"losses {losses[0]:.4f} to {losses[-1]:.4f}")  # fmt: skip

    def calls(self, model):
        """Calls of the CUDA runtime for an update: those of a longer run less those of a shorter one."""
        if not self.on_device:
            raise Skipped("the simulated device counts them in tests of its own")
        counts = []
        for updates in (4, 8):
            with tempfile.NamedTemporaryFile() as file:
                environment = self.carried.environment | {
                    "LD_PRELOAD": str(self.carried.folder / "lib/libmoec_count_calls.so"), "MOE_COUNT_CALLS": file.name}  # fmt: skip
                call(self.table, [self.carried.moerun, "run", self.carried.folder / model["plan"], "--inputs",
                                  self.carried.folder / model["inputs"], "--steps", updates], 100, environment)  # fmt: skip
                counts.append(json.loads(pathlib.Path(file.name).read_text()))
        each = {name: (count - counts[0]["calls"].get(name, 0)) / 4 for name, count in counts[1]["calls"].items()}
        listed = ", ".join(f"{count:g} {name}" for name, count in each.items() if count)
        return ["", "", "", "", "", "", f"{sum(each.values()):g} calls for an update: {listed}; its graph has "
                f"{counts[1]['graph_kernels']} kernels, {counts[1]['graph_nodes']} nodes"]  # fmt: skip

    def torch(self, job, limit=240):
        """A record of torch_worker.py; where there is no device, on the CPU."""
        job = job | {"device": "cuda" if self.on_device else "cpu"}
        words = [sys.executable, HERE / "torch_worker.py", json.dumps(job)]
        if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode != 0:
            raise (Failed if self.on_device else Skipped)("PyTorch is not installed")
        return records(call(self.table, words, limit))[-1]

    def peer(self, model, mode):
        if not self.on_device and (mode != "eager" or model["name"] != "demo-f32"):
            raise Skipped("without a device one such row is enough")
        answer = self.torch({"config": model["config"], "recipe": model["recipe"], "rows": model["rows"], "mode": mode,
                             "compute": model["compute"], "inputs": str(self.carried.folder / model["inputs"]),
                             "updates": 8 if self.on_device else 3})  # fmt: skip
        return self.cells(model, answer["seconds"][WARM_UP:], answer["peak_bytes"] / 2**20, 0, answer["start"], "")

    def measure_copy(self):
        self.copy = self.torch({"copy_bytes": 1 << (30 if self.on_device else 20)})["copy"]
        return ["", "", "", "", "", "", f"{self.copy / 1e9:.4g} GB/s, read and written"]

    def profile(self, model):
        """Where the time of an update goes, step by step by plain launches."""
        words = [self.carried.moerun, "bench", self.carried.folder / model["plan"], "--steps", 5 if self.on_device else 1, "--json"]
        said = call(self.table, words, 150, self.carried.environment)
        return records(said)[-1]

    def kinds(self, model):
        """A row for each kind of step; what is not a product is compared with the copy."""
        found = {}

        def measure():
            found.update(self.profile(model))
            return ["", f"{found['seconds'] * 1e3:.2f}", "", "", "", "", f"{sum(kind['steps'] for kind in found['kinds'].values())} steps"]

        if not self.table.row(f"{model['name']}: steps one by one", measure):
            return
        for name, kind in sorted(found["kinds"].items(), key=lambda item: -item[1]["seconds"]):
            self.table.row(f"{model['name']}: {name}", self.kind, kind)

    def kind(self, kind):
        if kind["seconds"] <= 0:
            raise Skipped("took no time")
        rate = kind["bytes"] / kind["seconds"]
        more = f"{kind['steps']} steps, {rate / 1e9:.4g} GB/s"
        if self.copy:
            more += f", {rate / self.copy * 100:.0f} % of a copy"
        if kind["flops"]:
            more += f", {kind['flops'] / kind['seconds'] / 1e12:.3g} TFLOP/s"
        return ["", f"{kind['seconds'] * 1e3:.3f}", "", "", "", "", more]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=530, help="rows that would begin later are skipped")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="writes the table there, too")
    args = parser.parse_args()
    carried = Carried(args.folder)
    on_device, sentence = carried.device()
    table = Table(sentence, COLUMNS, args.seconds)
    bench = Bench(carried, table, on_device, sentence)
    measured = carried.models("demo-f32", "demo-bf16", "large-bf16")
    for model in measured:
        table.row(f"{model['name']}: moerun", bench.moerun, model)
    demos = [model for model in measured if model["name"] != "large-bf16"]
    for model in demos:
        table.row(f"{model['name']}: calls", bench.calls, model)
    table.row("copy on the device", bench.measure_copy)
    for model in measured:
        bench.kinds(model)
    for model in reversed(measured):
        for mode in ("eager", "compile"):
            table.row(f"{model['name']}: PyTorch {mode}", bench.peer, model, mode)
    # Last, since its weights are drawn twice more.
    for model in measured:
        if model not in demos:
            table.row(f"{model['name']}: calls", bench.calls, model)
    table.finish(args.out)


if __name__ == "__main__":
    main()
