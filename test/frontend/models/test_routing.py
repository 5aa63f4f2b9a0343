"""The body of ai.moec.MoE alone: the golden routing cases (logits of 8 tokens, 4 experts) as a layer with x = logits,
an identity gate and experts f_e(x) = (e + 1) x; random cases against the oracle; groups; attention without keys.
"""

import copy
import math

import numpy as np
import onnx
from onnx import TensorProto, helper

import fairseq_oracle as oracle
import preset

LOGITS = np.array(
    [
        [2.0, 1.0, -0.5, 0.0],
        [1.5, 0.25, 1.0, -1.0],
        [0.75, -0.25, 0.5, 0.0],
        [3.0, -1.0, 0.0, 2.5],
        [1.25, 1.0, 0.5, -0.75],
        [-0.5, 2.0, 1.75, 0.0],
        [2.25, -0.75, 0.0, 1.5],
        [0.5, -1.5, 0.25, -2.5],
    ],
    np.float32,
)
L_AUX = 1.709620906940171
A = [1.268941421369995, 1.755081337596291, 1.875646998228405, 2.132622006394436, 2, 2.437823499114202, 4, 3]


def weighted(first, w1, second, w2):
    return w1 * (first + 1) + w2 * (second + 1)


class LayerTest(preset.TestCase):
    def layer(self, flags=(), experts=4, activation="linear", **overrides):
        """A session of one MoE node with the function and the attributes that `moec model` writes for `flags`."""
        model = preset.write(
            self.path,
            *preset.TINY,
            "--moe-freq",
            2,
            "--moe-expert-count",
            experts,
            "--moe-second-expert-policy",
            "all",
            "--activation-fn",
            activation,
            *flags
        )
        node = copy.deepcopy(next(n for n in model.graph.node if n.op_type == "MoE"))
        masked = bool(node.input[7])
        inputs = ["x", "gate", "w1", "b1", "w2", "b2", "groups"] + (["mask"] if masked else [])
        del node.input[:]
        node.input.extend(inputs if masked else inputs + [""])
        del node.output[:]
        node.output.extend(["y", "l_aux"])
        for attribute in node.attribute:
            if attribute.name in overrides:
                attribute.f = overrides[attribute.name]
        kinds = {"groups": TensorProto.INT64, "mask": TensorProto.BOOL}
        graph = helper.make_graph(
            [node],
            "layer",
            [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None) for n in inputs],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in node.output],
        )
        small = helper.make_model(
            graph,
            opset_imports=model.opset_import,
            functions=[f for f in model.functions if f.name == "MoE"],
            ir_version=model.ir_version,
        )
        path = self.folder / "layer.onnx"
        onnx.save(small, path)
        return preset.session(path)

    def run_layer(self, flags=(), padding=None, logits=LOGITS, groups=1, **overrides):
        """Returns (y as [tokens, 4], l_aux) of the layer with an identity gate and experts f_e(x) = (e + 1) x."""
        session = self.layer(flags, **overrides)
        eye, zero = np.eye(4, dtype=np.float32), np.zeros((4, 4), np.float32)
        feed = {
            "x": logits.reshape(groups, -1, 4),
            "gate": eye,
            "w1": np.stack([eye] * 4),
            "b1": zero,
            "w2": np.stack([eye * (e + 1) for e in range(4)]),
            "b2": zero,
            "groups": np.array([groups], np.int64),
        }
        if padding is not None:
            feed["mask"] = padding.reshape(groups, -1)
        y, l_aux = session.run(None, feed)
        return y.reshape(-1, 4), l_aux

    def golden(self, *args, logits=LOGITS, **keywords):
        """Returns (factor of each token, l_aux): the layer's output must be factor * input."""
        y, l_aux = self.run_layer(*args, logits=logits, **keywords)
        factor = y[:, 0] / logits[:, 0]
        np.testing.assert_allclose(y, factor[:, None] * logits, atol=2e-6)
        return factor, l_aux

    def compare(self, got, factors, l_aux):
        np.testing.assert_allclose(got[0], factors, atol=2e-6)
        np.testing.assert_allclose(got[1], [l_aux], rtol=2e-6)

    def test_case_a(self):
        self.compare(self.golden(), A, L_AUX)

    def test_case_b_normalize_before(self):
        want = list(A)
        want[4], want[6], want[7] = 0.437823499114202 * 2, 0.320821300824607 * 4, 0.437823499114202 * 3
        self.compare(self.golden(["--moe-normalize-gate-prob-before-dropping"]), want, L_AUX)

    def test_case_c_padding(self):
        padding = np.zeros(8, bool)
        padding[[2, 7]] = True
        want = list(A)
        want[2] = want[7] = 0.0
        want[4] = weighted(0, 0.562176500885798, 1, 0.437823499114202)
        self.compare(self.golden(["--use-moe-pad-mask"], padding), want, 1.247145232545813)

    def test_case_d_batch_prioritized(self):
        want = list(A)
        want[6] = weighted(0, 0.679178699175393, 3, 0.320821300824607)
        want[7] = weighted(0, 0.562176500885798, 2, 0.437823499114202)
        want[1], want[2], want[4] = 3, 3, 2
        self.compare(self.golden(["--moe-batch-prioritized-routing"]), want, L_AUX)

    def test_case_e_capacity_2(self):
        """Evaluation with a fraction of 0.25 has capacity 2; the body reaches it by capacity_factor 1."""
        want = [A[0], A[1], 3, 4, 0, 2, 4, 0]
        self.compare(self.golden(capacity_factor=1.0), want, L_AUX)

    def test_case_h_top1(self):
        want = [0.630795543247, 0.506298234808, 0, 0, 0, 0.500946522190 * 2, 0, 0]
        self.compare(self.golden(["--moe-top1-expert"]), want, L_AUX)
        self.compare(self.golden(["--moe-top1-expert"], capacity_factor=1.25), want, L_AUX)

    def test_ragged_batch(self):
        """Four tokens and four rows of padding: padding counts in the mean of p and in the capacity."""
        y, l_aux = self.run_layer(
            ["--use-moe-pad-mask"], np.arange(8) >= 4, np.concatenate([LOGITS[:4], np.zeros((4, 4), np.float32)])
        )
        np.testing.assert_allclose(y[:4], np.array(A[:4])[:, None] * LOGITS[:4], atol=2e-6)
        np.testing.assert_allclose(l_aux, [0.779014428615742], rtol=2e-6)

    def test_groups_are_independent(self):
        factors, l_aux = self.golden(logits=np.concatenate([LOGITS, LOGITS[::-1]]), groups=2)
        reverse, reverse_aux = self.golden(logits=np.ascontiguousarray(LOGITS[::-1]))
        np.testing.assert_allclose(factors, np.concatenate([A, reverse]), atol=2e-6)
        np.testing.assert_allclose(l_aux, [L_AUX, reverse_aux[0]], rtol=2e-6)

    def test_against_oracle(self):
        """Random layers of odd sizes with every option of the gate, real experts and several groups."""
        rng = np.random.default_rng(1)
        options = {
            "--moe-top1-expert": dict(top_k=1),
            "--moe-normalize-gate-prob-before-dropping": dict(normalize_before=True),
            "--moe-batch-prioritized-routing": dict(prioritized=True),
        }
        cases = [
            [],
            *([f] for f in options),
            ["--moe-top1-expert", "--moe-batch-prioritized-routing"],
            ["--moe-normalize-gate-prob-before-dropping", "--moe-batch-prioritized-routing"],
        ]
        for flags in cases:
            keywords = {"top_k": 2} | {k: v for f in flags for k, v in options[f].items()}
            for experts, batch, length, groups, masked in [
                (1, 2, 5, 1, False),
                (3, 6, 7, 3, True),
                (8, 4, 17, 2, False),
                (5, 1, 31, 1, True),
            ]:
                with self.subTest(flags=flags, experts=experts, masked=masked):
                    dim, width = 6, 9
                    session = self.layer(flags + (["--use-moe-pad-mask"] if masked else []), experts, "gelu")
                    draw = lambda *shape: rng.normal(0, 1, shape).astype(np.float32)
                    feed = {
                        "x": draw(batch, length, dim),
                        "gate": draw(experts, dim),
                        "w1": draw(experts, width, dim),
                        "b1": draw(experts, width),
                        "w2": draw(experts, dim, width),
                        "b2": draw(experts, dim),
                        "groups": np.array([groups], np.int64),
                    }
                    mask = rng.random((batch, length)) < 0.2
                    if masked:
                        feed["mask"] = mask
                    y, l_aux = session.run(None, feed)
                    for g, (x, m, got) in enumerate(zip(*(np.split(t, groups) for t in (feed["x"], mask, y)))):
                        tokens = x.reshape(-1, dim).astype(np.float64)
                        aux, _, kept = oracle.route(
                            tokens @ feed["gate"].T.astype(np.float64),
                            padding=m.reshape(-1) if masked else None,
                            **keywords
                        )
                        want = np.zeros_like(tokens)
                        for s, e, _, w in kept:
                            hidden = oracle.gelu(feed["w1"][e] @ tokens[s] + feed["b1"][e])
                            want[s] += w * (feed["w2"][e] @ hidden + feed["b2"][e])
                        self.assertLess(abs(l_aux[g] - aux), 2e-6 * max(aux, 1))
                        np.testing.assert_allclose(got.reshape(-1, dim), want, atol=2e-5 * math.sqrt(width * dim))


class AttentionTest(preset.TestCase):
    def test_rows_without_keys_are_zero(self):
        """A sequence that begins with padding: row 0 sees no key."""
        model = preset.write(self.path, *preset.TINY)
        node = copy.deepcopy(next(n for n in model.graph.node if n.op_type == "Attention"))
        del node.input[:], node.output[:]
        node.input.extend(["q", "k", "v", "mask"])
        node.output.append("y")
        graph = helper.make_graph(
            [node],
            "attention",
            [
                helper.make_tensor_value_info(n, TensorProto.BOOL if n == "mask" else TensorProto.FLOAT, None)
                for n in node.input
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        )
        onnx.save(
            helper.make_model(
                graph,
                opset_imports=model.opset_import,
                functions=[f for f in model.functions if f.name == "Attention"],
                ir_version=model.ir_version,
            ),
            self.path,
        )
        rng = np.random.default_rng(2)
        q, k, v = (rng.normal(0, 1, (2, 5, 8)).astype(np.float32) for _ in range(3))
        mask = np.zeros((2, 5), bool)
        mask[0, 0] = mask[1, 3] = True
        (y,) = preset.session(self.path).run(None, {"q": q, "k": k, "v": v, "mask": mask})
        self.assertEqual(np.abs(y[0, 0]).max(), 0.0)
        for b in range(2):
            for t in range(5):
                for h in range(2):
                    keys = [j for j in range(t + 1) if not mask[b, j]]
                    part = slice(4 * h, 4 * h + 4)
                    if keys:
                        p = oracle.softmax(np.array([q[b, t, part] @ k[b, j, part] / 2.0 for j in keys], np.float64))
                        np.testing.assert_allclose(
                            y[b, t, part], sum(w * v[b, j, part] for w, j in zip(p, keys)), atol=1e-6
                        )


if __name__ == "__main__":
    preset.main()
