"""Calls of moec and moerun."""
import datetime
import json
import pathlib
import platform
import subprocess


def call(words):
    """Standard output of a program; its errors end the script."""
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def records(text):
    """JSON lines among others."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def compile_plan(binaries, folder, config, recipe, rows, threads):
    """Writes model.onnx, recipe.yaml and model.moe into a folder; returns (plan, moec's report)."""
    folder.mkdir(parents=True, exist_ok=True)
    model, text, plan = folder / "model.onnx", folder / "recipe.yaml", folder / "model.moe"
    text.write_text(recipe.yaml())
    call([binaries / "moec", "model", "transformer_lm_gpt", *config.flags(), "-o", model])
    report = call([binaries / "moec", "compile", model, "--recipe", text, "--bind", f"batch={rows}", "--bind",
                   f"seq={config.length}", "--threads", threads, "--json", "-o", plan])  # fmt: skip
    return plan, json.loads(report)


def cpu_name():
    info = pathlib.Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def surroundings():
    """Date, processor and versions, for the head of a table of results."""
    import torch

    return {"date": datetime.date.today().isoformat(), "cpu": cpu_name(), "torch": torch.__version__}
