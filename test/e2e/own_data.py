"""Training on data of every format, on exports of public models: equal tokens give equal losses, whatever file they come from.

The files are written here with struct and numpy alone. What PyTorch computed for ten updates in the order of its batches
(test/data/onnx) is the oracle of the samples; everything else is compared with them or with windows that are cut here.
"""
import json
import os
import pathlib
import shutil
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

report = lab.Report()
ONNX = lab.ROOT / "test/data/onnx"
BATCH, LENGTH, VOCABULARY = 4, 32, 256


def compile_model(name, plan):
    folder = ONNX / name
    bind = ["--bind", f"batch={BATCH}", "--bind", f"seq={LENGTH}"] if name == "gpt2" else []
    lab.run("moec", "compile", folder / "model.onnx", "--recipe", folder / "recipe.yaml", *bind, "-o", plan)
    return folder


def train(plan, data, *flags, updates=6, folder="run", code=0, keep=False):
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return lab.run("moerun", "train", plan, "--data", data, "--max-update", updates, "--save-dir", folder,
                   "--log-interval", 1, "--log-format", "json", *flags, code=code)  # fmt: skip


def losses(*words, **options):
    return [line["loss"] for line in lab.records(train(*words, **options).stdout) if "valid_loss" not in line]


def write_megatron(stem, documents, dtype, code, per_document=1):
    """One sequence for each document, or several of at most `per_document` parts."""
    sequences, ends = [], [0]
    for document in documents:
        sequences += [part for part in np.array_split(document, per_document)]
        ends.append(len(sequences))
    lengths = [len(sequence) for sequence in sequences]
    offsets = np.cumsum([0] + lengths[:-1]) * np.dtype(dtype).itemsize
    with open(stem + ".idx", "wb") as file:
        file.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, len(sequences), len(ends)))
        file.write(np.array(lengths, "<i4").tobytes() + np.array(offsets, "<i8").tobytes() + np.array(ends, "<i8").tobytes())
    np.concatenate(sequences).astype(dtype).tofile(stem + ".bin")


def write_fairseq(stem, documents):
    lengths = [len(document) for document in documents]
    with open(stem + ".idx", "wb") as file:
        file.write(b"MMIDIDX\0\0" + struct.pack("<QBQ", 1, 4, len(documents)))
        file.write(np.array(lengths, "<i4").tobytes() + np.array(np.cumsum([0] + lengths[:-1]) * 4, "<i8").tobytes())
    np.concatenate(documents).astype("<i4").tofile(stem + ".bin")


def write_legacy(stem, documents):
    lengths = [len(document) for document in documents]
    with open(stem + ".idx", "wb") as file:
        file.write(b"TNTIDX\0\0" + struct.pack("<QQQQQ", 1, 5, 8, len(documents), len(documents)))
        for numbers in (range(len(documents) + 1), np.cumsum([0] + lengths), lengths):
            file.write(np.array(numbers, "<i8").tobytes())
    np.concatenate(documents).astype("<i8").tofile(stem + ".bin")


def write_lines(path, rows):
    pathlib.Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---------------------------------------------------------------------------------------------------- GPT-2: streams
compile_model("gpt2", "gpt2.moe")
rng = np.random.default_rng(3)
documents = [rng.integers(0, VOCABULARY, rng.integers(1, 90)) for _ in range(60)]
stream = np.concatenate(documents)
np.save("stream.npy", stream.astype(np.uint16))
write_megatron("megatron", documents, "<u2", 8, per_document=2)
write_fairseq("fairseq", documents)
write_legacy("legacy", documents)
windows = [stream[i : i + LENGTH + 1] for i in range(0, len(stream) - LENGTH, LENGTH)]
write_lines("windows.jsonl", [{"input_ids": window.tolist()} for window in windows])
write_lines("pairs.jsonl", [{"labels": window[1:].tolist(), "x": window[:-1].tolist()} for window in windows])
lab.save("windows.safetensors", {"input_ids": np.stack(windows)[:, :-1].astype("i8"), "labels": np.stack(windows)[:, 1:].astype("i4")})

reference = losses("gpt2.moe", "stream.npy")
report.check(len(reference) == 6 and reference[-1] < reference[0], f"GPT-2 trains: {reference[0]:.4f} to {reference[-1]:.4f}")
for data, flags in {"megatron": [], "fairseq.bin": [], "legacy.idx": [], "windows.jsonl": [], "windows.safetensors": [],
                    "pairs.jsonl": ["--columns", "input_ids=x"]}.items():  # fmt: skip
    report.check(losses("gpt2.moe", data, *flags) == reference, f"{data}: the losses of stream.npy")
ordered = losses("gpt2.moe", "stream.npy", "--in-order")
report.check(ordered != reference and ordered == losses("gpt2.moe", "windows.jsonl", "--in-order"), "--in-order")

# Documents: pieces that end with them, padded; as lines they are the same samples.
pieces = [document[i : i + LENGTH + 1] for document in documents for i in range(0, len(document) - 1, LENGTH)]
write_lines("pieces.jsonl", [{"input_ids": piece.tolist()} for piece in pieces])
apart = losses("gpt2.moe", "megatron", "--documents")
report.check(apart == losses("gpt2.moe", "pieces.jsonl") and apart != reference, "--documents")
counted = lab.records(lab.run("moerun", "eval", "gpt2.moe", "--data", "megatron", "--documents", "--log-format", "json").stdout)[0]
report.check(counted["ntokens"] == sum(max(len(d) - 1, 0) for d in documents), f"eval counts every label once: {counted['ntokens']}")

# ---------------------------------------------------------------------------------------- samples: PyTorch's own batches
for name in ("gpt2-loss", "bart"):
    folder = compile_model(name, f"{name}.moe")
    exact = np.array(json.loads((folder / "golden.json").read_text())["runs"]["sgd"]["float64"])
    batches = lab.load(folder / "inputs.safetensors")
    got = np.array(losses(f"{name}.moe", folder / "inputs.safetensors", "--in-order", updates=10))
    report.check(np.all(np.abs(got - exact) <= 1e-5 * exact), f"{name}: ten batches in order give PyTorch's losses")
    rows = []
    for batch in range(10):
        for row in range(BATCH):
            line = {key: value[batch, row].tolist() for key, value in batches.items()}
            # Tails that mean padding are left out; what is under a mask stays, since the encoder's positions see it.
            while line["labels"] and line["labels"][-1] == -100:
                line["labels"].pop()
            if "attention_mask" in line:
                line["attention_mask"] = line["attention_mask"][: sum(line["attention_mask"])]
            rows.append(line | {"comment": {"nested": ["x", 1.5]}})
    write_lines(f"{name}.jsonl", rows)
    lined = losses(f"{name}.moe", f"{name}.jsonl", "--in-order", updates=10)
    report.check(lined == list(got), f"{name}: lines of JSON give the losses of safetensors")

# BART's lines with what follows from other columns left out, against batches that are completed here.
rows, full = [], {key: [] for key in ("input_ids", "attention_mask", "decoder_input_ids", "labels")}
for _ in range(40):
    source, target = (rng.integers(4, VOCABULARY, rng.integers(2, LENGTH + 1)).tolist() for _ in range(2))
    rows.append({"input_ids": source, "labels": target})
    pad = lambda row, filler: row + [filler] * (LENGTH - len(row))
    for key, row in {"input_ids": pad(source, 1), "attention_mask": pad([1] * len(source), 0),
                     "decoder_input_ids": pad([2] + target[:-1], 1), "labels": pad(target, -100)}.items():  # fmt: skip
        full[key].append(row)
write_lines("translation.jsonl", rows)
lab.save("translation.safetensors", {key: np.array(value, "i8") for key, value in full.items()})
short = ["--decoder-start", 2, "--pad-token", 1]
complete = losses("bart.moe", "translation.safetensors")
report.check(losses("bart.moe", "translation.jsonl", *short) == complete, "BART: masks, padding, shifted labels")

# ------------------------------------------------------------------------------------------------------ kill and resume
for plan, data, flags in (("gpt2.moe", "megatron", []), ("bart.moe", "translation.jsonl", short)):
    parts, name = f"{plan}.parts", "checkpoint_00000014.safetensors"
    whole = losses(plan, data, *flags, updates=14, folder=f"{plan}.whole")  # more than an epoch of the lines
    first = losses(plan, data, *flags, updates=5, folder=parts)
    second = losses(plan, data, *flags, "--resume", updates=14, folder=parts, keep=True)
    report.check(whole == first + second and lab.digest(f"{plan}.whole/{name}") == lab.digest(f"{parts}/{name}"),
                 f"{data}: a resumed run is the uninterrupted one, bit for bit")  # fmt: skip
other = train("gpt2.moe", "windows.jsonl", "--resume", updates=15, folder="gpt2.moe.whole", keep=True)
report.check("update 14" in other.stderr, "the same samples in another file continue a run")
wrong = train("gpt2.moe", "windows.jsonl", "--resume", "--in-order", updates=16, folder="gpt2.moe.whole", keep=True, code=1)
report.check("another order" in wrong.stderr and "leave out --in-order" in wrong.stderr, "another order does not")
ordered = losses("gpt2.moe", "stream.npy", "--in-order", updates=3, folder="ordered")
ordered += losses("gpt2.moe", "stream.npy", "--in-order", "--resume", updates=6, folder="ordered", keep=True)
report.check(ordered == losses("gpt2.moe", "windows.jsonl", "--in-order"), "a run in the order of the file resumes")
wrong = train("gpt2.moe", "pieces.jsonl", "--resume", updates=16, folder="gpt2.moe.whole", keep=True, code=1)
report.check("other training data" in wrong.stderr, "other samples do not")

# ----------------------------------------------------------------------------------------------------- what is refused
write_lines("bad.jsonl", [{"input_ids": [1, 2]}, {"input_ids": [1, 2], "labels": [300]}, {"labels": [5]}, [1]])
for data, flags, code, words in (
    ("bad.jsonl", short, 1, ["line 2: token outside the vocabulary", "line 3: a sample has no values", "line 4: the line is a list"]),
    ("translation.jsonl", [], 1, ["decoder_input_ids", "--columns"]),
    ("translation.jsonl", ["--columns", "input_id=x"], 2, ["no input 'input_id'", "did you mean input_ids?"]),
    ("stream.npy", [], 1, ["cannot fill", "input_ids", "jsonl"]),
    ("missing.jsonl", [], 1, ["missing.jsonl"]),
):  # fmt: skip
    done = train("bart.moe", data, *flags, code=code)
    report.check(all(word in done.stderr for word in words), f"{data} {flags}: {' | '.join(done.stderr.splitlines())[:150]}")
pathlib.Path("fairseq.bin").write_bytes(pathlib.Path("fairseq.bin").read_bytes()[:-4])
done = train("gpt2.moe", "fairseq", code=1)
report.check("the index of the tokens is damaged" in done.stderr, "a .bin file that was cut")

report.finish()
