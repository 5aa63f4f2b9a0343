#!/usr/bin/env python3
"""Is what a device computes right? One call, at most nine minutes, on a machine with a GPU, CUDA 13, Python and NumPy.

    python3 test/gpu/check.py FOLDER [-o TABLE.md]

FOLDER: from test/gpu/pack.py. Prints a table whose first line says whether it ran on a device; a row for each test of the
kernels against values of the host, the demo model against the plan for the CPU, runs against their repetition, one graph
launch for each update against plain launches, and compute-sanitizer. The exit status is 1 if a row failed.
"""
import argparse
import json
import pathlib
import re
import shutil
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "support"), str(HERE.parent / "bench")]
from carried import TOOLKIT, Carried, Failed, Skipped, Table, call, records  # noqa: E402
from torch_peer import safetensors  # noqa: E402

# Of losses, and of the norm of each gradient. Sums over some thousand tokens in float32, in another order.
FLOAT32 = 1e-5
# One rounding to bfloat16 is off by up to 2^-9, and a gradient has passed some tens of them. A token whose two best experts
# are as good as equal may go to the other one, which shows in what only the layers of experts see.
BF16, BF16_BEHIND_ROUTING = 0.03, 0.18


# The shorter tests of each family of kernels, for tools that slow them down.
QUICK = "CudaAttention.GroupedQueries:CudaRoute.ManyRowsAndExperts:CudaScatterAdd.*:CudaCopy.Counts*"


class Check:
    def __init__(self, carried, table, scratch):
        self.carried, self.table, self.scratch = carried, table, pathlib.Path(scratch)

    def call(self, *words, limit=120):
        return call(self.table, words, limit, self.carried.environment)

    def run(self, model, *flags, limit=120, before=()):
        """moerun run on a model's batches: its records, one for each update."""
        return records(self.call(*before, self.carried.moerun, "run", self.carried.folder / model["plan"], "--inputs",
                                 self.carried.folder / model["inputs"], "--log-format", "json", *flags, limit=limit))  # fmt: skip

    def doctor(self):
        """What moerun finds of CUDA; nothing may be amiss."""
        found = json.loads(self.call(self.carried.moerun, "doctor", "--json", limit=60))
        if self.carried.simulated:
            return f"moerun {found['version']}"
        facts = found["devices"]["cuda"]["facts"]
        if problems := [fact["problem"] for fact in facts if fact["problem"]]:
            raise Failed("; ".join(problems))
        return "; ".join(f"{fact['name']} {fact['value']}" for fact in facts)

    def kernel_tests(self, suite, before=(), limit=200):
        said = self.call(*before, self.carried.kernels, f"--gtest_filter={suite}", limit=limit)
        passed = re.search(r"\[  PASSED  \] (\d+) test", said)
        if not passed or int(passed[1]) == 0:
            raise Failed("no test ran")
        return f"{passed[1]} tests"

    def suites(self):
        """Names of the tests' families; one family of them all if they can not be listed."""
        try:
            return re.findall(r"^(\w+)\.", self.call(self.carried.kernels, "--gtest_list_tests"), re.MULTILINE) or ["*"]
        except Exception:
            return ["*"]

    def against_cpu(self, model):
        """Losses of some updates, and all gradients of the first."""
        gradients = self.scratch / "gradients.safetensors"
        ours = [record["loss"] for record in self.run(model, "--steps", model["updates"], "--save-gradients", gradients)]
        theirs = json.loads((self.carried.folder / "demo-losses.json").read_text())
        if len(ours) != len(theirs):
            raise Failed(f"{len(ours)} updates, not {len(theirs)}")
        narrow = model["compute"] != "f32"
        loss = float(np.max(np.abs(np.subtract(ours, theirs)) / np.abs(theirs)))
        expected = safetensors.load(self.carried.folder / "demo-gradients.safetensors")
        found = safetensors.load(gradients)
        if found.keys() != expected.keys():
            raise Failed(f"gradients of other parameters: {sorted(found.keys() ^ expected.keys())}")
        # Some gradients are zero but for rounding, as that of the bias of keys: beside all of them they do not count.
        floor = (1e-2 if narrow else 1e-3) * np.sqrt(sum(np.sum(value.astype(float) ** 2) for value in expected.values()))
        worst, limit, name = 0.0, FLOAT32, ""
        for key, value in expected.items():
            error = float(np.linalg.norm(found[key].astype(float) - value) / (np.linalg.norm(value) + floor))
            routed = "moe_layer" in key or "final_layer_norm" in key
            allowed = FLOAT32 if not narrow else BF16_BEHIND_ROUTING if routed else BF16
            if not error / allowed <= worst / limit:
                worst, limit, name = error, allowed, key
        text = f"losses off by {loss:.1e}; gradients by {worst:.1e} of {limit:.0e} of the norm, in {name}"
        if not loss <= (BF16 if narrow else FLOAT32) or not worst <= limit:
            raise Failed(text)
        return text

    def repeats(self, model):
        runs = []
        for number in (0, 1):
            state = self.scratch / f"state{number}.safetensors"
            runs.append((self.run(model, "--steps", model["updates"], "--save-state", state), state.read_bytes()))
        if runs[0][0] != runs[1][0]:
            raise Failed("other losses or metrics in the second run")
        if runs[0][1] != runs[1][1]:
            raise Failed("other parameters in the second run")
        return f"{model['updates']} updates twice: the same bits"

    def graph_against_launches(self, model):
        """A process makes its first update by plain launches, the others by a graph: one process for all updates, and one
        for each."""
        folders = [self.scratch / "graph", self.scratch / "plain"]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

        def train(folder, updates):
            self.call(self.carried.moerun, "train", self.carried.folder / model["plan"], "--data",
                      self.carried.folder / self.carried.index["text"], "--save-dir", folder, "--max-update", updates,
                      "--resume", "--log-format", "json")  # fmt: skip

        train(folders[0], model["updates"])
        for update in range(model["updates"]):
            train(folders[1], update + 1)
        last = f"checkpoint_{model['updates']:08}.safetensors"
        if (folders[0] / last).read_bytes() != (folders[1] / last).read_bytes():
            raise Failed("graph and plain launches differ in the last checkpoint")
        return f"{model['updates']} updates: the same bits"

    def sanitizer(self, tool):
        """The words before a program's that run it under a tool of compute-sanitizer."""
        program = shutil.which("compute-sanitizer") or TOOLKIT / "bin/compute-sanitizer"
        if self.carried.simulated:
            raise Skipped("the simulated device has checks of its own")
        if not pathlib.Path(program).exists():
            raise Failed("compute-sanitizer is not installed")
        return [program, "--tool", tool, "--error-exitcode", "9"]

    def sanitized_kernels(self, tool, tests):
        return self.kernel_tests(tests, self.sanitizer(tool), limit=100) + ", no reports"

    def sanitized_model(self, tool, model):
        self.run(model, "--steps", 2, before=self.sanitizer(tool), limit=100)
        return "2 updates, no reports"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="only one test of each family of kernels")
    parser.add_argument("--seconds", type=float, default=530, help="rows that would begin later are skipped")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="writes the table there, too")
    args = parser.parse_args()
    carried = Carried(args.folder)
    table = Table(carried.device()[1], ["what was found"], args.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        check = Check(carried, table, scratch)
        table.row("moerun doctor", check.doctor)
        for suite in check.suites():
            tests = f"{suite}.*" if suite != "*" else suite
            if args.quick:
                tests = next((test for test in QUICK.split(":") if test.startswith(f"{suite}.")), tests)
            table.row(f"kernels: {suite}", check.kernel_tests, tests)
        for model in carried.models("demo-f32", "demo-bf16"):
            table.row(f"{model['name']}: beside the plan for the CPU", check.against_cpu, model)
            table.row(f"{model['name']}: run again", check.repeats, model)
            table.row(f"{model['name']}: graph and plain launches", check.graph_against_launches, model)
        for tool in ("memcheck", "racecheck"):
            for model in carried.models("small-f32"):
                table.row(f"{tool}: {model['name']}", check.sanitized_model, tool, model)
            table.row(f"{tool}: kernels", check.sanitized_kernels, tool, QUICK)
    table.finish(args.out)


if __name__ == "__main__":
    main()
