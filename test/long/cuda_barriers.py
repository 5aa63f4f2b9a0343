"""Takes the barriers of CUDA kernels out, one at a time, of those written in C++ and of those that code generation writes: the
simulated device must notice each.

    cuda_barriers.py [TEXT]        only those in lines that contain TEXT, as FILE:LINE: CODE

A mutant is compiled and linked in a folder of its own, from the objects of the build and the commands that made them; tests of
it then fail, since the two orders of threads give different bits, or wrong ones. Prints a table.
"""
import concurrent.futures
import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Room:
    """A folder with barriers, and what tests it."""

    folder: pathlib.Path
    call: re.Pattern
    objects: str  # the CMake folder of the objects that are replaced
    program: str
    families: dict  # beginning of a file's name: tests
    apart: tuple = ()  # files that define barriers

    def sources(self):
        return (file for file in sorted((ROOT / self.folder).iterdir()) if file.suffix in (".h", ".cpp"))

    def places(self):
        """(room, file, number of the line, line) of each barrier."""
        for file in self.sources():
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if file.name not in self.apart and self.call.search(line):
                    yield self, file.name, number, line.strip()

    def commands(self):
        """How its sources are compiled, by name."""
        found = {}
        for entry in json.loads((BUILD / "compile_commands.json").read_text()):
            words = shlex.split(entry["command"])
            if any(self.objects in word for word in words):
                found[pathlib.Path(entry["file"]).name] = words
        return found

    def link_command(self):
        said = subprocess.run(["ninja", "-C", BUILD, "-t", "commands", self.program], capture_output=True, text=True, check=True)
        return shlex.split(said.stdout.strip().splitlines()[-1].removeprefix(": && ").removesuffix(" && :"))

    def includes(self, name, compiled):
        """Sources that a file is part of."""
        if name in compiled:
            return {name}
        users = [file.name for file in self.sources() if f'"{self.folder}/{name}"' in file.read_text()]
        return set().union(*(self.includes(user, compiled) for user in users if user != name))


ROOMS = (
    Room(pathlib.Path("runtime/cuda/kernels"), re.compile(r"\b(?:gpu::)?(barrier|warpBarrier)\(\);"), "moe_cuda_kernels_sim.dir",
         "test/cuda_kernels_test", {name: f"Cuda{name}.*" for name in ("Attention", "Route", "ScatterAdd", "Copy")}, ("Gpu.h",)),
    Room(pathlib.Path("codegen/cuda"), re.compile(r"\bt\.barrier\(\);"), "moec_codegen_cuda.dir", "test/moec_test_codegen", {"": "Cuda*"}),
)  # fmt: skip


def replaced(words, flag, value):
    return [value if before == flag else word for before, word in zip([None, *words], words)]


def build(room, folder, sources):
    """The tests with other objects in the place of some of the library's."""
    compile_words, link_words, objects = room.commands(), room.link_command(), []
    for source in sorted(sources):
        objects.append(folder / f"{source}.o")
        words = replaced(replaced(compile_words[source], "-o", objects[-1]), "-c", folder / room.folder / source)
        words = [words[0], f"-I{folder}", *("-O1" if word == "-O3" else word for word in words[1:])]
        subprocess.run([str(word) for word in words], cwd=BUILD, check=True, capture_output=True)
    program = folder / "tests"
    at = next(i for i, word in enumerate(link_words) if word.endswith(".a"))
    words = replaced(link_words[:at] + objects + link_words[at:], "-o", program)
    subprocess.run([str(word) for word in words], cwd=BUILD, check=True, capture_output=True)
    return program


def judge(folder, room, name, number):
    """What became of a mutant: the test that noticed it, or "survived"."""
    try:
        shutil.copytree(ROOT / room.folder, folder / room.folder)
        mutant = folder / room.folder / name
        lines = mutant.read_text().splitlines()
        lines[number - 1] = room.call.sub(";", lines[number - 1])
        mutant.write_text("\n".join(lines) + "\n")
        program = build(room, folder, room.includes(name, room.commands()))
        tests = next(tests for beginning, tests in room.families.items() if name.startswith(beginning))
        try:
            done = subprocess.run([program, f"--gtest_filter={tests}", "--gtest_fail_fast"], capture_output=True, text=True,
                                  errors="replace", timeout=300)  # fmt: skip
        except subprocess.TimeoutExpired:
            return "never ended"
        noticed = re.findall(r"\[  FAILED  \] (\S+)", done.stdout)
        return noticed[0].rstrip(",") if noticed else "survived" if done.returncode == 0 else f"ended with {done.returncode}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    wanted = " ".join(sys.argv[1:])
    chosen = [place for room in ROOMS for place in room.places() if wanted in "{1}:{2}: {3}".format(*place)]
    survivors, start = 0, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("MOEC_JOBS", os.cpu_count() or 1))) as pool:
        results = pool.map(lambda pair: judge(pathlib.Path.cwd() / f"mutant{pair[0]}", *pair[1][:3]), enumerate(chosen))
        for (_, name, number, line), result in zip(chosen, results):
            survivors += result == "survived"
            print(f"{name + ':' + str(number):32} {line:32} {result}", flush=True)
    print(f"{len(chosen)} barriers taken out, {survivors} not noticed, {time.monotonic() - start:.0f} s")
    sys.exit(survivors > 0 or not chosen)


if __name__ == "__main__":
    main()
