"""Rehearses test/gpu and test/bench/gpu on the simulated device: they pass, and what is wrong is a row, not their end."""
import json
import os
import pathlib
import shutil
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()
build = pathlib.Path(os.environ["MOEC_BUILD"])
if not (build / "lib/simulated/libmoerun-cuda.so").exists():
    print("skipped: the simulated device is for x86-64 alone")
    sys.exit()
packed = lab.run(sys.executable, lab.ROOT / "test/gpu/pack.py", "--build", build, "--target", "simulated", "--small", "-o", "carried")
report.check("MiB for simulated" in packed.stdout, packed.stdout.strip())


def table(script, *flags, folder="carried", code=0):
    """(first line, {what: result}, all of it) of a script's table."""
    said = lab.run(sys.executable, lab.ROOT / script, folder, *flags, code=code)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.stdout.splitlines() if line.startswith("|")]
    return said.stdout.splitlines()[0], {row[0]: row[1] for row in rows[2:]}, said.stdout


def results(rows, *beginnings):
    return {result for what, result in rows.items() if what.startswith(beginnings)}


first, rows, text = table("test/gpu/check.py", "--quick", "-o", "check.md")
report.check("not run on a device" in first, first)
report.check(pathlib.Path("check.md").read_text() == text, "the table is also in a file")
report.check(results(rows, "moerun", "kernels", "demo") == {"ok"}, f"{len(rows)} rows")
report.check(sum(what.startswith("kernels: Cuda") for what in rows) >= 4 and results(rows, "memcheck", "racecheck") == {"skipped"},
             "families of kernels in rows of their own, compute-sanitizer left out")  # fmt: skip

# Much that can be missing or wrong: a damaged plan, another gradient, no tests of kernels.
shutil.copytree("carried", "damaged")
os.remove("damaged/bin/kernels")
plan = bytearray(pathlib.Path("damaged/demo-bf16.moe").read_bytes())
plan[len(plan) // 2] ^= 1
pathlib.Path("damaged/demo-bf16.moe").write_bytes(plan)
gradients = {name: array.copy() for name, array in lab.load("carried/demo-gradients.safetensors").items()}
gradients["decoder.layers.0.fc1.weight"] *= 1 + 1e-4
lab.save("damaged/demo-gradients.safetensors", gradients)
_, rows, text = table("test/gpu/check.py", folder="damaged", code=1)
report.check(results(rows, "kernels", "demo-bf16", "demo-f32: beside") == {"FAIL"} and "decoder.layers.0.fc1.weight" in text,
             "missing tests, a damaged plan and another gradient are rows")  # fmt: skip
report.check(results(rows, "demo-f32: run again") == {"ok"}, "other rows are as before")

first, rows, _ = table("test/bench/gpu/run.py", folder="damaged", code=1)
report.check("not run on a device" in first, first)
report.check(results(rows, "demo-f32: moerun", "large-bf16: moerun", "demo-f32: attention", "large-bf16: gemm") == {"ok"}, f"{len(rows)} rows")
report.check(results(rows, "demo-bf16: moerun") == {"FAIL"}, "a damaged plan is a row of it, too")

shutil.copy("carried/demo-gradients.safetensors", "damaged")
losses = json.loads(pathlib.Path("carried/demo-losses.json").read_text())
pathlib.Path("damaged/demo-losses.json").write_text(json.dumps([*losses[:-1], losses[-1] * (1 + 1e-4)]))
_, rows, text = table("test/gpu/check.py", folder="damaged", code=1)
report.check(results(rows, "demo-f32: beside") == {"FAIL"} and "losses off by 1.0e-04" in text, "another loss is a row")
_, rows, _ = table("test/gpu/check.py", "--seconds", "0", folder="damaged")
report.check(set(rows.values()) == {"skipped"}, "no row begins past the time")
os.remove("damaged/index.json")
said = lab.run(sys.executable, lab.ROOT / "test/gpu/check.py", "damaged", code=1)
report.check("did not run" in said.stderr, said.stderr.strip())
report.finish()
