"""Models of `transformers` as peers: what PyTorch trains, and the ONNX file that its exporter makes of it."""
import dataclasses
import json
import sys

import torch
import transformers
from torch import nn


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a decoder of `kind` "gpt2" or "llama"."""

    kind: str
    width: int
    heads: int
    layers: int = 4
    length: int = 256
    vocabulary: int = 260


class Logits(nn.Module):
    """Only tensors in and out, under the names that the exporter gives them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids, use_cache=False, return_dict=True).logits


def build(shape):
    """The model, with the same weights in each process."""
    torch.manual_seed(1)
    if shape.kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=shape.vocabulary, n_positions=shape.length, n_embd=shape.width, n_layer=shape.layers,
            n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=8 * shape.width // 3 // 8 * 8,
            num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads // 2,
            max_position_embeddings=shape.length)  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():  # tensors that are equal by chance would come out as one
        if parameter.ndim <= 1:
            parameter.data += 0.02 * torch.randn_like(parameter)
    return Logits(model)


def export(shape, rows, path):
    """Writes what the exporter traced, with each parameter under its own name."""
    example = torch.zeros(rows, shape.length, dtype=torch.int64)
    program = torch.onnx.export(build(shape).eval(), (example,), dynamo=True, opset_version=20, input_names=["input_ids"],
                                output_names=["logits"], optimize=False)  # fmt: skip
    program.save(path, external_data=True)


if __name__ == "__main__":  # SHAPE_AS_JSON ROWS FILE
    export(Shape(**json.loads(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
