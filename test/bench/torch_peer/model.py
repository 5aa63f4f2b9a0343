"""fairseq's transformer_lm_gpt with Mixture-of-Experts layers, under the parameter names of our ONNX files.

Written from the published formulas, in the form that is fast in PyTorch: tokens are moved to experts by index, no
tokens x experts x capacity tensor exists, attention is `scaled_dot_product_attention`. Without dropout.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn


def sinusoids(rows, width, pad):
    """Row n = [sin(n f) | cos(n f)], f_i = 10000^(-i / (width/2 - 1)); the padding row is zero."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000.0) / (half - 1)))
    angles = torch.arange(rows, dtype=torch.float64)[:, None] * frequencies
    table = torch.cat([angles.sin(), angles.cos()], 1)
    table[pad] = 0
    return table.float()


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(config.width, config.width) for _ in range(4))

    def forward(self, x, padding):
        rows, length, width = x.shape
        heads = lambda y: y.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        if padding is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            seen = ~padding[:, None, None, :] & torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
            y = torch.where(seen.any(-1, keepdim=True), y, 0.0)  # whoever sees no key gets nothing
        return self.out_proj(y.transpose(1, 2).reshape(rows, length, width))


class Experts(nn.Module):
    """The feed-forward layers of all experts: rows [E, C, M] -> [E, C, M]."""

    def __init__(self, config):
        super().__init__()
        self.fc1, self.fc2 = nn.Module(), nn.Module()
        for layer, out, inner in ((self.fc1, config.ffn, config.width), (self.fc2, config.width, config.ffn)):
            layer.weight = nn.Parameter(torch.empty(config.experts, out, inner))
            layer.bias = nn.Parameter(torch.empty(config.experts, out))

    def forward(self, rows):
        for layer, activation in ((self.fc1, F.gelu), (self.fc2, lambda x: x)):
            rows = activation(torch.baddbmm(layer.bias[:, None], rows, layer.weight.transpose(1, 2)))
        return rows


class Moe(nn.Module):
    """The two best experts of each token, at most C tokens for each expert, first choices before second ones."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.gate = nn.Module()
        self.gate.wg = nn.Linear(config.width, config.experts, bias=False)
        self.experts = Experts(config)

    def capacity(self, tokens):
        if self.training or self.config.eval_fraction <= 0:
            return 2 * math.ceil(tokens / self.config.experts)
        return math.ceil(self.config.eval_fraction * tokens)

    def forward(self, x):
        """(y, auxiliary loss) for x [B, T, M]."""
        shape, x = x.shape, x.reshape(-1, x.shape[-1])
        tokens, width = x.shape
        experts, capacity = self.config.experts, self.capacity(tokens)
        logits = self.gate.wg(x).float() if x.dtype != torch.float64 else self.gate.wg(x)
        p = logits.softmax(-1)

        numbers = torch.arange(experts, device=x.device)
        first = p.argmax(-1)
        is_first = first[:, None] == numbers
        second = logits.masked_fill(is_first, -math.inf).argmax(-1)
        is_second = second[:, None] == numbers
        # Second choices queue up behind all first ones, those without a place included.
        before_first = is_first.long().cumsum(0) - 1
        before_second = is_second.long().cumsum(0) - 1 + is_first.sum(0)
        choice = torch.stack([first, second])  # [2, S]
        place = torch.stack([before_first.gather(1, first[:, None]), before_second.gather(1, second[:, None])])[..., 0]
        kept = place < capacity

        auxiliary = experts * (p.mean(0) * is_first.to(p.dtype).mean(0)).sum()
        weight = p.gather(1, choice.T).T * kept
        weight = weight / weight.sum(0).clamp_min(torch.finfo(weight.dtype).eps)

        # Whoever has no place shares one row behind all others.
        target = torch.where(kept, choice * capacity + place, experts * capacity)
        rows = x.new_zeros(experts * capacity + 1, width)
        rows = rows.index_copy(0, target.reshape(-1), x.repeat(2, 1))
        y = self.experts(rows[:-1].view(experts, capacity, width)).view(-1, width)
        y = torch.cat([y, y.new_zeros(1, width)])
        y = y.index_select(0, target.reshape(-1)).view(2, tokens, width)
        return (y * weight[..., None].to(y.dtype)).sum(0).view(shape), auxiliary


class Layer(nn.Module):
    def __init__(self, config, is_moe):
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.self_attn = Attention(config)
        self.final_layer_norm = nn.LayerNorm(config.width)
        if is_moe:
            self.moe_layer = Moe(config)
        else:
            self.fc1 = nn.Linear(config.width, config.ffn)
            self.fc2 = nn.Linear(config.ffn, config.width)
        self.is_moe = is_moe

    def forward(self, x, padding):
        x = x + self.self_attn(self.self_attn_layer_norm(x), padding)
        h = self.final_layer_norm(x)
        if self.is_moe:
            y, auxiliary = self.moe_layer(h)
            return x + y, auxiliary
        return x + self.fc2(F.gelu(self.fc1(h))), None


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        rows = config.length + config.pad + 1
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width, padding_idx=config.pad)
        if config.learned_positions:
            self.embed_positions = nn.Embedding(rows, config.width, padding_idx=config.pad)
        else:
            self.register_buffer("sines", sinusoids(rows, config.width, config.pad), persistent=False)
        is_moe = [config.moe_freq > 0 and (i + 1) % config.moe_freq == 0 for i in range(config.layers)]
        self.layers = nn.ModuleList(Layer(config, moe) for moe in is_moe)
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, ids, has_padding):
        real = ids != self.config.pad
        positions = real.long().cumsum(1) * real + self.config.pad
        places = self.embed_positions(positions) if self.config.learned_positions else F.embedding(positions, self.sines)
        x = math.sqrt(self.config.width) * self.embed_tokens(ids) + places
        auxiliary = []
        for layer in self.layers:
            x, aux = layer(x, ~real if has_padding else None)
            auxiliary += [aux] if aux is not None else []
        return F.linear(self.layer_norm(x), self.embed_tokens.weight), auxiliary


class LanguageModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.decoder = Decoder(config)

    def load(self, arrays):
        """Takes every parameter from {ONNX name: array}; missing and superfluous ones are errors."""
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
        return self

    def forward(self, ids, labels, has_padding=False):
        """(mean cross entropy over the counted labels, combined auxiliary loss), nats. `has_padding` is said by the
        caller, so that nothing is read back and causal attention without padding can take its fast path."""
        logits, auxiliary = self.decoder(ids, has_padding)
        inner = F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=self.config.pad)
        gate = torch.stack(auxiliary).mean() if auxiliary else inner.new_zeros(())
        return inner, gate
