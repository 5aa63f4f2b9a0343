"""What `moerun doctor` tells of a machine, and what plans get that it can not run: one message, exit code 1."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()
BUILD = pathlib.Path(os.environ["MOEC_BUILD"])
hasBackend = (BUILD / "lib/libmoerun-cuda.so").exists()
hasSimulator = (BUILD / "lib/simulated/libmoerun-cuda.so").exists()


def facts(device, program="moerun"):
    """{name: (value, problem)} of a device, and whether its backend is installed."""
    found = json.loads(lab.run(program, "doctor", "--json").stdout)["devices"][device]
    return {fact["name"]: (fact["value"], fact["problem"]) for fact in found["facts"]}, found["installed"]


def refuses(what, plan, *texts, flags=(), program="moerun", env=None):
    words = [program, "run", plan, "--inputs", "none", "--steps", "1", *flags]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | (env or {}), timeout=60)
    message = " ".join(done.stderr.split())
    right = done.returncode == 1 and message.count("error: ") == 1 and "try:" in message and all(text in message for text in texts)
    report.check(right, f"{what}: {message}")


cpu, installed = facts("cpu")
flags = re.search(r"^flags\s*:(.*)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)[1].split()
features = cpu["features"][0].split()
report.check(installed and all((name in features) == (name in flags) for name in ("avx2", "fma", "avx512f")), f"features: {features}")
report.check(int(cpu["usable processors"][0]) == len(os.sched_getaffinity(0)), f"processors: {cpu['usable processors'][0]}")
text = lab.run("moerun", "doctor").stdout
report.check(all(f"  {name} " in text for name in cpu) and text.rstrip().endswith(("problem", "problems")), "doctor as text")

# Without the backend, and with one that can not be loaded.
for folder, content in (("without", None), ("broken", b"no library")):
    for part in ("bin", "lib"):
        pathlib.Path(folder, part).mkdir(parents=True)
    shutil.copy(BUILD / "bin/moerun", f"{folder}/bin")
    shutil.copy(BUILD / "lib/libmoerun-cpu.so", f"{folder}/lib")
    if content:
        pathlib.Path(folder, "lib/libmoerun-cuda.so").write_bytes(content)
    found, installed = facts("cuda", f"{folder}/bin/moerun")
    report.check(not installed and found["backend"][0] == "missing" and "plans for 'cuda' do not run here" in found["backend"][1],
                 f"doctor {folder} the backend: {found['backend'][1]}")  # fmt: skip

lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 4)
lab.compile_plan("m.onnx", "simulated.moe", 4, 32, "--target", "cuda:simulated")
lab.compile_plan("m.onnx", "sm_90.moe", 4, 32, "--target", "cuda:sm_90")
refuses("another device asked for", "sm_90.moe", "compiled for another device", "it is for 'cuda'", "--target cpu",
        flags=("--device", "cpu"))  # fmt: skip
refuses("no backend", "sm_90.moe", "no backend for device 'cuda'", "install the backend", program="without/bin/moerun")
refuses("backend that is no library", "sm_90.moe", "cannot load the backend", "libmoerun-cuda.so", program="broken/bin/moerun")
if hasBackend:
    found, installed = facts("cuda")
    report.check(installed and found["runtime"][0].startswith("CUDA 13") and "cuBLASLt 13" in found["matrix products"][0], str(found))
    # What is carried to machines that have CUDA alone.
    carried = BUILD / "carried/bin/moerun"
    for path, allowed in ((carried, {"libc", "libm", "ld-linux-x86-64"}),
                          (carried.parents[1] / "lib/libmoerun-cuda.so", {"libc", "libm", "ld-linux-x86-64", "libcublasLt"})):  # fmt: skip
        needed = re.findall(r"NEEDED.*\[(.*)\]", lab.run("readelf", "-d", path).stdout)
        report.check({name.split(".so")[0] for name in needed} <= allowed, f"{path.name} needs {' '.join(needed)}")
    report.check(facts("cuda", carried) == (found, installed), "the carried program and its backend fit together")
    report.check(not facts("cpu", carried)[1], "it has no other backend")
    if not pathlib.Path("/proc/driver/nvidia").exists():
        refuses("no driver", "sm_90.moe", "no NVIDIA driver", program=carried)
        report.check(found["driver"][0] == "missing" and "--target cpu" in found["driver"][1], "doctor without a driver")
        refuses("no driver", "sm_90.moe", "no NVIDIA driver", "--target cpu")
if hasSimulator:
    refuses("no device", "simulated.moe", "no CUDA device", "nvidia-smi", env={"MOE_SIM_DEVICES": "0"})
    refuses("old driver", "simulated.moe", "driver is too old", "CUDA 12.8", "needs 13.0", env={"MOE_SIM_DRIVER": "12080"})
    refuses("other architecture", "simulated.moe", "for another device", "9.0", "cuda:sm_90", env={"MOE_SIM_CAPABILITY": "9.0"})
    # Refused before anything is allocated. Inputs and what a step leaves behind grow with the batch, all else does not.
    memory = json.loads(lab.run("moec", "inspect", "simulated.moe", "--json").stdout)["report"]["memory"]
    half = memory["library_overhead"] + memory["total"] - memory["step"] * 2 // 5
    refuses("too little memory", "simulated.moe", "not enough device memory", "step ", "for a batch of about 2 instead of 4",
            env={"MOE_SIM_MEMORY": str(half), "MOE_SIM_TRACE": "trace"})  # fmt: skip
    calls = pathlib.Path("trace").read_text().split()
    report.check("cudaMemGetInfo" in calls and "cudaMalloc" not in calls, "nothing was allocated before")
report.finish()
