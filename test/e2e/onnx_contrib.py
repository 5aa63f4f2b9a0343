"""Operators that ONNX Runtime's transformer optimiser writes (domain com.microsoft): values and gradients.

All cases are one model, their nodes side by side, float operands as weights. Values are compared with ONNX Runtime, which
executes these operators on the CPU (layers of experts with formulas in NumPy as well), gradients with directional derivatives
by central differences of ONNX Runtime's results. Both compute in float32: values to 1e-5 of the largest, derivatives to 1e-2
of the sum of what they add up, which for steps of 0.01 is some times their error.
"""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

MICROSOFT = "com.microsoft"
OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
STEP = 1e-2
report = lab.Report()
random = np.random.default_rng(5)


def floats(*shape, scale=1.0):
    return (random.normal(0, scale, shape)).astype(np.float32)


def angles(positions, half):
    turn = np.outer(np.arange(positions), 10.0 ** -np.arange(half))
    return [np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)]


B, S, N, D, L = 2, 5, 4, 16, 7
M = N * D
ends = np.array([4, 2], np.int32)
mask = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
qkv = [floats(B, S, M), floats(M, 3 * M, scale=0.3), floats(3 * M)]
heads = [floats(B, S, M), floats(B, L, M), floats(B, L, M)]
grouped = [floats(B, S, M), floats(B, S, 2 * D), floats(B, S, 2 * D), None, None, np.full([B], S - 1, np.int32), np.array(S, np.int32)]
words = np.array([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]], np.int32)
places = np.array([[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]], np.int64)
tables = [floats(8, M), floats(9, M), floats(2, M), floats(M), floats(M)]
E, H, F, T = 4, 8, 6, 10
rows, router = floats(T, H), floats(T, E, scale=2.0)
first, second, third = floats(E, F, H), floats(E, H, F), floats(E, F, H)
biases = [floats(E, F), floats(E, H), floats(E, F)]
double, double_bias = floats(E, 2 * F, H), floats(E, 2 * F)

# (name, operator, operands, attributes, numbers of results)
CASES = [
    ("gelu", "Gelu", [floats(3, 4)], {}, [0]),
    ("bias_gelu", "BiasGelu", [floats(3, 4), floats(4)], {}, [0]),
    ("fast_gelu", "FastGelu", [floats(3, 4)], {}, [0]),
    ("fast_gelu_bias", "FastGelu", [floats(3, 4), floats(4)], {}, [0]),
    ("quick_gelu", "QuickGelu", [floats(3, 4)], {}, [0]),
    ("quick_gelu_alpha", "QuickGelu", [floats(3, 4)], {"alpha": 1.0}, [0]),
    ("product", "FusedMatMul", [floats(2, 3, 4), floats(2, 4, 5)], {"alpha": 0.25}, [0]),
    ("product_turned", "FusedMatMul", [floats(2, 4, 3), floats(2, 5, 4)], {"transA": 1, "transB": 1}, [0]),
    ("product_batches", "FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], {"transBatchA": 1}, [0]),
    ("gemm", "FusedGemm", [floats(3, 4), floats(5, 4), floats(5)], {"transB": 1, "alpha": 0.5, "activation": "Relu"}, [0]),
    ("gemm_leaky", "FusedGemm", [floats(4, 3), floats(4, 5)], {"transA": 1, "activation": "LeakyRelu", "activation_alpha": 0.2}, [0]),
    ("simplified_norm", "SimplifiedLayerNormalization", [floats(2, 3, 8), floats(8)], {"epsilon": 1e-3}, [0]),
    ("skip_norm", "SkipLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), floats(8), floats(8), floats(8)], {"epsilon": 1e-3}, [0, 3]),
    ("skip_norm_plain", "SkipLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), floats(8)], {"epsilon": 1e-12}, [0]),
    ("skip_simplified", "SkipSimplifiedLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), floats(8), floats(8)], {"epsilon": 1e-3}, [0, 3]),
    ("skip_simplified_plain", "SkipSimplifiedLayerNormalization", [floats(2, 3, 8), floats(2, 3, 8), floats(8)], {}, [0]),
    ("embedding", "EmbedLayerNormalization", [words, None, tables[0], tables[1], None, *tables[3:]], {}, [0, 1]),
    ("embedding_segments", "EmbedLayerNormalization", [words, mask, *tables, mask, places.astype(np.int32)], {"epsilon": 1e-3, "mask_index_type": 1}, [0, 1, 2]),
    ("attention", "Attention", qkv, {"num_heads": N}, [0]),
    ("attention_causal", "Attention", qkv, {"num_heads": N, "unidirectional": 1, "scale": 0.5}, [0]),
    ("attention_mask", "Attention", [*qkv, mask], {"num_heads": N}, [0]),
    ("attention_square_mask", "Attention", [*qkv, np.tril(np.ones([B, S, S], np.int32))], {"num_heads": N}, [0]),
    ("attention_ends", "Attention", [*qkv, ends], {"num_heads": N}, [0]),
    ("attention_ends_starts", "Attention", [*qkv, np.array([5, 4, 1, 0], np.int32)], {"num_heads": N}, [0]),
    ("attention_bias", "Attention", [*qkv, None, None, floats(B, N, S, S)], {"num_heads": N}, [0]),
    ("attention_widths", "Attention", [qkv[0], floats(M, 2 * M + 8), floats(2 * M + 8), mask], {"num_heads": N, "qkv_hidden_sizes": [M, M, 8]}, [0]),
    ("heads", "MultiHeadAttention", heads, {"num_heads": N}, [0]),
    ("heads_bias", "MultiHeadAttention", [*heads, floats(3 * M), None, floats(1, N, S, L)], {"num_heads": N, "scale": 0.3}, [0]),
    ("heads_mask", "MultiHeadAttention", [*heads, None, np.array([[1, 1, 1, 0, 0, 1, 0], [1] * 7], np.int32)], {"num_heads": N}, [0]),
    ("heads_ends", "MultiHeadAttention", [*heads, None, ends], {"num_heads": N}, [0]),
    ("heads_causal", "MultiHeadAttention", [heads[0], heads[1][:, :S].copy(), heads[2][:, :S].copy()], {"num_heads": N, "unidirectional": 1}, [0]),
    ("heads_cross", "MultiHeadAttention", [heads[0], floats(B, N, L, D), floats(B, N, L, D)], {"num_heads": N}, [0]),
    ("grouped", "GroupQueryAttention", grouped, {"num_heads": N, "kv_num_heads": 2}, [0, 1, 2]),
    ("grouped_rotary", "GroupQueryAttention", [*grouped, *angles(9, D // 2)], {"num_heads": N, "kv_num_heads": 2, "do_rotary": 1, "softcap": 2.0}, [0, 1, 2]),
    ("grouped_window", "GroupQueryAttention", grouped, {"num_heads": N, "kv_num_heads": 2, "local_window_size": 2, "scale": 0.4}, [0]),
    ("grouped_packed", "GroupQueryAttention", [floats(B, S, M + 4 * D), None, None, *grouped[3:], *angles(9, D // 2)],
     {"num_heads": N, "kv_num_heads": 2, "do_rotary": 1, "rotary_interleaved": 1}, [0]),
    ("rotary", "RotaryEmbedding", [floats(B, S, M), places, *angles(9, D // 2)], {}, [0]),
    ("rotary_interleaved", "RotaryEmbedding", [floats(B, N, S, D), places, *angles(9, D // 2)], {"interleaved": 1}, [0]),
    ("rotary_offset", "RotaryEmbedding", [floats(B, S, M), np.array([3], np.int64), *angles(9, D // 2)], {}, [0]),
    ("rotary_part", "RotaryEmbedding", [floats(B, N, S, D), places, *angles(9, 2)], {"rotary_embedding_dim": 4, "num_heads": N}, [0]),
    ("experts", "MoE", [rows, router, first, None, second], {"k": 2}, [0]),
    ("experts_gelu", "MoE", [rows, router, first, biases[0], second, biases[1]], {"k": 1, "activation_type": "gelu"}, [0]),
    ("experts_silu", "MoE", [rows, router, first, biases[0], second, biases[1]],
     {"k": 2, "activation_type": "silu", "normalize_routing_weights": 1}, [0]),
    ("experts_identity", "MoE", [rows.reshape(2, 5, H), router, first, None, second], {"k": 3, "activation_type": "identity"}, [0]),
    ("experts_swiglu", "MoE", [rows, router, double, double_bias, second, biases[1]],
     {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1, "activation_alpha": 1.7, "activation_beta": 1.0,
      "swiglu_limit": 1.5}, [0]),
]  # fmt: skip

# What no kernel of ONNX Runtime computes on the CPU.
GATED = [
    ("experts_gated", "MoE", [rows, router, first, biases[0], second, biases[1], third, biases[2]],
     {"k": 2, "activation_type": "silu", "normalize_routing_weights": 1}, [0]),
    ("experts_gated_relu", "MoE", [rows, router, first, None, second, None, third], {"k": 1}, [0]),
    ("experts_swiglu_halves", "MoE", [rows, router, double, double_bias, second, biases[1]],
     {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 2}, [0]),
    ("heads_packed", "MultiHeadAttention", [floats(B, S, N, 3, D)], {"num_heads": N}, [0]),
    ("heads_packed_pairs", "MultiHeadAttention", [heads[0], floats(B, L, N, 2, D)], {"num_heads": N}, [0]),
]  # fmt: skip


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def experts(x, scores, w1, b1=None, w2=None, b2=None, w3=None, b3=None, *, k=1, activation_type="relu", normalize_routing_weights=0,
            swiglu_fusion=0, activation_alpha=1.0, activation_beta=0.0, swiglu_limit=np.inf):  # fmt: skip
    """The formula, token by token and expert by expert."""
    flat = x.reshape(-1, x.shape[-1])
    share = np.exp(scores - scores.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    result = np.zeros_like(flat)
    for token, row in enumerate(flat):
        chosen = np.argsort(-share[token], kind="stable")[:k]
        total = share[token, chosen].sum() if normalize_routing_weights else 1.0
        for expert in chosen:
            hidden = w1[expert] @ row + (0 if b1 is None else b1[expert])
            if activation_type == "swiglu":
                gate, value = (hidden[::2], hidden[1::2]) if swiglu_fusion == 1 else np.split(hidden, 2)
                gate, value = np.minimum(gate, swiglu_limit), np.clip(value, -swiglu_limit, swiglu_limit)
                hidden = gate * sigmoid(activation_alpha * gate) * (value + activation_beta)
            elif activation_type == "relu":
                hidden = np.maximum(hidden, 0)
            elif activation_type == "silu":
                hidden = hidden * sigmoid(hidden)
            elif activation_type == "gelu":
                hidden = hidden / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
            if w3 is not None:
                hidden = hidden * (w3[expert] @ row + (0 if b3 is None else b3[expert]))
            result[token] += share[token, expert] / total * (w2[expert] @ hidden + (0 if b2 is None else b2[expert]))
    return [result.reshape(x.shape)]


def softmax_attention(*operands, num_heads):
    """Attention of packed operands, without masks."""
    if len(operands) == 1:
        q, k, v = np.moveaxis(operands[0], 3, 0)
    else:
        q = operands[0].reshape(*operands[0].shape[:2], num_heads, -1)
        k, v = np.moveaxis(operands[1], 3, 0)
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)
    return [out.reshape(*out.shape[:2], -1)]


class Case:
    def __init__(self, name, operator, operands, attributes, results, formula=None):
        self.name, self.operands, self.results, self.formula, self.attributes = name, operands, results, formula, attributes
        self.names = [f"{name}_x{i}" if array is not None else "" for i, array in enumerate(operands)]
        outputs = [f"{name}_y{i}" if i in results else "" for i in range(max(results) + 1)]
        self.outputs = [name for name in outputs if name]
        domain = "" if operator == "SimplifiedLayerNormalization" else MICROSOFT
        self.node = helper.make_node(operator, self.names, outputs, domain=domain, **attributes)
        self.session = None
        if formula is None:
            inputs = [self.info(key, array) for key, array in zip(self.names, operands) if key]
            graph = helper.make_graph([self.node], name, inputs, [onnx.ValueInfoProto(name=key) for key in self.outputs])
            model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10)
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def info(name, array):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    def values(self, moved=None, direction=0.0):
        """The results, with operand number `moved` moved along a direction."""
        operands = [array + direction if i == moved else array for i, array in enumerate(self.operands)]
        if self.formula:
            operands = [array.astype(np.float64) if array is not None and array.dtype == np.float32 else array for array in operands]
            return self.formula(*operands, **self.attributes)
        return self.session.run(None, {key: array for key, array in zip(self.names, operands) if key})


def cotangent(shape):
    return np.random.default_rng(7).uniform(0.5, 1.5, shape).astype(np.float32)


def weighed(results):
    return [np.asarray(result, np.float64) * cotangent(result.shape) for result in results if np.issubdtype(result.dtype, np.floating)]


def write(cases):
    """The model of all cases, and the numbers of its inputs by name."""
    nodes, weights, inputs, outputs, scores, numbers = [], [], [], [], [], {}
    for case in cases:
        nodes.append(case.node)
        for key, array in zip(case.names, case.operands):
            if key and array.dtype == np.float32:
                weights.append(numpy_helper.from_array(array, key))
            elif key and array.ndim == 0:
                weights.append(numpy_helper.from_array(array, key))
            elif key:
                inputs.append(case.info(key, array))
                numbers[key] = array
        for key, want in zip(case.outputs, case.values()):
            want = np.asarray(want, np.float32) if want.dtype == np.float64 else want
            outputs.append(case.info(key, want))
            if want.dtype == np.float32:
                weights.append(numpy_helper.from_array(cotangent(want.shape), f"{key}_w"))
                nodes.append(helper.make_node("Mul", [key, f"{key}_w"], [f"{key}_p"]))
                nodes.append(helper.make_node("ReduceSum", [f"{key}_p"], [f"{key}_s"], keepdims=0))
                scores.append(f"{key}_s")
    nodes.append(helper.make_node("Sum", scores, ["loss"]))
    outputs.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))
    graph = helper.make_graph(nodes, "contrib", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=OPSETS, ir_version=10), "contrib.onnx")
    pathlib.Path("recipe.yaml").write_text("loss: {output: loss}\nparameters: {default: train, freeze: ['*_w']}\noptimizer: {name: sgd, lr: 0.0}\n")
    return numbers


def run(numbers):
    """{how: (outputs, gradients)}"""
    lab.run("moec", "compile", "contrib.onnx", "--recipe", "recipe.yaml", "-o", "contrib.moe")
    lab.save("inputs", {name: array[None] for name, array in numbers.items()})
    lab.save("batch", numbers)
    lab.run("moerun", "run", "contrib.moe", "--inputs", "inputs", "--steps", 1, "--save-outputs", "outputs", "--save-gradients", "gradients")
    lab.run(os.path.join(os.environ["MOEC_BUILD"], "test/interpret_model"), "contrib.onnx", "recipe.yaml", "batch", "interpreted")
    told = lab.load("interpreted")
    return {"compiled": (lab.load("outputs"), lab.load("gradients")),
            "interpreted": [{key.removeprefix(kind): value for key, value in told.items() if key.startswith(kind)} for kind in ("output.", "grad.")]}  # fmt: skip


def check(case, found):
    wanted = case.values()
    for way, (outputs, _) in found.items():
        for key, want in zip(case.outputs, wanted):
            error = np.max(np.abs(outputs[key].astype(np.float64) - want)) / max(np.max(np.abs(want)), 1e-6)
            fits = outputs[key].shape == want.shape and error <= 1e-5
            report.check(fits, f"{key} {way} differs by {error:.1e} of the largest")
    for index, (key, array) in enumerate(zip(case.names, case.operands)):
        if not key or array.dtype != np.float32:
            continue
        direction = np.random.default_rng(index).uniform(-1, 1, array.shape).astype(np.float32)
        ends = [weighed(case.values(index, sign * STEP * direction)) for sign in (1, -1)]
        slopes = [(after - before) / (2 * STEP) for after, before in zip(*ends)]
        numeric, size = sum(np.sum(slope) for slope in slopes), sum(np.sum(np.abs(slope)) for slope in slopes)
        for way, (_, gradients) in found.items():
            ours = np.sum(gradients[key].astype(np.float64) * direction) if key in gradients else 0.0
            report.check(abs(ours - numeric) <= 1e-2 * size + 1e-3, f"{key} {way} slope {ours:.5g}, by differences {numeric:.5g}")


def refuses(name, text, operator, operands, attributes, results=(0,)):
    """moec must refuse the node by its name with a message that has `text`."""
    case = Case(name, operator, operands, attributes, list(results), formula=experts)
    inputs = [case.info(key, array) for key, array in zip(case.names, operands) if key]
    graph = helper.make_graph([case.node, helper.make_node("ReduceSum", [case.outputs[0]], ["loss"], keepdims=0)], name, inputs,
                              [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=OPSETS, ir_version=10), "refused.onnx")
    done = subprocess.run(["moec", "compile", "refused.onnx", "--recipe", "recipe.yaml", "-o", "refused.moe"], capture_output=True, text=True)
    fits = done.returncode == 1 and case.name in done.stderr and text in done.stderr
    report.check(fits, f"{name} is refused" + ("" if fits else f": {done.returncode} {done.stderr[:400]}"))


if __name__ == "__main__":
    chosen = [words for words in CASES if len(sys.argv) < 2 or words[0] in sys.argv[1:]]
    gated = [words for words in GATED if len(sys.argv) < 2 or words[0] in sys.argv[1:]]
    cases = [Case(*words) for words in chosen]
    cases += [Case(*words, formula=experts if words[1] == "MoE" else softmax_attention) for words in gated]
    for case in cases:
        if case.node.op_type == "MoE" and case.session:
            want = experts(*case.operands, **case.attributes)[0]
            error = np.max(np.abs(case.values()[0] - want)) / np.max(np.abs(want))
            report.check(error < 1e-5, f"{case.name}: the formula in NumPy differs from ONNX Runtime by {error:.1e}")
    found = run(write(cases))
    for case in cases:
        check(case, found)
    refuses("mixer", "use_sparse_mixer", "MoE", [rows, router, first, None, second], {"k": 2, "use_sparse_mixer": 1})
    refuses("turned", "output width, input width", "MoE", [rows, router, floats(E, H, F), None, floats(E, F, H)], {})
    refuses("unknown", "'tanh'", "MoE", [rows, router, first, None, second], {"activation_type": "tanh"})
    refuses("past", "past_key", "GroupQueryAttention", [*grouped[:3], floats(B, 2, 3, D), floats(B, 2, 3, D), *grouped[5:]], {"num_heads": N, "kv_num_heads": 2})
    refuses("packed_mask", "mask of this shape", "Attention", [*qkv, np.zeros([3 * B + 2], np.int32)], {"num_heads": N})
    refuses("odd", "Reshape", "MoE", [rows, router, floats(E, 7, H), None, second], {"activation_type": "swiglu", "swiglu_fusion": 2})
    refuses("many_heads", "fit the width", "GroupQueryAttention", grouped, {"num_heads": 1 << 62, "kv_num_heads": 1 << 62})
    refuses("square_bias", "one vector", "MultiHeadAttention", [*heads, floats(3, M)], {"num_heads": N})
    refuses("heads_of_nothing", "no heads", "MultiHeadAttention", heads, {})
    report.finish()
