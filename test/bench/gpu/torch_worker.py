"""PyTorch's updates of a model on the device: a job as JSON in the argument, one JSON record on standard output.

Job: {config, recipe, rows, mode: eager or compile, compute: f32 or bf16 (autocast over float32 parameters), inputs: a
safetensors file, updates, device}. Record: {seconds: of each update, start: until the end of the first one, peak_bytes}.
Or {copy_bytes: N}: {copy: bytes per second, read and written, of the best of some copies on the device}.
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


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def measure_copy(job):
    source = torch.zeros(job["copy_bytes"], dtype=torch.uint8, device=job["device"])
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(20):
        wait(job["device"])
        start = time.perf_counter()
        for _ in range(10):
            target.copy_(source)
        wait(job["device"])
        best = min(best, (time.perf_counter() - start) / 10)
    return {"copy": 2 * job["copy_bytes"] / best}


def train(job, begin):
    with torch.device(job["device"]):
        model = LanguageModel(Config(**job["config"]))
    generator = torch.Generator(job["device"]).manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=generator)
    narrow = job["compute"] == "bf16"

    def forward(ids, labels):
        with torch.autocast(job["device"], torch.bfloat16, enabled=narrow):
            return model(ids, labels)

    if job["mode"] == "compile":
        forward = torch.compile(forward, fullgraph=True, dynamic=False)
    trainer = Trainer(model, Recipe(**job["recipe"]), forward)
    inputs = {name: torch.from_numpy(array.copy()).to(job["device"]) for name, array in safetensors.load(job["inputs"]).items()}
    seconds, first = [], 0.0
    for update in range(job["updates"]):
        start = time.perf_counter()
        batch = update % len(inputs["input_ids"])
        loss, _ = trainer.update(inputs["input_ids"][batch], inputs["labels"][batch])
        float(loss)
        wait(job["device"])
        seconds.append(time.perf_counter() - start)
        first = first or time.perf_counter() - begin
    peak = torch.cuda.max_memory_allocated() if job["device"] == "cuda" else 0
    return {"seconds": seconds, "start": first, "peak_bytes": peak}


def main():
    begin = time.perf_counter()
    job = json.loads(sys.argv[1])
    print(json.dumps(measure_copy(job) if "copy_bytes" in job else train(job, begin)))


if __name__ == "__main__":
    main()
