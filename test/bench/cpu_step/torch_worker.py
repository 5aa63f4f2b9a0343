"""One PyTorch trainer that works when it is told to, so that another process can take turns with others.

Started by run.py. Argument: JSON {kind, compute, config, recipe, mode, threads, initial, inputs}. Each line of standard input is a number
of updates; the answer is one JSON line {seconds, losses, peak_bytes}. Between lines it uses no processor time.
"""
import json
import pathlib
import sys
import time

import torch
from torch import nn

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


class Foreign(nn.Module):
    """A model of transformers with the loss of the peer in torch_peer: (cross entropy, nothing else)."""

    def __init__(self, kind, config):
        import foreign

        super().__init__()
        self.config = config
        self.model = foreign.build(foreign.Shape(kind, config.width, config.heads))

    def forward(self, ids, labels):
        logits = self.model(ids)
        inner = nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=self.config.pad)
        return inner, inner.new_zeros(())


class Narrow(nn.Module):
    """Under autocast: products in bf16, master weights in float32."""

    def __init__(self, model):
        super().__init__()
        self.inner, self.config = model, model.config

    def forward(self, ids, labels):
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(ids, labels)


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    config = Config(**job["config"])
    if job["kind"] != "moe":
        import foreign  # noqa: F401
    before = resident("VmRSS")
    if job["kind"] == "moe":
        model = LanguageModel(config).load(safetensors.load(job["initial"]))
    else:
        model = Foreign(job["kind"], config)
    if job["compute"] == "bf16":
        model = Narrow(model)
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
