"""Each target of test/fuzz under libFuzzer with sanitizers, ten minutes, two at a time. No crash, hang, leak or gigabyte.

Builds build-fuzz, writes what happened to test/long/fuzz.txt and inputs that are findings to build-fuzz/findings. Numbers of
seconds other than MOEC_FUZZ_SECONDS=600 are for trying it; the table stays as it is then. MOEC_FUZZ_TARGETS="onnx data" runs
these alone, after a finding was mended: each line of the table says of which sources it is.
"""
import concurrent.futures
import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys

# The targets themselves take care that no input needs ten seconds of the processor (`TimeLimit`); libFuzzer's own limit is
# one of the clock, which other programs of the machine use up, and is there for what never ends.
ROOT = pathlib.Path(os.environ["MOEC_ROOT"])
BUILD, HERE, TABLE = ROOT / "build-fuzz", ROOT / "test/fuzz", ROOT / "test/long/fuzz.txt"
TARGETS = ("onnx", "recipe", "plan", "checkpoint", "data")
SECONDS = int(os.environ.get("MOEC_FUZZ_SECONDS", 600))
CHOSEN = os.environ.get("MOEC_FUZZ_TARGETS", " ".join(TARGETS)).split()


def command(*words, **options):
    return subprocess.run([str(word) for word in words], cwd=ROOT, text=True, errors="replace", **options)


def build():
    targets = [f"fuzz_{target}" for target in CHOSEN]
    for words in (("cmake", "--preset", "fuzz", f"-DMOEC_PYTHON={sys.executable}"), ("cmake", "--build", "build-fuzz", "--target", *targets)):
        done = command(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            sys.exit(f"{' '.join(words)}\n{done.stdout[-4000:]}")


def fuzz(target):
    """The row of one target, and how its log ends if there is a finding."""
    found, findings, log = pathlib.Path(f"{target}.new"), BUILD / "findings" / target, pathlib.Path(f"{target}.log")
    shutil.rmtree(findings, ignore_errors=True)
    for folder in (found, findings):
        folder.mkdir(parents=True)
    words = [BUILD / "test" / f"fuzz_{target}", f"-max_total_time={SECONDS}", "-timeout=120", "-report_slow_units=120", "-rss_limit_mb=2048",
             "-malloc_limit_mb=1024", "-max_len=65536", "-print_final_stats=1", f"-artifact_prefix={findings}/"]  # fmt: skip
    dictionary = HERE / "dict" / f"{target}.dict"
    words += [f"-dict={dictionary}"] if dictionary.exists() else []
    with log.open("wb") as output:
        done = command(*words, found.absolute(), HERE / "corpus" / target, stdout=output, stderr=output,
                       preexec_fn=lambda: os.nice(5))  # fmt: skip
    text = log.read_text(errors="replace")
    stat = lambda name: int((re.findall(rf"stat::{name}:\s+(\d+)", text) or [0])[-1])
    status = (re.findall(r"cov: (\d+) .*?corp: (\d+)/", text) or [(0, 0)])[-1]
    left = list(findings.iterdir())
    count = len(left) or int(done.returncode != 0)
    row = [target, stat("number_of_executed_units"), stat("average_exec_per_sec"), *map(int, status), stat("peak_rss_mb"), count]
    return row, "" if count == 0 else f"{target}: {', '.join(map(str, left))}\n{text[-3000:]}"


def written():
    """The table's lines by target."""
    lines = TABLE.read_text().splitlines()[1:] if TABLE.exists() else []
    return {line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in TARGETS}


build()
# What is in the table is committed beside it, and is no source.
changed = command("git", "diff", "--name-only", "HEAD", "--", ".", ":!test/long/fuzz.txt", stdout=subprocess.PIPE).stdout.strip()
revision = command("git", "rev-parse", "--short", "HEAD", stdout=subprocess.PIPE).stdout.strip() or "unknown"
revision += "-dirty" if changed else ""
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    results = list(pool.map(fuzz, CHOSEN))
rows, failures = written(), [text for _, text in results if text]
for (name, executions, rate, edges, corpus, peak, count), text in results:
    line = f"{name:12}{executions:12}{rate:8}{edges:8}{corpus:8}{peak:9}{count:10}  {datetime.date.today()}  {revision}"
    print(line)
    rows[name] = line
    if text:
        del rows[name]
if SECONDS == 600:
    head = f"{'target':12}{'executions':>12}{'exec/s':>8}{'edges':>8}{'corpus':>8}{'peak MB':>9}{'findings':>10}  {'date':10}  sources"
    TABLE.write_text("\n".join([head, *(rows[name] for name in TARGETS if name in rows), "", "600 s each, two at a time."]) + "\n")
sys.exit("\n".join(failures) if failures else 0)
