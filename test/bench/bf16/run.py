#!/usr/bin/env python3
"""PyTorch's own bf16 against float64, on models that fairseq's trainer recorded: what our bf16 is measured by.

    python3 test/bench/bf16/run.py --bin build/bin -o test/data/fairseq/bf16.json

Both start from the recorded weights and see the recorded batches. bf16 is torch.autocast on the CPU: products and attention
in bf16, softmax, norms, the gate and the loss in float32, float32 master weights. First PyTorch in float64 is checked
against the recorded gradients. Per configuration the file has the distance of the first update's gradients from float64,
as a part of their norm over all tensors, and that of the losses of all updates, in RMS. Then the model of tools/demo, with
the weights that `moerun` draws and the tokens of test/e2e/simulated_demo.py: the distance of each gradient.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[3]
os.environ.setdefault("MOEC_ROOT", str(ROOT))
os.environ.setdefault("MOEC_BUILD", str(ROOT / "build"))
sys.path[:0] = [str(ROOT / "test/bench"), str(ROOT / "test/e2e/support")]
import fairseq  # noqa: E402
from torch_peer import programs, safetensors  # noqa: E402
from torch_peer.model import LanguageModel  # noqa: E402
from torch_peer.settings import Config, Recipe  # noqa: E402

CONFIGURATIONS = ("w1-dense", "w1-main")
FLOAT32_TABLE = 1e-6  # the recorded positions are float32


def config_of(golden):
    given = golden.given
    number = lambda flag: int(given[flag])
    moe_freq = int(given.get("moe-freq", 0))
    layers = number("decoder-layers")
    return Config(
        layers=layers, width=number("decoder-embed-dim"), ffn=number("decoder-ffn-embed-dim"),
        heads=number("decoder-attention-heads"), length=number("tokens-per-sample"), vocabulary=golden.vocabulary,
        moe_freq=moe_freq, experts=int(given.get("moe-expert-count", 1)), learned_positions=False,
        # The trainer adds up what the peer averages.
        gate_loss=float(given.get("moe-gate-loss-wt", 0)) * (layers // moe_freq if moe_freq else 1),
    )  # fmt: skip


def loss_of(model, ids, labels, narrow):
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        inner, gate = model(ids, labels)
    return inner + model.config.gate_loss * gate


def train(golden, dtype, narrow):
    """(losses of all updates, gradients of the first) by name."""
    model = LanguageModel(config_of(golden)).load({k: v.astype(np.float32) for k, v in golden.initial.items()}).to(dtype)
    adam = torch.optim.Adam(model.parameters(), lr=1.0, betas=golden.recipe["optimizer"]["betas"], eps=1e-8)
    losses, gradients = [], None
    for update in range(golden.updates):
        ids, labels = (torch.from_numpy(golden.inputs[name][update]) for name in ("input_ids", "labels"))
        loss = loss_of(model.train(), ids, labels, narrow)
        adam.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        if gradients is None:
            gradients = {name: p.grad.double().numpy().copy() for name, p in model.named_parameters()}
        for group in adam.param_groups:
            group["lr"] = golden.exact[update]["lr_used"]
        adam.step()
    return np.array(losses), gradients


def distance(gradients, exact):
    """Over all tensors, as a part of the norm."""
    square = lambda arrays: sum(float(np.square(array).sum()) for array in arrays)
    return float(np.sqrt(square(gradients[name] - exact[name] for name in exact) / square(exact.values())))


def demo(binaries):
    """{parameter: distance of its gradient}, without those that are zero but for rounding"""
    config = Config()
    batch = np.random.default_rng(5).integers(4, 260, (2, 1, 16, config.length), dtype=np.int64)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        plan, _ = programs.compile_plan(binaries, folder, config, Recipe(), rows=16, threads=0)
        safetensors.save(folder / "inputs", dict(zip(("input_ids", "labels"), batch)))
        # The learning rate of the first update is zero: the warm-up begins there.
        programs.call([binaries / "moerun", "run", plan, "--inputs", folder / "inputs", "--steps", 1, "--seed", 7,
                       "--save-state", folder / "initial"])  # fmt: skip
        initial = safetensors.load(folder / "initial")
    ids, labels = map(torch.from_numpy, batch[:, 0])
    gradients = []
    for dtype, narrow in ((torch.float64, False), (torch.float32, True)):
        model = LanguageModel(config).load(initial).to(dtype).train()
        loss_of(model, ids, labels, narrow).backward()
        gradients.append({name: p.grad.double().numpy() for name, p in model.named_parameters()})
    exact, found = gradients
    norms = {name: float(np.linalg.norm(array)) for name, array in exact.items()}
    least = 1e-9 * max(norms.values())
    return {name: float(np.linalg.norm(found[name] - exact[name]) / norm) for name, norm in norms.items() if norm > least}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="folder of moec and moerun")
    parser.add_argument("-o", dest="output", required=True, type=pathlib.Path)
    args = parser.parse_args()
    result = {"what": "PyTorch's bf16 (torch.autocast on the CPU) against float64", **programs.surroundings(), "configurations": {}}
    for name in CONFIGURATIONS:
        golden = fairseq.Golden(name)
        wide, exact = train(golden, torch.float64, narrow=False)
        recorded = distance(exact, golden.gradients)
        if recorded > FLOAT32_TABLE:
            raise SystemExit(f"{name}: PyTorch in float64 is {recorded:.1e} from what was recorded")
        narrow, gradients = train(golden, torch.float32, narrow=True)
        rms = float(np.sqrt(np.mean(np.square(narrow - wide))))
        result["configurations"][name] = {"gradients": distance(gradients, golden.gradients), "losses": rms}
        print(f"{name}: float64 is {recorded:.1e} from the recorded gradients, bf16 {distance(gradients, golden.gradients):.2e}; "
              f"losses in bf16 are {rms:.2e} nats off in RMS, in float64 {np.abs(wide - golden.losses()).max():.1e} at most")  # fmt: skip
    result["demo"] = demo(args.bin)
    print("demo:", ", ".join(f"{value:.1e} {name}" for name, value in sorted(result["demo"].items(), key=lambda x: -x[1])[:8]))
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
