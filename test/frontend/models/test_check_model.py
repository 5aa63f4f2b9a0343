"""The written files are valid ONNX, mean what fairseq's flags mean, and cost nothing to write."""

import math
import os
import subprocess

import numpy as np
import onnx
from onnx import helper

import fairseq_oracle as oracle
import preset

MOE = "--moe-freq 2 --moe-expert-count 4 --moe-second-expert-policy all".split()
# Each line is one model; together they reach every flag that changes the mathematics.
VARIANTS = [
    "",
    "--share-decoder-input-output-embed --no-decoder-final-norm",
    "--decoder-learned-pos --activation-fn gelu_fast --dropout 0.0",
    "--decoder-attention-heads 4 --decoder-layers 3 --max-target-positions 40",
    "MOE --moe-gate-loss-wt 0.3",
    "MOE --moe-gate-loss-combine-method sum --moe-gate-loss-transform neg_log --decoder-layers 4",
    "MOE --moe-gate-loss-transform neg_log --decoder-layers 4 --routing-groups 2",
    "MOE --moe-freq 1 --moe-top1-expert --moe-gate-loss-wt 0.01 --moe-gating-use-fp32 --routing-groups 4",
    "MOE --moe-normalize-gate-prob-before-dropping --use-moe-pad-mask --routing-groups 2",
    "MOE --moe-batch-prioritized-routing --share-decoder-input-output-embed --decoder-learned-pos --pad-id 3",
    "MOE --alternate-decoder-ffn-embed-dim 20",
]
LARGE = """--decoder-layers 24 --decoder-embed-dim 2048 --decoder-ffn-embed-dim 8192 --decoder-attention-heads 16
--moe-freq 2 --moe-expert-count 8 --share-decoder-input-output-embed
--tokens-per-sample 2048 --vocab-size 50000""".split()


def words(variant):
    return variant.replace("MOE", " ".join(MOE)).split()


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def batch(seed, vocabulary, pad):
    """Inputs with padding in front, between, behind and nowhere; labels with their own padding."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, (4, 13))
    ids[ids == pad] = 2 if pad != 2 else 4
    ids[0, 9:] = ids[1, :2] = ids[2, 5] = ids[2, 12:] = pad
    labels = rng.integers(0, vocabulary, (4, 13))
    labels[0, 8:] = labels[1, 2] = pad
    return ids, labels


class CheckModelTest(preset.TestCase):
    def test_checker(self):
        for variant in VARIANTS:
            for opset in (20, 21, 22, 23):
                with self.subTest(variant, opset=opset):
                    preset.write(self.path, *preset.TINY, *words(variant), "--opset", opset)
                    onnx.checker.check_model(str(self.path), full_check=True)
                    ids, labels = batch(0, 20, 1)
                    preset.session(self.path).run(None, {"input_ids": ids, "labels": labels})

    def test_against_oracle(self):
        """Float32 against float64 on random weights: 2e-5 on logits of size 3."""
        for seed, variant in enumerate(VARIANTS):
            with self.subTest(variant):
                model = preset.write(self.path, *preset.TINY, *words(variant))
                weights = preset.random_weights(model, seed)
                preset.fill(self.path, weights)
                flags = oracle.arguments(" ".join([*preset.TINY, *words(variant)]))
                pad, groups = int(flags.get("pad-id", 1)), int(flags.get("routing-groups", 1))
                ids, labels = batch(seed, 20, pad)
                loss, logits, aux = preset.session(self.path).run(
                    ["loss", "logits", "aux_loss"], {"input_ids": ids, "labels": labels}
                )
                reference = oracle.Model(flags, weights, pad)
                original, oracle.gelu = oracle.gelu, (
                    gelu_tanh if flags.get("activation-fn") == "gelu_fast" else oracle.gelu
                )
                try:
                    parts = [reference(s, t) for s, t in zip(np.split(ids, groups), np.split(labels, groups))]
                finally:
                    oracle.gelu = original
                ce, gate, count = (sum(p[i] for p in parts) for i in range(3))
                np.testing.assert_allclose(logits, np.concatenate([p[3] for p in parts]), atol=2e-5)
                self.assertAlmostEqual(float(aux), gate / count, delta=2e-6)
                self.assertAlmostEqual(
                    float(loss), (ce + float(flags.get("moe-gate-loss-wt", 1.0)) * gate) / count, delta=1e-5
                )

    def test_no_counted_label(self):
        preset.fill(self.path, preset.random_weights(preset.write(self.path, *preset.TINY, *MOE)))
        ids, _ = batch(0, 20, 1)
        loss, aux = preset.session(self.path).run(["loss", "aux_loss"], {"input_ids": ids, "labels": np.ones_like(ids)})
        self.assertEqual((float(loss), float(aux)), (0.0, 0.0))

    def test_dropout_is_where_fairseq_has_it(self):
        """Nodes without training_mode in the dense part, attributes in the functions; no effect in other runtimes."""
        model = preset.write(
            self.path, *preset.TINY, *MOE, "--dropout", 0.25, "--attention-dropout", 0.5, "--activation-dropout", 0.125
        )
        values = {
            n.output[0]: n.attribute[0].f
            for n in model.graph.node
            if n.op_type == "Constant" and n.attribute[0].name == "value_float"
        }
        nodes = {n.input[0]: values[n.input[1]] for n in model.graph.node if n.op_type == "Dropout"}
        layers = [f"decoder.layers.{i}" for i in range(2)]
        self.assertEqual(
            nodes,
            {
                "decoder.embed": 0.25,
                **{f"{layer}.self_attn.out_proj": 0.25 for layer in layers},
                "decoder.layers.0.activation": 0.125,
                "decoder.layers.0.fc2": 0.25,
            },
        )
        self.assertTrue(all(len(n.input) == 2 for n in model.graph.node if n.op_type == "Dropout"))
        attributes = {
            n.op_type: {a.name: helper.get_attribute_value(a) for a in n.attribute}
            for n in model.graph.node
            if n.domain == "ai.moec"
        }
        self.assertEqual(attributes["Attention"]["dropout"], 0.5)
        self.assertEqual((attributes["MoE"]["dropout"], attributes["MoE"]["activation_dropout"]), (0.25, 0.125))
        weights = preset.random_weights(model)
        preset.fill(self.path, weights)
        ids, labels = batch(0, 20, 1)
        feed = {"input_ids": ids, "labels": labels}
        with_dropout = preset.session(self.path).run(None, feed)
        preset.write(self.path, *preset.TINY, *MOE, "--dropout", 0.0, "--attention-dropout", 0.0)
        preset.fill(self.path, weights)
        for a, b in zip(with_dropout, preset.session(self.path).run(None, feed)):
            np.testing.assert_array_equal(a, b)

    def test_attributes(self):
        """Every gate option reaches the MoE node, defaults included; metadata tells the importer what it needs."""
        read = lambda model: {
            a.name: helper.get_attribute_value(a) for n in model.graph.node if n.op_type == "MoE" for a in n.attribute
        }
        plain = preset.write(self.path, *preset.TINY, "--moe-freq", 2, "--moe-expert-count", 4)
        self.assertEqual(
            read(plain),
            {
                "num_experts": 4,
                "top_k": 2,
                "capacity_factor": 2.0,
                "eval_capacity_token_fraction": 0.25,
                "second_expert_policy": b"sampling",
                "normalize_gate_prob_before_dropping": 0,
                "batch_prioritized_routing": 0,
                "gating_use_fp32": 0,
                "normalize_expert_grad": b"world_size",
                "activation": b"gelu",
                "dropout": np.float32(0.1),
                "activation_dropout": 0.0,
            },
        )
        other = preset.write(
            self.path,
            *preset.TINY,
            *MOE,
            "--moe-second-expert-policy",
            "random",
            "--moe-normalize-gate-prob-before-dropping",
            "--moe-batch-prioritized-routing",
            "--moe-gating-use-fp32",
            "--moe-normalize-expert-grad",
            "sqrt_world_size",
            "--moe-eval-capacity-token-fraction",
            "-1.0",
            "--activation-fn",
            "gelu_fast",
            "--vocab-size",
            260,
        )
        got = read(other)
        self.assertEqual(
            (got["second_expert_policy"], got["normalize_expert_grad"], got["activation"]),
            (b"random", b"sqrt_world_size", b"gelu_tanh"),
        )
        self.assertEqual(
            [got[k] for k in ("normalize_gate_prob_before_dropping", "batch_prioritized_routing", "gating_use_fp32")],
            [1, 1, 1],
        )
        self.assertEqual(got["eval_capacity_token_fraction"], -1.0)
        top1 = read(preset.write(self.path, *preset.TINY, *MOE, "--moe-top1-expert"))
        self.assertEqual((top1["top_k"], top1["capacity_factor"]), (1, 1.0))

        props = {p.key: p.value for p in other.metadata_props}
        self.assertEqual(
            [props[f"ai.moec.{k}"] for k in ("version", "preset", "pad_id", "tokenizer", "loss_weight", "loss_sum")],
            ["1", "transformer_lm_gpt", "1", "bytes+4", "loss_weight", "loss_sum"],
        )
        self.assertEqual({p.key: p.value for p in plain.metadata_props}["ai.moec.tokenizer"], "none")
        values = {name for node in other.graph.node for name in node.output}
        self.assertLessEqual({"loss_weight", "loss_sum"}, values)
        again = preset.write(self.folder / "again.onnx", *props["ai.moec.flags"].split())
        self.assertEqual(again.graph.node, other.graph.node)


class InitializationTest(preset.TestCase):
    def run_initialization(self, model):
        info = model.training_info[0]
        graph = helper.make_model(info.initialization, opset_imports=model.opset_import, ir_version=model.ir_version)
        onnx.checker.check_model(graph, full_check=True)
        path = self.folder / "init.onnx"
        onnx.save(graph, path)
        names = [(b.key, b.value) for b in info.initialization_binding]
        return dict(zip([k for k, _ in names], preset.session(path).run([v for _, v in names], {})))

    def test_distributions(self):
        """Bounds exactly, deviations to four standard errors; all parameters and nothing else are bound."""
        d, f, vocabulary = 64, 96, 500
        model = preset.write(
            self.path,
            *preset.TINY,
            *MOE,
            "--decoder-embed-dim",
            d,
            "--decoder-ffn-embed-dim",
            f,
            "--vocab-size",
            vocabulary,
            "--decoder-learned-pos",
            "--tokens-per-sample",
            200,
        )
        drawn = self.run_initialization(model)
        floats = {t.name: tuple(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
        self.assertEqual({k: v.shape for k, v in drawn.items()}, floats)
        self.assertEqual(drawn["decoder.embed_positions.weight"].shape, (202, d))
        for name, value in drawn.items():
            with self.subTest(name):
                if name.startswith("decoder.embed_") or name == "decoder.output_projection.weight":
                    rows = value
                    if name.startswith("decoder.embed_"):
                        self.assertEqual(np.abs(value[1]).max(), 0.0)
                        rows = np.delete(value, 1, 0)
                    self.assertGreater(np.abs(rows).max(1).min(), 0.0)
                    self.assertLess(abs(rows.std() * math.sqrt(d) - 1.0), 4 / math.sqrt(2 * rows.size))
                    self.assertGreater(np.abs(rows).max() * math.sqrt(d), 3.0)
                    continue
                if "layer_norm" in name or name.endswith("out_proj.bias"):
                    self.assertEqual(set(value.ravel()), {1.0 if name.endswith("weight") else 0.0})
                    continue
                xavier = math.sqrt(6 / (2 * d))
                bound = 1 / math.sqrt(f if "fc2" in name else d)
                if name.endswith("out_proj.weight"):
                    bound = xavier
                elif "_proj.weight" in name:
                    bound = xavier / math.sqrt(2)
                self.assertLessEqual(np.abs(value).max(), np.float32(bound))
                self.assertLess(abs(value.std() / bound * math.sqrt(3) - 1.0), 4 * math.sqrt(0.2 / value.size) + 1e-3)

    def test_sinusoidal_table_is_frozen_and_right(self):
        model = preset.write(self.path, *preset.TINY, "--max-target-positions", 50)
        table = next(t for t in model.graph.initializer if t.name == "decoder.embed_positions.weights")
        self.assertNotIn(table.name, {b.key for b in model.training_info[0].initialization_binding})
        self.assertEqual(list(table.dims), [52, 8])
        place = preset.external(table)
        raw = (self.folder / place["location"]).read_bytes()
        values = np.frombuffer(raw[int(place["offset"]) :][: int(place["length"])], np.float32).reshape(52, 8)
        # fairseq computes angles in float32: up to 51 * 2^-24 off, and half an ulp of the result.
        np.testing.assert_allclose(values, oracle.sinusoidal(52, 8, 1), atol=4e-6)
        rest = raw[: int(place["offset"])] + raw[int(place["offset"]) + int(place["length"]) :]
        self.assertEqual(rest.count(0), len(rest))


class LargeTest(preset.TestCase):
    def test_four_billion_parameters(self):
        """24 x 2048, 8 experts: 4,130,631,680 parameters in 3 s of a core, 200 MB of memory, 64 MB of disk."""
        child = subprocess.Popen(
            [preset.MOEC, "model", "transformer_lm_gpt", *LARGE, "-o", self.path], stdout=subprocess.PIPE
        )
        printed = child.stdout.read().decode()
        child.stdout.close()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(child.returncode, 0)
        self.assertEqual(printed, f"{self.path}: 4130631680 parameters, 3222208512 of them in experts\n")
        self.assertLess(usage.ru_utime + usage.ru_stime, 3.0)
        self.assertLess(usage.ru_maxrss, 200 * 1024)
        stat = os.stat(f"{self.path}.data")
        self.assertLess(stat.st_blocks * 512, 64 << 20)
        model = onnx.load(self.path, load_external_data=False)
        bound = {b.key for b in model.training_info[0].initialization_binding}
        sizes = {t.name: math.prod(t.dims) for t in model.graph.initializer if t.name in bound}
        self.assertEqual(sum(sizes.values()), 4_130_631_680)
        self.assertEqual(sum(v for k, v in sizes.items() if ".experts." not in k), 908_423_168)
        self.assertGreaterEqual(stat.st_size, 4 * 4_130_631_680)
        places = sorted(
            (int(preset.external(t)["offset"]), int(preset.external(t)["length"]))
            for t in model.graph.initializer
            if t.external_data
        )
        self.assertTrue(all(a + n <= b for (a, n), (b, _) in zip(places, places[1:])))
        onnx.checker.check_model(str(self.path))

    def test_same_bytes_twice(self):
        first = preset.write(self.path, *preset.TINY, *MOE)
        self.assertEqual(first.SerializeToString(), preset.write(self.path, *preset.TINY, *MOE).SerializeToString())


if __name__ == "__main__":
    preset.main()
