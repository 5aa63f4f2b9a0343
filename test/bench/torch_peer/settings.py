"""What both programs are told, model and recipe. Without PyTorch, so that any Python can prepare a comparison."""
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Config:
    layers: int = 4
    width: int = 192
    ffn: int = 768
    heads: int = 6
    length: int = 256
    vocabulary: int = 260
    moe_freq: int = 2
    experts: int = 8
    gate_loss: float = 0.01  # weight of the mean of the layers' auxiliary losses
    eval_fraction: float = 0.25  # capacity in evaluation = ceil(fraction * tokens)
    learned_positions: bool = True
    pad: int = 1

    def flags(self):
        """The same model as arguments of `moec model transformer_lm_gpt`."""
        values = {
            "decoder-layers": self.layers, "decoder-embed-dim": self.width, "decoder-ffn-embed-dim": self.ffn,
            "decoder-attention-heads": self.heads, "tokens-per-sample": self.length, "vocab-size": self.vocabulary,
            "moe-freq": self.moe_freq, "moe-expert-count": self.experts, "moe-gate-loss-wt": self.gate_loss,
            "moe-eval-capacity-token-fraction": self.eval_fraction, "pad-id": self.pad,
            "moe-second-expert-policy": "all", "dropout": 0, "attention-dropout": 0,
        }  # fmt: skip
        flags = [word for flag, value in values.items() for word in (f"--{flag}", str(value))]
        return flags + ["--share-decoder-input-output-embed"] + ["--decoder-learned-pos"] * self.learned_positions


@dataclasses.dataclass(frozen=True)
class Recipe:
    lr: float = 1.0e-3
    betas: tuple = (0.9, 0.98)
    eps: float = 1.0e-8
    weight_decay: float = 0.01
    warmup: int = 100
    total: int = 1200
    end_lr: float = 1.0e-4
    clip_norm: float = 1.0
    seed: int = 1

    def rate(self, done):
        """Learning rate of the update after `done` ones: linear warm-up from 0, then half a cosine."""
        if done < self.warmup:
            return self.lr * done / self.warmup
        t = min((done - self.warmup) / (self.total - self.warmup), 1.0)
        return self.end_lr + (self.lr - self.end_lr) / 2 * (1 + math.cos(math.pi * t))

    def yaml(self):
        return (
            f"optimizer: {{name: adamw, lr: {self.lr}, betas: {list(self.betas)}, eps: {self.eps:e}, "
            f"weight_decay: {self.weight_decay}}}\n"
            f"schedule: {{name: cosine, warmup_updates: {self.warmup}, total_updates: {self.total}, "
            f"end_lr: {self.end_lr}}}\n"
            f"clip_norm: {self.clip_norm}\nseed: {self.seed}\n"
        )
