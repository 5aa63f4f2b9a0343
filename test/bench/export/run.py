#!/usr/bin/env python3
"""Do trained exports load into `transformers`, and does it compute the same with them?

    VENV/bin/python test/bench/export/run.py --bin build/bin -o test/bench/results/export.md      (needs: torch transformers)

Each model of test/data/onnx that is one of transformers is compiled, trained for ten updates with moerun, and exported.
`from_pretrained` then loads a folder of config.json and model.safetensors; what it reports as missing, unexpected or
mismatched is shown. Its logits of a batch, in float64, are compared with those of moerun's forward after the training.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[3]
VOCAB = 256
MODELS = {
    "gpt2": ("AutoModelForCausalLM", transformers.GPT2Config(vocab_size=VOCAB, n_positions=64, n_embd=64, n_layer=3, n_head=4)),
    "llama": ("AutoModelForCausalLM", transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64)),
    "mixtral": ("AutoModelForCausalLM", transformers.MixtralConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=64, sliding_window=None)),
    "bart": ("AutoModelForSeq2SeqLM", transformers.BartConfig(
        vocab_size=VOCAB, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=64)),
    "opt": ("AutoModelForCausalLM", transformers.OPTConfig(
        vocab_size=VOCAB, hidden_size=64, ffn_dim=128, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
        word_embed_proj_dim=64)),
}  # fmt: skip


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
    return done


def trained(programs, name, work):
    """Trains; exports into work/hf; the logits of the first batch after that, by moerun."""
    folder = ROOT / "test/data/onnx" / name
    bind = ["--bind", "batch=4", "--bind", "seq=32"] if json.loads((folder / "golden.json").read_text())["symbolic"] else []
    run(programs / "moec", "compile", folder / "model.onnx", "--recipe", folder / "recipe.yaml", *bind, "-o", work / "p.moe")
    (work / "hf").mkdir()
    run(programs / "moerun", "train", work / "p.moe", "--data", folder / "inputs.safetensors", "--max-update", 10, "--save-dir",
        work / "run", "--export", work / "hf/model.safetensors", "--strip-prefix", "m.")  # fmt: skip
    state = load_file(next((work / "run").glob("*.safetensors")))
    # A checkpoint also has moments and counters; --init-state takes the parameters alone.
    run(programs / "moerun", "run", work / "p.moe", "--inputs", folder / "inputs.safetensors", "--steps", 1, "--save-state", work / "names")
    names = load_file(work / "names").keys()
    save_file({key: value for key, value in state.items() if key in names}, work / "parameters")
    run(programs / "moerun", "run", work / "p.moe", "--inputs", folder / "inputs.safetensors", "--steps", 1, "--init-state",
        work / "parameters", "--save-outputs", work / "outputs")  # fmt: skip
    inputs = {key: value[0] for key, value in load_file(folder / "inputs.safetensors").items() if key != "labels"}
    return inputs, load_file(work / "outputs")["logits"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin")
    parser.add_argument("-o", type=pathlib.Path, help="file of the table")
    options = parser.parse_args()
    lines = [f"transformers {transformers.__version__}, torch {torch.__version__}. Logits: largest difference over the largest logit.", "",
             "| model | tensors | missing | unexpected | mismatched | logits off by | with first weights off by |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, (kind, config) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            work = pathlib.Path(folder)
            inputs, logits = trained(options.bin.resolve(), name, work)
            config.architectures = None
            config.save_pretrained(work / "hf")
            model, report = getattr(transformers, kind).from_pretrained(work / "hf", output_loading_info=True, dtype=torch.float64)
            tensors = len(load_file(work / "hf/model.safetensors"))
            # The same comparison before the training must fail, or the logits would say nothing about the weights.
            run(options.bin.resolve() / "moerun", "export", work / "p.moe", "--output", work / "hf/model.safetensors", "--strip-prefix", "m.")
            untrained = getattr(transformers, kind).from_pretrained(work / "hf", dtype=torch.float64)
        gaps = []
        for candidate in (model, untrained):
            candidate.config._experts_implementation = "batched_mm"  # the default has no float64
            with torch.no_grad():
                got = candidate.eval()(**{key: torch.from_numpy(value) for key, value in inputs.items()}).logits.numpy()
            gaps.append(np.abs(got - logits).max() / np.abs(logits).max())
        shown = [", ".join(sorted(map(str, report[key]))) or "none" for key in ("missing_keys", "unexpected_keys", "mismatched_keys")]
        lines.append(f"| {name} | {tensors} | {' | '.join(shown)} | {gaps[0]:.1e} | {gaps[1]:.1e} |")
        print(lines[-1], flush=True)
    if options.o:
        options.o.write_text("# Trained exports in transformers\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
