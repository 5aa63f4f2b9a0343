#!/usr/bin/env python3
"""tools/demo against PyTorch: the same weights, batches and optimizer, loss and held-out bits along the way.

    python3 test/bench/demo_curve/run.py --bin build/bin --text FILE --updates 200 -o test/bench/results/demo_curve

FILE is what `bible -f 'gen1:1-rev22:21'` prints. First the oracle: loss, gradient norm and every gradient of the first
update against PyTorch in float64. Then both train in float32 and are evaluated on the held-out end of the text at the same
updates. With --twin PyTorch trains once more from weights moved in their last bit: how far two runs of one program drift
apart is what the tolerance must be seen against. Writes OUT.json and OUT.md; exit code 1 if the first update or the curve
leave their tolerances.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from torch_peer import data, programs, safetensors  # noqa: E402
from torch_peer.model import LanguageModel  # noqa: E402
from torch_peer.settings import Config, Recipe  # noqa: E402
from torch_peer.training import Trainer, evaluate  # noqa: E402

ROWS = 16
CURVE_TOLERANCE = 0.03  # bits per byte: two float32 runs of one model drift apart where a near tie is routed otherwise
ORACLE_TOLERANCE = 1e-5  # relative: float32 sums over 4096 tokens against float64
LN2 = float(np.log(2))


def relative(value, exact):
    return abs(value - exact) / abs(exact)


def first_update(config, recipe, initial, batch, plan, args, folder):
    """Loss, gradient norm and gradients of update 0: PyTorch in float64 against `moerun run`."""
    inputs = {"input_ids": batch[0][None], "labels": batch[1][None]}
    safetensors.save(folder / "first.safetensors", {name: np.ascontiguousarray(x) for name, x in inputs.items()})
    ours = programs.records(
        programs.call([args.bin / "moerun", "run", plan, "--inputs", folder / "first.safetensors", "--steps", 1,
                       "--save-gradients", folder / "gradients.safetensors", "--log-format", "json"])
    )[0]  # fmt: skip
    gradients = safetensors.load(folder / "gradients.safetensors")

    result = {}
    for dtype in (torch.float64, torch.float32):
        trainer = Trainer(LanguageModel(config).load(initial).to(dtype), recipe)
        loss = float(trainer.gradients(*map(torch.from_numpy, batch)).detach())
        theirs = {name: p.grad.double().numpy() for name, p in trainer.model.named_parameters()}
        if theirs.keys() != gradients.keys():
            raise SystemExit(f"gradients of other parameters: {sorted(theirs.keys() ^ gradients.keys())}")
        norm = float(np.sqrt(sum(np.square(g).sum() for g in theirs.values())))
        # A gradient that is zero but for rounding is measured by the norm of all of them.
        distance = {
            name: float(np.linalg.norm(gradients[name] - g) / (np.linalg.norm(g) + 1e-2 * norm))
            for name, g in theirs.items()
        }
        worst = max(distance, key=distance.get)
        result[str(dtype).removeprefix("torch.")] = {
            "loss": loss, "loss_error": relative(ours["loss"], loss),
            "gnorm": norm, "gnorm_error": relative(ours["gnorm"], norm),
            "worst_gradient": worst, "worst_gradient_error": distance[worst],
        }  # fmt: skip
    return {"ours": {"loss": ours["loss"], "gnorm": ours["gnorm"]}, "torch": result}


def start_our_curve(args, plan, folder):
    """`moerun train`, which runs while PyTorch does: nothing is timed here."""
    command = [args.bin / "moerun", "train", plan, "--data", args.text, "--valid-split", args.held_out, "--save-dir",
               folder / "checkpoints", "--max-update", args.updates, "--validate-interval-updates", args.interval,
               "--log-interval", 1, "--log-format", "json"]  # fmt: skip
    log = open(folder / "train.log", "w")
    return subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT)


def our_curve(process, folder):
    """{update: record} of the updates, and the same of the held-out records."""
    code, text = process.wait(), (folder / "train.log").read_text()
    if code != 0:
        raise SystemExit(f"moerun train ended with {code}:\n{text}")
    lines = programs.records(text)
    train = {line["update"]: line for line in lines if "gnorm" in line}
    valid = {line["update"]: line for line in lines if "valid_loss" in line}
    return train, valid


def their_curve(args, config, recipe, initial, train, valid):
    """The same of PyTorch: {update: (loss, norm)}, {update: (held-out loss, held-out cross entropy)}."""
    trainer = Trainer(LanguageModel(config).load(initial), recipe)
    steps, points = {}, {}
    for update in range(args.updates):
        batch = data.batch(train, update, ROWS, recipe.seed)
        loss, norm = trainer.update(*map(torch.from_numpy, batch))
        steps[update + 1] = (float(loss), float(norm))
        if (update + 1) % args.interval == 0 or update + 1 == args.updates:
            points[update + 1] = evaluate(trainer.model, data.in_order(valid, ROWS, config.pad))
            print(f"update {update + 1}: PyTorch {points[update + 1][1] / LN2:.4f} bits per held-out byte", flush=True)
    return steps, points


def moved(initial):
    """The weights, each moved by -1, 0 or 1 unit in its last place."""
    random = np.random.default_rng(1)
    return {
        name: (x * (1 + random.integers(-1, 2, size=x.shape) * np.float32(2.0**-23))).astype(np.float32)
        for name, x in initial.items()
    }


def bigram_bits(text, held_out):
    script = pathlib.Path(__file__).resolve().parents[3] / "tools" / "bigram.py"
    return float(programs.call([sys.executable, script, text, held_out]))


def table(result):
    """Markdown of a result."""
    head = result["surroundings"]
    lines = [
        f"# The demo beside PyTorch, {head['date']}",
        "",
        f"{head['cpu']}, threads: {head['threads']}; PyTorch {head['torch']}, float32. The model and recipe of `tools/demo`, the same first weights "
        f"and batches; the first {result['updates']} updates of its schedule. The last {result['held_out']:.1%} of the text are held out; "
        f"a bigram table needs {result['bigram']} bits for each of these bytes.",
        "",
        "## First update",
        "",
        "| | moerun | PyTorch float64 | error | PyTorch float32 | error |",
        "|---|---|---|---|---|---|",
    ]
    first = result["first_update"]
    exact, single = first["torch"]["float64"], first["torch"]["float32"]
    for key in ("loss", "gnorm"):
        lines.append(f"| {key} | {first['ours'][key]:.7f} | {exact[key]:.7f} | {exact[key + '_error']:.1e} | "
                     f"{single[key]:.7f} | {single[key + '_error']:.1e} |")  # fmt: skip
    lines.append(f"| gradients, the farthest | `{exact['worst_gradient']}` | | {exact['worst_gradient_error']:.1e} | | "
                 f"{single['worst_gradient_error']:.1e} |")  # fmt: skip
    twin = "twin" in result["curve"][0]
    lines += [
        "",
        "## Bits per held-out byte",
        "",
        "With the weighted gate loss, as `moerun` logs them; the last column is PyTorch's cross entropy alone."
        + (" The twin is PyTorch again, from weights moved in their last bit." if twin else ""),
        "",
        "| update | moerun | PyTorch | difference |" + (" twin - PyTorch |" if twin else "") + " PyTorch without gate loss |",
        "|---|---|---|---|---|" + ("---|" if twin else ""),
    ]
    for p in result["curve"]:
        drift = f" {p['twin'] - p['torch']:+.4f} |" if twin else ""
        lines.append(f"| {p['update']} | {p['ours']:.4f} | {p['torch']:.4f} | {p['ours'] - p['torch']:+.4f} |{drift} "
                     f"{p['torch_inner']:.4f} |")  # fmt: skip
    worst = result["largest_difference_of_training_loss"]
    lines += ["", f"Training losses differ by at most {worst['nats']:.1e} nats (update {worst['update']})."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of moec and moerun")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--updates", type=int, default=1200)
    parser.add_argument("--interval", type=int, default=100, help="updates between two evaluations")
    parser.add_argument("--held-out", type=float, default=0.05, help="fraction of the text, its end")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--twin", action="store_true", help="a second run of PyTorch, from weights moved in their last bit")
    parser.add_argument("-o", "--out", type=pathlib.Path, help="writes OUT.json and OUT.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config, recipe = Config(), Recipe()

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        plan, _ = programs.compile_plan(args.bin, folder, config, recipe, ROWS, args.threads)
        train, valid = data.split(args.text, args.held_out, config.length)
        batch = data.batch(train, 0, ROWS, recipe.seed)
        empty = {"input_ids": batch[0][None], "labels": batch[1][None]}
        safetensors.save(folder / "any.safetensors", {key: np.ascontiguousarray(x) for key, x in empty.items()})
        programs.call([args.bin / "moerun", "run", plan, "--inputs", folder / "any.safetensors", "--steps", 0,
                       "--save-state", folder / "initial.safetensors"])  # fmt: skip
        initial = safetensors.load(folder / "initial.safetensors")
        first = first_update(config, recipe, initial, batch, plan, args, folder)
        print(json.dumps(first, indent=1), flush=True)
        process = start_our_curve(args, plan, folder)
        try:
            steps, points = their_curve(args, config, recipe, initial, train, valid)
            our_steps, our_points = our_curve(process, folder)
        finally:
            process.kill()
        twin_points = their_curve(args, config, recipe, moved(initial), train, valid)[1] if args.twin else {}

    differences = {update: abs(our_steps[update]["loss"] - loss) for update, (loss, _) in steps.items()}
    worst = max(differences, key=differences.get)
    curve = [{"update": update, "ours": our_points[update]["valid_loss"] / LN2, "torch": loss / LN2,
              "torch_inner": inner / LN2} for update, (loss, inner) in points.items()]  # fmt: skip
    for point in curve:
        if point["update"] in twin_points:
            point["twin"] = twin_points[point["update"]][0] / LN2
    result = {
        "surroundings": programs.surroundings() | {"threads": args.threads},
        "updates": args.updates, "held_out": args.held_out, "bigram": bigram_bits(args.text, args.held_out), "first_update": first, "curve": curve,
        "largest_difference_of_training_loss": {"update": worst, "nats": differences[worst]},
        "training_loss": [[update, our_steps[update]["loss"], loss] for update, (loss, _) in steps.items()],
    }  # fmt: skip
    print(table(result))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(table(result))

    # Held against float32 too: a token whose experts nearly tie may be routed otherwise in float64.
    errors = [min(t[key] for t in first["torch"].values()) for key in ("loss_error", "gnorm_error", "worst_gradient_error")]
    failed = [f"first update: {e:.1e}" for e in errors if e > ORACLE_TOLERANCE]
    failed += [f"update {p['update']}: the curves differ" for p in curve if abs(p["ours"] - p["torch"]) > CURVE_TOLERANCE]
    print("\n".join(failed) or "within tolerances")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
