"""One PyTorch trainer that works when it is told to, so that another process can take turns with others.

Started by run.py. Argument: JSON {config, recipe, mode, threads, initial, inputs}. Each line of standard input is a number
of updates; the answer is one JSON line {seconds, losses, peak_bytes}. Between lines it uses no processor time.
"""
import json
import pathlib
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from torch_peer import safetensors  # noqa: E402
from torch_peer.model import LanguageModel  # noqa: E402
from torch_peer.settings import Config, Recipe  # noqa: E402
from torch_peer.training import Trainer  # noqa: E402


def resident(key):
    """VmRSS or VmHWM of this process in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    before = resident("VmRSS")
    model = LanguageModel(Config(**job["config"])).load(safetensors.load(job["initial"]))
    forward = torch.compile(model, fullgraph=True, dynamic=False) if job["mode"] == "compile" else None
    trainer = Trainer(model, Recipe(**job["recipe"]), forward)
    inputs = {name: torch.from_numpy(array.copy()) for name, array in safetensors.load(job["inputs"]).items()}
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            batch = trainer.done % len(inputs["input_ids"])
            loss, _ = trainer.update(inputs["input_ids"][batch], inputs["labels"][batch])
            losses.append(float(loss))
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "losses": losses, "peak_bytes": resident("VmHWM") - before}), flush=True)
        # The next answer's peak is that of its updates, not of the compiler at the first one.
        pathlib.Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
