"""The certificate is the truth: training takes no more memory than it says, and takes it before the first update."""
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

MIB = 1 << 20
report = lab.Report()
lab.letters("text", 200000)

# The model of tools/demo. 16 MiB are for what is neither arenas nor libraries: the plan itself, tables, log lines.
lab.model("demo.onnx", "--decoder-ffn-embed-dim", 768, "--moe-freq", 2, "--moe-expert-count", 8, "--moe-gate-loss-wt", 0.01,
          layers=4, width=192, heads=4, tokens=256)  # fmt: skip
compiled = lab.compile_plan("demo.onnx", "demo.moe", 16, 256, "--json").stdout
printed = json.loads(compiled)
with open("output", "w+") as output:
    process = subprocess.Popen(["moerun", "train", "demo.moe", "--data", "text", "--save-dir", "demo", "--max-update", "5",
                                "--valid-split", "0.1", "--verbose", "--log-format", "json"], stdout=output)  # fmt: skip
    peak = 0
    while process.poll() is None:  # anonymous and shared memory, as moerun counts it, but at every moment
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        peak = max(peak, 1024 * sum(int(kilobytes) for kilobytes in re.findall(r"Rss(?:Anon|Shmem):\s*(\d+) kB", status)))
        time.sleep(0.002)
    output.seek(0)
    memory = lab.records(output.read(), "memory")[-1]["memory"]
report.check(process.returncode == 0, "training ends well")
growth, certificate, libraries = (memory[f"{key}_bytes"] for key in ("growth", "certificate", "library_overhead"))
report.check(str(certificate) in compiled, f"moec prints the certificate: {certificate} bytes")
report.check(libraries <= 32 * MIB, f"libraries take at most {libraries / MIB:.0f} MiB")
report.check(certificate / 2 < growth <= certificate + libraries + 16 * MIB,
             f"grew by {growth / MIB:.1f} MiB, certified are {certificate / MIB:.1f} MiB + {libraries / MIB:.0f} MiB")  # fmt: skip
report.check(growth <= peak <= certificate + libraries + 16 * MIB, f"at no moment more than {peak / MIB:.1f} MiB in all")


# Who allocates in an update: what 30 updates do more than 10, and 50 more than 30. Nothing but libraries may, and these must
# give back what they take. (libstdc++ allocates for those who use it, so it counts as ours.)
def allocations(updates):
    lab.run("moerun", "train", "small.moe", "--data", "text", "--save-dir", f"small{updates}", "--max-update", updates,
            "--log-interval", 1000, "--log-format", "json",
            env={"LD_PRELOAD": f"{os.environ['MOEC_BUILD']}/lib/libmoec_test_allocations.so", "MOE_ALLOCATIONS": "counts"})  # fmt: skip
    counts = collections.Counter()
    with open("counts") as file:
        for line in file:
            library, allocated, freed = line.rsplit(" ", 2)
            counts[library, "allocates"] += int(allocated)
            counts[library, "frees"] += int(freed)
    return counts


lab.model("small.onnx", "--moe-freq", 2, "--moe-expert-count", 4, "--moe-gate-loss-wt", 0.01, "--dropout", 0.1)
lab.compile_plan("small.onnx", "small.moe", 4, 32, recipe={"optimizer": {"name": "adamw", "lr": 1e-3}, "clip_norm": 1.0, "accumulate": 2})
ten, thirty, fifty = (allocations(updates) for updates in (10, 30, 50))
report.check(ten["moerun", "allocates"] > 100, f"moerun allocates {ten['moerun', 'allocates']} times in ten updates: they are seen")
taken = given = 0
for key in sorted(fifty):
    early, late = thirty[key] - ten[key], fifty[key] - thirty[key]
    library, what = key
    if library.startswith(("libdnnl", "libgomp", "libc.")):
        report.check(early == late, f"{library} {what} {early / 20:g} times an update, then {late / 20:g}")
        taken += late * (what == "allocates")
        given += late * (what == "frees")
    elif early or late:
        report.check(False, f"{library} {what} {early} and {late} times in twenty updates")
report.check(taken == given, f"libraries allocate {taken / 20:g} times an update and free {given / 20:g} times")
report.finish()
