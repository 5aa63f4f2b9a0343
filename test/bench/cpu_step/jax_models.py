"""The three models in JAX, as functions of {ONNX name: array}: (cross entropy, auxiliary loss) for ids and labels [B, T].

Written to be fast there: attention is `jax.nn.dot_product_attention`, tokens move to experts by index. With `narrow` products
are in bf16, all else in float32.
"""
import math

import jax
import jax.numpy as jnp


class Model:
    def __init__(self, kind, config, narrow):
        self.config, self.narrow = config, narrow
        self.body = {"moe": self.moe, "gpt2": self.gpt2, "llama": self.llama}[kind]

    def loss(self, weights, ids, labels):
        self.weights = weights
        logits, auxiliary = self.body(ids)
        counted = labels != self.config.pad
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
        inner = -jnp.where(counted, chosen, 0).sum() / counted.sum()
        return inner + self.config.gate_loss * auxiliary

    # Parts.

    def dot(self, x, w, contract):
        """x [..., k] times w, whose dimension `contract` is k, in float32 outside."""
        kind = jnp.bfloat16 if self.narrow else jnp.float32
        y = jax.lax.dot_general(x.astype(kind), w.astype(kind), (((x.ndim - 1,), (contract,)), ((), ())))
        return y.astype(jnp.float32)

    def linear(self, name, x, contract=1):
        y = self.dot(x, self.weights[name + ".weight"], contract)
        return y + self.weights[name + ".bias"] if name + ".bias" in self.weights else y

    def layer_norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def rms_norm(self, name, x):
        return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * self.weights[name + ".weight"]

    def attention(self, q, k, v):
        kind = jnp.bfloat16 if self.narrow else jnp.float32
        y = jax.nn.dot_product_attention(q.astype(kind), k.astype(kind), v.astype(kind), is_causal=True)
        return y.reshape(*y.shape[:2], -1).astype(jnp.float32)

    def heads(self, x, count):
        return x.reshape(*x.shape[:2], count, -1)

    # Models.

    def gpt2(self, ids):
        w, heads = self.weights, self.config.heads
        table = w["model.lm_head.weight"] if "model.lm_head.weight" in w else w["model.transformer.wte.weight"]
        x = table[ids] + w["model.transformer.wpe.weight"]
        for i in range(self.config.layers):
            layer = f"model.transformer.h.{i}."
            qkv = jnp.split(self.linear(layer + "attn.c_attn", self.layer_norm(layer + "ln_1", x), 0), 3, -1)
            x = x + self.linear(layer + "attn.c_proj", self.attention(*(self.heads(y, heads) for y in qkv)), 0)
            h = jax.nn.gelu(self.linear(layer + "mlp.c_fc", self.layer_norm(layer + "ln_2", x), 0), approximate=True)
            x = x + self.linear(layer + "mlp.c_proj", h, 0)
        return self.dot(self.layer_norm("model.transformer.ln_f", x), table, 1), 0.0

    def rotate(self, x):
        half = x.shape[-1] // 2
        angles = jnp.arange(x.shape[1])[:, None] * 10000.0 ** (-jnp.arange(half) / half)
        cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
        a, b = x[..., :half], x[..., half:]
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def llama(self, ids):
        heads = self.config.heads
        x = self.weights["model.model.embed_tokens.weight"][ids]
        for i in range(self.config.layers):
            layer = f"model.model.layers.{i}."
            h = self.rms_norm(layer + "input_layernorm", x)
            q, k, v = (self.heads(self.linear(f"{layer}self_attn.{part}_proj", h), count)
                       for part, count in (("q", heads), ("k", heads // 2), ("v", heads // 2)))  # fmt: skip
            x = x + self.linear(layer + "self_attn.o_proj", self.attention(self.rotate(q), self.rotate(k), v))
            h = self.rms_norm(layer + "post_attention_layernorm", x)
            h = jax.nn.silu(self.linear(layer + "mlp.gate_proj", h)) * self.linear(layer + "mlp.up_proj", h)
            x = x + self.linear(layer + "mlp.down_proj", h)
        return self.linear("model.lm_head", self.rms_norm("model.model.norm", x)), 0.0

    def experts(self, layer, rows):
        kind = jnp.bfloat16 if self.narrow else jnp.float32
        for part, activation in (("fc1", lambda x: jax.nn.gelu(x, approximate=False)), ("fc2", lambda x: x)):
            w, bias = self.weights[f"{layer}.experts.{part}.weight"], self.weights[f"{layer}.experts.{part}.bias"]
            rows = jnp.einsum("ecm,enm->ecn", rows.astype(kind), w.astype(kind)).astype(jnp.float32)
            rows = activation(rows + bias[:, None])
        return rows

    def routed(self, layer, x):
        """The two best experts of each token, at most C tokens for each, first choices before second ones."""
        count = self.config.experts
        x, shape = x.reshape(-1, x.shape[-1]), x.shape
        capacity = 2 * math.ceil(len(x) / count)
        logits = jax.lax.dot_general(x, self.weights[layer + ".gate.wg.weight"], (((1,), (1,)), ((), ())))
        p = jax.nn.softmax(logits)
        first = jax.nn.one_hot(jnp.argmax(p, -1), count, dtype=jnp.int32)
        second = jax.nn.one_hot(jnp.argmax(jnp.where(first > 0, -jnp.inf, logits), -1), count, dtype=jnp.int32)
        places = (first.cumsum(0) - 1) * first, (second.cumsum(0) - 1 + first.sum(0)) * second
        place = jnp.stack([y.sum(-1) for y in places])
        choice = jnp.stack([y.argmax(-1) for y in (first, second)])
        kept = place < capacity
        auxiliary = count * (p.mean(0) * first.astype(p.dtype).mean(0)).sum()
        weight = jnp.take_along_axis(p, choice.T, 1).T * kept
        weight = weight / jnp.maximum(weight.sum(0), jnp.finfo(jnp.float32).eps)
        target = jnp.where(kept, choice * capacity + place, count * capacity)  # one row more for those without a place
        rows = jnp.zeros((count * capacity + 1, x.shape[1])).at[target.reshape(-1)].set(jnp.tile(x, (2, 1)))
        y = self.experts(layer, rows[:-1].reshape(count, capacity, -1)).reshape(count * capacity, -1)
        y = jnp.concatenate([y, jnp.zeros((1, x.shape[1]))])[target]
        return (y * weight[..., None]).sum(0).reshape(shape), auxiliary

    def moe(self, ids):
        """Without padding among the ids."""
        w, config = self.weights, self.config
        positions = jnp.arange(ids.shape[1]) + 1 + config.pad
        x = math.sqrt(config.width) * w["decoder.embed_tokens.weight"][ids] + w["decoder.embed_positions.weight"][positions]
        auxiliary = []
        for i in range(config.layers):
            layer = f"decoder.layers.{i}."
            h = self.layer_norm(layer + "self_attn_layer_norm", x)
            qkv = (self.heads(self.linear(f"{layer}self_attn.{part}_proj", h), config.heads) for part in "qkv")
            x = x + self.linear(layer + "self_attn.out_proj", self.attention(*qkv))
            h = self.layer_norm(layer + "final_layer_norm", x)
            if (i + 1) % config.moe_freq == 0:
                y, loss = self.routed(layer + "moe_layer", h)
                auxiliary.append(loss)
            else:
                y = self.linear(layer + "fc2", jax.nn.gelu(self.linear(layer + "fc1", h), approximate=False))
            x = x + y
        return self.dot(self.layer_norm("decoder.layer_norm", x), w["decoder.embed_tokens.weight"], 1), sum(auxiliary) / len(auxiliary)
