"""The architectures that `record.py` exports: public code of `transformers` at toy sizes, with random weights.

Sizes are uneven on purpose (3 sequences, 20 tokens, 5 heads where they may be), so that dimensions do not match by chance.
"""
import dataclasses
import typing

import torch
from torch import nn

WORDS, BATCH, LENGTH, WIDTH, HEADS, LAYERS = 96, 3, 20, 32, 4, 2
NO_DROPOUT = {"dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob",
              "dropout_rate", "embedding_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "mlp_dropout", "classifier_dropout",
              "residual_dropout", "embd_dropout", "summary_first_dropout", "feat_proj_dropout", "final_dropout", "layerdrop",
              "encoder_layerdrop", "decoder_layerdrop", "drop_path_rate", "moe_token_dropout"}  # fmt: skip


class Outputs(nn.Module):
    """A model of `transformers` whose forward takes its inputs in order and returns the logits only."""

    def __init__(self, model, inputs):
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, *values):
        cache = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        return self.model(**dict(zip(self.inputs, values)), **cache, return_dict=True).logits


def words(random, length):
    """Ids as in text, the small ones often: a few updates already lower the loss."""
    weights = 1.0 / torch.arange(1, WORDS - 3)
    return 4 + torch.multinomial(weights.expand(BATCH, -1), length, replacement=True, generator=random)


def padding(random):
    """1 where a token is, 0 behind the end of the second and third sequence. The narrowest window of a local attention
    reaches a token from everywhere: where it sees none, exporters differ from PyTorch."""
    mask = torch.ones(BATCH, LENGTH, dtype=torch.int64)
    mask[1, -1:] = 0
    mask[2, -3:] = 0
    return mask


def next_word(random):
    ids = words(random, LENGTH + 1)
    labels = ids[:, 1:].clone()
    labels[0, -3:] = -100
    return {"input_ids": ids[:, :-1].contiguous(), "labels": labels}


def padded_next_word(random):
    batch = next_word(random)
    batch["attention_mask"] = padding(random)
    batch["labels"][batch["attention_mask"] == 0] = -100
    return batch


def masked_words(random):
    """A third of the words is hidden by word 3, and those are the labels."""
    ids, mask = words(random, LENGTH), padding(random)
    hidden = (torch.rand(ids.shape, generator=random) < 0.33) & (mask == 1)
    return {"input_ids": ids.masked_fill(hidden, 3), "attention_mask": mask, "labels": ids.masked_fill(~hidden, -100)}


def masked_pairs(random):
    batch = masked_words(random)
    batch["token_type_ids"] = (torch.arange(LENGTH) >= LENGTH // 2).long().expand(BATCH, -1).contiguous()
    return batch


def pairs(random):
    """A source with padding, and its translation."""
    target = words(random, LENGTH - 3)
    return {"input_ids": words(random, LENGTH), "attention_mask": padding(random),
            "decoder_input_ids": target[:, :-1].contiguous(), "labels": target[:, 1:].clone()}  # fmt: skip


def pictures(random):
    return {"pixel_values": torch.randn(BATCH, 3, 12, 20, generator=random), "labels": torch.randint(0, 10, (BATCH,), generator=random)}


def speech(random):
    target = words(random, LENGTH - 3)
    return {"input_features": torch.randn(BATCH, 8, 2 * LENGTH, generator=random),
            "decoder_input_ids": target[:, :-1].contiguous(), "labels": target[:, 1:].clone()}  # fmt: skip


@dataclasses.dataclass
class Architecture:
    name: str
    model: str  # the class in `transformers`; "Config" of its configuration
    config: dict
    inputs: tuple = ("input_ids",)
    batch: typing.Callable = next_word
    attention: str = "sdpa"
    experts: str | None = None
    symbolic: bool = False  # batch and sequence have names instead of sizes
    opset: int = 20
    forms: tuple = ("optimised", "raw")

    def build(self):
        """The model in float32, with numbers drawn from the seed that the caller has set."""
        import transformers

        kind = getattr(transformers, self.model)
        config = kind.config_class(**self.config)
        for key in NO_DROPOUT & set(vars(config)):
            setattr(config, key, 0.0)
        config._attn_implementation = self.attention
        if self.experts:
            config._experts_implementation = self.experts
        built = Outputs(kind(config), self.inputs)
        with torch.no_grad():
            for weight in built.parameters():
                # Equal tensors would be merged by the exporter, and small ones would hide what attention computes.
                weight.copy_(weight + 0.1 * torch.randn_like(weight) if weight.ndim < 2 else 0.15 * torch.randn_like(weight))
        return built


# The names that most decoders give their sizes.
DECODER = {"vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 56, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
           "max_position_embeddings": 64}  # fmt: skip
GROUPED = DECODER | {"num_key_value_heads": 2}
ENCODER = DECODER | {"type_vocab_size": 2}
PAIR = ("input_ids", "attention_mask", "decoder_input_ids")
T5 = {"vocab_size": WORDS, "d_model": WIDTH, "d_kv": 8, "d_ff": 56, "num_layers": LAYERS, "num_heads": HEADS, "relative_attention_num_buckets": 8,
      "relative_attention_max_distance": 16}  # fmt: skip
# Tokens with a meaning, which some defaults put beyond the vocabulary.
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
HEADS_OF_8 = GROUPED | SPECIAL | {"head_dim": 8}
# One layer of a window, one without.
WINDOWED = HEADS_OF_8 | {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
BART = {"vocab_size": WORDS, "d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS, "encoder_ffn_dim": 56, "decoder_ffn_dim": 56, "max_position_embeddings": 64,
        "decoder_start_token_id": 2} | SPECIAL  # fmt: skip
GEMMA = {"query_pre_attn_scalar": 8, "sliding_window": 7}
PADDED = ("input_ids", "attention_mask")

ARCHITECTURES = [
    Architecture("t5", "T5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu"}, PAIR, pairs, attention="eager", symbolic=True),
    Architecture("bert", "BertForMaskedLM", ENCODER, ("input_ids", "attention_mask", "token_type_ids"), masked_pairs, symbolic=True),
    Architecture("modernbert", "ModernBertForMaskedLM", DECODER | {"global_attn_every_n_layers": 2, "local_attention": 6, "pad_token_id": 0,
                                                                   "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
                 ("input_ids", "attention_mask"), masked_words),
    Architecture("roberta", "RobertaForMaskedLM", ENCODER, ("input_ids", "attention_mask"), masked_words),
    Architecture("albert", "AlbertForMaskedLM", ENCODER | {"embedding_size": 24}, ("input_ids", "attention_mask"), masked_words),
    Architecture("deberta", "DebertaV2ForMaskedLM", DECODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 12,
                                                               "position_biased_input": False}, ("input_ids", "attention_mask"), masked_words, attention="eager"),
    Architecture("qwen2", "Qwen2ForCausalLM", GROUPED, ("input_ids", "attention_mask"), padded_next_word, symbolic=True),
    Architecture("qwen3", "Qwen3ForCausalLM", GROUPED | {"head_dim": 8}),
    Architecture("gemma2", "Gemma2ForCausalLM", GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 7, "attn_logit_softcapping": 5.0,
                                                           "final_logit_softcapping": 3.0}, attention="eager"),
    Architecture("phi", "PhiForCausalLM", DECODER | {"partial_rotary_factor": 0.5}),
    Architecture("bloom", "BloomForCausalLM", {"vocab_size": WORDS, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS},
                 ("input_ids", "attention_mask"), padded_next_word, attention="eager"),
    Architecture("falcon", "FalconForCausalLM", {"vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
                                                 "alibi": True}, ("input_ids", "attention_mask"), padded_next_word, attention="eager"),
    Architecture("neox", "GPTNeoXForCausalLM", DECODER, symbolic=True),
    Architecture("olmoe", "OlmoeForCausalLM", GROUPED | {"num_experts": 6, "num_experts_per_tok": 2}, experts="batched_mm"),
    Architecture("qwen2-moe", "Qwen2MoeForCausalLM", GROUPED | {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "num_experts": 6,
                                                                "num_experts_per_tok": 3}, experts="batched_mm"),
    Architecture("deepseek3", "DeepseekV3ForCausalLM", DECODER | {"moe_intermediate_size": 24, "n_routed_experts": 8, "n_group": 4, "topk_group": 2,
                 "num_experts_per_tok": 2, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 4,
                 "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4}, experts="batched_mm"),
    Architecture("gpt-oss", "GptOssForCausalLM", GROUPED | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 7,
                                                            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, attention="eager", experts="batched_mm"),
    Architecture("vit", "ViTForImageClassification", {"hidden_size": WIDTH, "intermediate_size": 56, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
                                                      "image_size": (12, 20), "patch_size": 4, "num_labels": 10}, ("pixel_values",), pictures, symbolic=True),
    Architecture("whisper", "WhisperForConditionalGeneration", {"vocab_size": WORDS, "num_mel_bins": 8, "d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
                 "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "encoder_ffn_dim": 56, "decoder_ffn_dim": 56, "max_source_positions": LENGTH,
                 "max_target_positions": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
                 ("input_features", "decoder_input_ids"), speech, symbolic=True),
    # Experts
    Architecture("mixtral-window", "MixtralForCausalLM", GROUPED | {"num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 6},
                 experts="batched_mm", symbolic=True),
    Architecture("qwen3-moe", "Qwen3MoeForCausalLM", HEADS_OF_8 | {"moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 2}, experts="batched_mm"),
    Architecture("granitemoe", "GraniteMoeForCausalLM", GROUPED | SPECIAL | {"num_local_experts": 6, "num_experts_per_tok": 2, "attention_multiplier": 0.3,
                 "residual_multiplier": 0.5, "embedding_multiplier": 2.0, "logits_scaling": 1.5}, experts="batched_mm"),
    Architecture("ernie-moe", "Ernie4_5_MoeForCausalLM", HEADS_OF_8 | {"moe_intermediate_size": 24, "moe_num_experts": 6, "moe_k": 2, "moe_num_shared_experts": 1,
                                                                       "moe_layer_start_index": 1}, experts="batched_mm"),
    Architecture("glm4-moe", "Glm4MoeForCausalLM", HEADS_OF_8 | {"moe_intermediate_size": 24, "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
                 "num_experts_per_tok": 2, "first_k_dense_replace": 1, "partial_rotary_factor": 0.5, "use_qk_norm": True}, experts="batched_mm"),
    Architecture("minimax", "MiniMaxForCausalLM", HEADS_OF_8 | {"num_local_experts": 6, "num_experts_per_tok": 2, "block_size": 8,
                                                                "layer_types": ["linear_attention", "full_attention"]}, experts="batched_mm"),
    # Decoders
    Architecture("cohere2", "Cohere2ForCausalLM", WINDOWED),
    Architecture("olmo3", "Olmo3ForCausalLM", WINDOWED),
    Architecture("gemma3n", "Gemma3nForCausalLM", WINDOWED | {"vocab_size_per_layer_input": WORDS, "hidden_size_per_layer_input": 8, "laurel_rank": 8,
                                                              "num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0, 0.0]}),
    Architecture("persimmon", "PersimmonForCausalLM", DECODER | SPECIAL | {"partial_rotary_factor": 0.5, "qk_layernorm": True}),
    Architecture("mpt", "MptForCausalLM", {"vocab_size": WORDS, "d_model": WIDTH, "n_heads": HEADS, "n_layers": LAYERS, "max_seq_len": 64, "expansion_ratio": 2},
                 attention="eager"),
    Architecture("gpt-neo", "GPTNeoForCausalLM", {"vocab_size": WORDS, "hidden_size": WIDTH, "num_layers": LAYERS, "num_heads": HEADS, "intermediate_size": 56,
                 "attention_types": [[["global", "local"], 1]], "window_size": 6, "max_position_embeddings": 64} | SPECIAL, PADDED, padded_next_word, attention="eager"),
    Architecture("ctrl", "CTRLLMHeadModel", {"vocab_size": WORDS, "n_embd": WIDTH, "dff": 56, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 64}),
    # Encoders
    Architecture("deberta1", "DebertaForMaskedLM", DECODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 12,
                                                              "position_biased_input": False, "type_vocab_size": 0}, PADDED, masked_words, attention="eager"),
    Architecture("convbert", "ConvBertForMaskedLM", ENCODER | {"embedding_size": WIDTH, "head_ratio": 2, "conv_kernel_size": 3}, PADDED, masked_words, attention="eager"),
    Architecture("roformer", "RoFormerForMaskedLM", ENCODER | {"embedding_size": WIDTH, "rotary_value": False}, PADDED, masked_words, attention="eager"),
    Architecture("xlm", "XLMWithLMHeadModel", {"vocab_size": WORDS, "emb_dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "max_position_embeddings": 64, "pad_index": 0},
                 PADDED, masked_words, attention="eager"),
    Architecture("funnel", "FunnelForMaskedLM", {"vocab_size": WORDS, "d_model": WIDTH, "n_head": HEADS, "d_head": 8, "d_inner": 56, "block_sizes": [1, 1],
                                                 "num_decoder_layers": 1}, PADDED, masked_words, attention="eager"),
    # Encoders with decoders
    Architecture("m2m100", "M2M100ForConditionalGeneration", BART, PAIR, pairs, symbolic=True),
    Architecture("umt5", "UMT5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu"}, PAIR, pairs, attention="eager"),
    Architecture("longt5", "LongT5ForConditionalGeneration", T5 | {"local_radius": 4, "encoder_attention_type": "local"}, PAIR, pairs, attention="eager"),
    Architecture("t5gemma", "T5GemmaForConditionalGeneration", {"encoder": HEADS_OF_8 | GEMMA, "decoder": HEADS_OF_8 | GEMMA, "vocab_size": WORDS},
                 PAIR, pairs, attention="eager"),
]  # fmt: skip
