"""A float64 replica of fairseq's `transformer_lm_gpt` with MoE layers, in numpy, used as an oracle by the tests.

It follows the published formulas with plain loops over tokens (one routing group = one fairseq process) and shares
nothing with the ONNX bodies under test. Also holds the readers of the recorded values in test/data/fairseq.
"""

import json
import math
import pathlib
import re
import shlex
import struct

import numpy as np

DTYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64, "I32": np.int32, "U8": np.uint8, "BOOL": np.bool_}
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(.*)")


def load(path):
    """Reads a safetensors file into {name: array}."""
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8 : 8 + size])
    head.pop("__metadata__", None)
    out = {}
    for name, entry in head.items():
        begin, end = entry["data_offsets"]
        out[name] = np.frombuffer(raw[8 + size + begin : 8 + size + end], DTYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
    return out


def stacked(tensors):
    """Stacks `...experts.0.fc1.weight`, `...experts.1.fc1.weight` into `...experts.fc1.weight`."""
    out, experts = {}, {}
    for name, value in tensors.items():
        match = EXPERT.match(name)
        if match:
            experts.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = value
        else:
            out[name] = value
    return out | {name: np.stack([v[i] for i in sorted(v)]) for name, v in experts.items()}


def arguments(text):
    """fairseq's command line as {flag: value or True}."""
    out, words = {}, shlex.split(text)
    for i, word in enumerate(words):
        if word.startswith("--"):
            following = words[i + 1] if i + 1 < len(words) else "--"
            out[word[2:]] = True if following.startswith("--") else following
    return out


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def gelu(x):
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, weight, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def sinusoidal(rows, dim, pad):
    """Row n = [sin(n f_0..) | cos(n f_0..)], f_i = 10000^(-i / (dim/2 - 1)); row `pad` is zero."""
    half = dim // 2
    freq = np.exp(-np.arange(half) * (math.log(10000.0) / (half - 1)))
    angle = np.arange(rows)[:, None] * freq[None]
    table = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    table[pad] = 0.0
    return table


def route(logits, *, top_k, normalize_before=False, prioritized=False, padding=None, eps=1.1920929e-7, capacity=None):
    """One routing group. Returns (l_aux, capacity, [(token, expert, slot, weight) of what is kept])."""
    tokens, experts = logits.shape
    p = softmax(logits)
    if capacity is None:
        capacity = top_k * math.ceil(tokens / experts)
    padding = np.zeros(tokens, bool) if padding is None else padding
    first = p.argmax(1)
    second = np.where(np.arange(experts) == first[:, None], -np.inf, logits).argmax(1)
    order = np.argsort(-p.max(1), kind="stable") if prioritized else np.arange(tokens)
    count, slots = np.zeros(experts, int), [{}, {}]
    for rank, choice in enumerate((first, second)[:top_k]):
        for s in order:
            if not padding[s]:
                slots[rank][s] = count[choice[s]]
                count[choice[s]] += 1
    mean_first = np.bincount(first[~padding], minlength=experts) / tokens
    l_aux = experts * float((p.mean(0) * mean_first).sum())
    kept = []
    for s in range(tokens):
        chosen = [(int(c[s]), slots[r][s]) for r, c in enumerate((first, second)[:top_k]) if s in slots[r]]
        g = [p[s, e] for e, _ in chosen]
        if top_k == 2 and normalize_before:
            total = max(sum(g), eps)
            g = [v / total for v in g]
        g = [v if slot < capacity else 0.0 for v, (_, slot) in zip(g, chosen)]
        if top_k == 2 and not normalize_before:
            total = max(sum(g), eps)
            g = [v / total for v in g]
        for v, (e, slot) in zip(g, chosen):
            if slot < capacity:
                kept.append((s, e, int(slot), v))
    return l_aux, capacity, kept


class Model:
    """The forward pass of one routing group in float64. `flags`: fairseq's arguments as {flag: text}."""

    def __init__(self, flags, weights, pad=1):
        self.flags, self.pad = flags, pad
        self.w = {k: v.astype(np.float64) for k, v in stacked(weights).items()}
        self.heads = int(flags["decoder-attention-heads"])

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def attention(self, name, x, padding):
        batch, length, dim = x.shape
        split = lambda t: t.reshape(batch, length, self.heads, -1).transpose(0, 2, 1, 3)
        q, k, v = (split(self.linear(f"{name}.{p}_proj", x)) for p in "qkv")
        scores = q @ k.transpose(0, 1, 3, 2) * (dim // self.heads) ** -0.5
        allowed = np.tril(np.ones((length, length), bool))[None, None] & ~padding[:, None, None, :]
        # A row that sees no key is NaN in fairseq and zero here.
        masked = np.where(allowed | ~allowed.any(-1, keepdims=True), scores, -np.inf)
        out = np.where(allowed, softmax(masked), 0.0) @ v
        return self.linear(f"{name}.out_proj", out.transpose(0, 2, 1, 3).reshape(batch, length, dim))

    def moe(self, name, x, padding):
        flat, w = x.reshape(-1, x.shape[-1]), self.w
        logits = flat @ w[f"{name}.gate.wg.weight"].T
        l_aux, _, kept = route(
            logits,
            top_k=1 if "moe-top1-expert" in self.flags else 2,
            normalize_before="moe-normalize-gate-prob-before-dropping" in self.flags,
            prioritized="moe-batch-prioritized-routing" in self.flags,
            padding=padding.reshape(-1) if "use-moe-pad-mask" in self.flags else None,
        )
        y = np.zeros_like(flat)
        for s, e, _, weight in kept:
            h = gelu(w[f"{name}.experts.fc1.weight"][e] @ flat[s] + w[f"{name}.experts.fc1.bias"][e])
            y[s] += weight * (w[f"{name}.experts.fc2.weight"][e] @ h + w[f"{name}.experts.fc2.bias"][e])
        return y.reshape(x.shape), l_aux

    def __call__(self, src, tgt):
        """Returns (sum of cross entropy, un-weighted gate loss times tokens, tokens, logits)."""
        w, real = self.w, src != self.pad
        table = w["decoder.embed_tokens.weight"]
        dim = table.shape[1]
        positions = np.cumsum(real, 1) * real + self.pad
        x = math.sqrt(dim) * table[src]
        if "decoder-learned-pos" in self.flags:
            x = x + w["decoder.embed_positions.weight"][positions]
        else:
            x = x + sinusoidal(src.shape[1] + self.pad + 1, dim, self.pad)[positions]
        aux = []
        for i in range(int(self.flags["decoder-layers"])):
            name = f"decoder.layers.{i}"
            norm = lambda part, t: layer_norm(t, w[f"{part}.weight"], w[f"{part}.bias"])
            x = x + self.attention(f"{name}.self_attn", norm(f"{name}.self_attn_layer_norm", x), ~real)
            h = norm(f"{name}.final_layer_norm", x)
            if f"{name}.moe_layer.gate.wg.weight" in w:
                y, l_aux = self.moe(f"{name}.moe_layer", h, ~real)
                aux.append(l_aux)
            else:
                y = self.linear(f"{name}.fc2", gelu(self.linear(f"{name}.fc1", h)))
            x = x + y
        if "no-decoder-final-norm" not in self.flags:
            x = layer_norm(x, w["decoder.layer_norm.weight"], w["decoder.layer_norm.bias"])
        logits = x @ w.get("decoder.output_projection.weight", table).T
        top = logits.max(-1, keepdims=True)
        log_z = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
        counted = tgt != self.pad
        ce = float(((log_z - np.take_along_axis(logits, tgt[..., None], -1)[..., 0]) * counted).sum())
        gate = 0.0
        if aux:
            gate = sum(aux) / (
                len(aux) if self.flags.get("moe-gate-loss-combine-method", "average") == "average" else 1
            )
            gate = -math.log(gate) if self.flags.get("moe-gate-loss-transform") == "neg_log" else gate
        return ce, gate * counted.sum(), int(counted.sum()), logits
