"""Takes the barriers of the CUDA kernels out, one at a time: the simulated device must notice each.

    cuda_barriers.py [TEXT]        only those in lines that contain TEXT, as FILE:LINE: CODE

A mutant is compiled and linked in a folder of its own, from the objects of the build and the commands that made them; the
tests of its family then fail, since the two orders of threads give different bits, or wrong ones. Prints a table.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

ROOT, BUILD = (pathlib.Path(os.environ[name]) for name in ("MOEC_ROOT", "MOEC_BUILD"))
KERNELS = pathlib.Path("runtime/cuda/kernels")
CALL = re.compile(r"\b(?:gpu::)?(barrier|warpBarrier)\(\);")
FAMILIES = ("Attention", "Route", "ScatterAdd", "Copy")


def places():
    """(file, number of the line, line) of each barrier that a kernel asks for."""
    for file in sorted((ROOT / KERNELS).iterdir()):
        if file.suffix in (".h", ".cpp") and file.name != "Gpu.h":
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if CALL.search(line):
                    yield file.name, number, line.strip()


def includes(name, sources):
    """Sources that a file is part of."""
    if name in sources:
        return {name}
    users = [file.name for file in (ROOT / KERNELS).iterdir() if f'"{KERNELS}/{name}"' in file.read_text()]
    return set().union(*(includes(user, sources) for user in users if user != name))


def commands():
    """How the sources of the kernels are compiled for the simulated device, by name."""
    found = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        if any("moe_cuda_kernels_sim.dir" in word for word in words):
            found[pathlib.Path(entry["file"]).name] = words
    return found


def link_command():
    said = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", "test/cuda_kernels_test"], capture_output=True, text=True, check=True)
    return shlex.split(said.stdout.strip().splitlines()[-1].removeprefix(": && ").removesuffix(" && :"))


def replaced(words, flag, value):
    return [value if before == flag else word for before, word in zip([None, *words], words)]


def build(folder, sources, compile_words, link_words):
    """The tests with other objects in the place of some of the library's."""
    objects = []
    for source in sorted(sources):
        objects.append(folder / f"{source}.o")
        words = replaced(replaced(compile_words[source], "-o", objects[-1]), "-c", folder / KERNELS / source)
        words = [words[0], f"-I{folder}", *("-O1" if word == "-O3" else word for word in words[1:])]
        subprocess.run([str(word) for word in words], cwd=BUILD, check=True, capture_output=True)
    program = folder / "tests"
    at = next(i for i, word in enumerate(link_words) if word.endswith(".a"))
    words = replaced(link_words[:at] + objects + link_words[at:], "-o", program)
    subprocess.run([str(word) for word in words], cwd=BUILD, check=True, capture_output=True)
    return program


def judge(folder, place, compile_words, link_words):
    """What became of a mutant: the test that noticed it, or "survived"."""
    name, number, _ = place
    try:
        shutil.copytree(ROOT / KERNELS, folder / KERNELS)
        mutant = folder / KERNELS / name
        lines = mutant.read_text().splitlines()
        lines[number - 1] = CALL.sub(";", lines[number - 1])
        mutant.write_text("\n".join(lines) + "\n")
        program = build(folder, includes(name, compile_words), compile_words, link_words)
        family = next(family for family in FAMILIES if name.startswith(family))
        try:
            done = subprocess.run([program, f"--gtest_filter=Cuda{family}.*", "--gtest_fail_fast"], capture_output=True, text=True,
                                  errors="replace", timeout=300)  # fmt: skip
        except subprocess.TimeoutExpired:
            return "never ended"
        noticed = re.findall(r"\[  FAILED  \] (\S+)", done.stdout)
        return noticed[0].rstrip(",") if noticed else "survived" if done.returncode == 0 else f"ended with {done.returncode}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    wanted = " ".join(sys.argv[1:])
    compile_words, link_words = commands(), link_command()
    chosen = [place for place in places() if wanted in "{}:{}: {}".format(*place)]
    survivors, start = 0, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("MOEC_JOBS", os.cpu_count() or 1))) as pool:
        folders = (pathlib.Path.cwd() / f"mutant{i}" for i in range(len(chosen)))
        results = pool.map(lambda pair: judge(*pair, compile_words, link_words), zip(folders, chosen))
        for (name, number, line), result in zip(chosen, results):
            survivors += result == "survived"
            print(f"{name + ':' + str(number):32} {line:32} {result}", flush=True)
    print(f"{len(chosen)} barriers taken out, {survivors} not noticed, {time.monotonic() - start:.0f} s")
    sys.exit(survivors > 0 or not chosen)


if __name__ == "__main__":
    main()
