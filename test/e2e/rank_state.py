"""What a run begins with, reads, draws and counts does not depend on how many ranks there are.

The learning rate is zero, so that every update sees the initial values, which must be those of one rank bit for bit, and
losses tell batches and masks of dropout apart: those of any two updates differ by far more than those of one update on two
meshes, which are sums in another order. Samples are shuffled anew in each of three epochs; tokens are dropped, and how many
is a count, which must be the same.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

BATCH, SEQ, UPDATES = 8, 16, 12
TOLERANCE = 2e-6  # relative, of a loss: float32 sums over 128 tokens and the ranks
MESHES = [(2, 1, "off"), (2, 2, "full"), (4, 1, "optimizer"), (4, 2, "full"), (4, 4, "off"), (8, 1, "full"), (8, 4, "optimizer"), (8, 8, "off")]
KEYS = ("entropy_gating", "overflow_expert1", "overflow_expert2", "unused_expert1_count", "unused_expert2_count", "ntokens", "epoch")
report = lab.Report()
lab.letters("text", 4 * BATCH * SEQ + 1)  # four updates are an epoch
lab.letters("valid", 2 * BATCH * SEQ + 1, seed=2)


def train(folder, ranks, *flags, groups=8):
    recipe = {"optimizer": {"name": "sgd", "lr": 0.0}, "routing_groups": groups, "seed": 7}
    lab.compile_plan("m.onnx", "m.moe", BATCH, SEQ, "--threads", 1, "--ranks", ranks, *flags, recipe=recipe)
    done = lab.run("moerun", "train", "m.moe", "--data", "text", "--valid", "valid", "--save-dir", folder, "--max-update", UPDATES,
                   "--log-interval", 1, "--log-format", "json", "--ranks", ranks)  # fmt: skip
    lines = lab.records(done.stdout)
    return lab.load(f"{folder}/checkpoint_{UPDATES:08}.safetensors"), lines, lab.records(done.stdout, "valid_loss")[-1]


def compare(name, want, got):
    weights, lines, valid = want
    other, other_lines, other_valid = got
    differ = [key for key, value in weights.items() if key not in other or value.tobytes() != other[key].tobytes()]
    report.check(weights.keys() == other.keys() and not differ, f"{name}: {len(weights)} tensors have the same bits {differ[:5]}")
    worst = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(lines, other_lines, strict=True))
    report.check(worst < TOLERANCE, f"{name}: losses are off by {worst:.1e}: the same samples and masks in each update")
    counts = [key for key in KEYS for a, b in zip(lines, other_lines) if abs(a[key] - b[key]) > 1e-5 * abs(a[key])]
    report.check(not counts, f"{name}: metrics are the same {sorted(set(counts))}")
    dropped = [line["dropped"] for line in lines] + [valid["valid_dropped"]]
    others = [line["dropped"] for line in other_lines] + [other_valid["valid_dropped"]]
    report.check(dropped == others, f"{name}: {sum(others)} choices are dropped, in each update as with one rank")


for policy in ("all", "random"):
    lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 8, "--dropout", 0.2, "--moe-second-expert-policy", policy, tokens=SEQ)
    one = train(f"one-{policy}", 1)
    losses = sorted(line["loss"] for line in one[1])
    apart = min((b - a) / a for a, b in zip(losses, losses[1:]))
    report.check(len(losses) == UPDATES and apart > 3 * TOLERANCE, f"{policy}: updates differ by at least {apart:.1e}")
    report.check(one[1][-1]["epoch"] > one[1][0]["epoch"] + 1, "they are of three epochs")
    report.check(min(line["dropped"] for line in one[1]) > 0 and one[2]["valid_dropped"] > 0, "all of them drop tokens")
    # One layer of experts: what fairseq logs is the mean over groups of the share of what chose. All tokens want a first
    # expert, under `all` a second one too.
    if policy == "all":
        shares = [(line["overflow_expert1"] + line["overflow_expert2"]) / 100 * BATCH * SEQ for line in one[1]]
        report.check(all(abs(line["dropped"] - share) < 1e-2 for line, share in zip(one[1], shares)), "as many as by these shares")
    for ranks, experts, fsdp in MESHES if policy == "all" else MESHES[1:4:2]:
        name = f"{policy}, {ranks} ranks, {experts} for experts, fsdp {fsdp}"
        compare(name, one, train(name.replace(" ", "-").replace(",", ""), ranks, "--expert-parallel", experts, "--fsdp", fsdp))

# Under `random` it is not known how many want a second expert; with one group it is the whole number that the share says.
for normalize in ((), ("--moe-normalize-gate-prob-before-dropping",)):
    lab.model("m.onnx", "--moe-freq", 2, "--moe-expert-count", 8, "--moe-second-expert-policy", "random", *normalize, tokens=SEQ)
    wanted = [(line["dropped"] - line["overflow_expert1"] / 100 * BATCH * SEQ) * 100 / line["overflow_expert2"]
              for line in train(f"share{len(normalize)}", 1, groups=1)[1] if line["overflow_expert2"] > 0]  # fmt: skip
    report.check(len(wanted) > 3 and all(abs(number - round(number)) < 1e-2 and 0 < number < BATCH * SEQ for number in wanted),
                 f"random {' '.join(normalize)}: second experts wanted by the shares: {[round(number, 3) for number in wanted]}")  # fmt: skip
report.finish()
