"""The folder that test/gpu/pack.py fills, on the machine that it was carried to, and the table that scripts print there."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback

TOOLKIT = pathlib.Path(os.environ.get("CUDA_PATH", "/usr/local/cuda"))
SIMULATED = "simulated"


class Skipped(Exception):
    """A row that does not apply here."""


class Failed(Exception):
    """A row that failed; the text says how."""


class Carried:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        try:
            self.index = json.loads((self.folder / "index.json").read_text())
        except (OSError, ValueError) as error:
            raise SystemExit(f"This did not run: {folder} is not a folder of test/gpu/pack.py ({error}).")
        if "models" not in self.index:
            raise SystemExit(f"This did not run: test/gpu/pack.py has not finished {folder}.")
        self.simulated = self.index["target"] == SIMULATED
        libraries = [self.folder / "lib", TOOLKIT / "lib64", os.environ.get("LD_LIBRARY_PATH")]
        self.environment = os.environ | {"LD_LIBRARY_PATH": ":".join(str(path) for path in libraries if path)}
        self.moerun = self.folder / "bin/moerun"
        self.kernels = self.folder / "bin/kernels"

    def models(self, *names):
        """The models of the index: all, or those named."""
        return [model for model in self.index["models"] if not names or model["name"] in names]

    def device(self):
        """(whether a device is at hand, the sentence that says so)."""
        if self.simulated:
            return False, "This did not run on a device, but on the simulated one: times and memory mean nothing."
        try:
            words = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
            found = subprocess.run(words, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            return False, f"This did not run on a device: none is found ({error})."
        if found.returncode != 0 or not found.stdout.strip():
            return False, f"This did not run on a device: none is found ({(found.stdout + found.stderr).strip()})."
        return True, f"This ran on a device: {found.stdout.splitlines()[0]}; plans for {self.index['target']}."


class Table:
    """Prints rows as they come; whatever goes wrong in one is a row, and the next one follows."""

    def __init__(self, sentence, columns, seconds):
        self.end, self.failed, self.lines = time.monotonic() + seconds, 0, []
        self.width = len(columns) + 3
        self.print(sentence)
        self.print("")
        self.print("| what | result | seconds | " + " | ".join(columns) + " |")
        self.print("|" + "---|" * self.width)

    def print(self, line):
        self.lines.append(line)
        print(line, flush=True)

    def left(self):
        return self.end - time.monotonic()

    def row(self, name, work, *arguments):
        """Calls work(*arguments), which returns the other columns (a text, or a list of them)."""
        start = time.monotonic()
        try:
            if self.left() < 2:
                raise Skipped("no time is left")
            result, cells = "ok", work(*arguments)
        except Skipped as why:
            result, cells = "skipped", str(why)
        except (Failed, subprocess.TimeoutExpired) as why:
            result, cells = "FAIL", str(why)
        except Exception:  # a table with a hole is worth more than none
            result, cells = "FAIL", "".join(traceback.format_exc().splitlines(keepends=True)[-3:])
        self.failed += result == "FAIL"
        cells = [cells] if isinstance(cells, str) else list(cells)
        cells += [""] * (self.width - 3 - len(cells))
        clean = [" ".join(str(cell).replace("|", "/").split())[-400:] for cell in cells]
        self.print(f"| {name} | {result} | {time.monotonic() - start:.1f} | " + " | ".join(clean) + " |")
        return result == "ok"

    def finish(self, out=None):
        """Ends the script: status 1 if a row failed."""
        self.print("")
        self.print(f"{self.failed} failed")
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text("\n".join(self.lines) + "\n")
        sys.exit(bool(self.failed))


def call(table, words, limit, environment=None):
    """Standard output of a program, which must end with 0 within `limit` seconds and the table's time."""
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=environment,
                          timeout=max(1, min(limit, table.left())), cwd=tempfile.gettempdir())  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-300:]
        raise Failed(f"{pathlib.Path(words[0]).name} ended with {done.returncode}: {said}")
    return done.stdout


def records(text):
    """JSON lines among others."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
