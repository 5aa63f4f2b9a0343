"""ONNX Runtime executes the written files and reproduces fairseq's recorded losses and routing."""

import json
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper

import fairseq_oracle as oracle
import preset

# fairseq's flags that `moec model` takes.
FLAGS = """decoder-layers decoder-embed-dim decoder-ffn-embed-dim decoder-attention-heads tokens-per-sample
share-decoder-input-output-embed dropout attention-dropout activation-dropout decoder-learned-pos moe-freq
moe-expert-count moe-gating-use-fp32 moe-eval-capacity-token-fraction moe-gate-loss-wt moe-gate-loss-combine-method
moe-second-expert-policy moe-normalize-expert-grad moe-normalize-gate-prob-before-dropping moe-top1-expert
moe-batch-prioritized-routing moe-gate-loss-transform use-moe-pad-mask""".split()
CONFIGURATIONS = sorted(p.parent for p in preset.DATA.glob("*/config.json"))
# What the MoE body computes on the way and the recorded routing pins.
INTERNALS = ["C"] + [choice + part for choice in ("first", "second") for part in ("", "_slot", "_kept", "_weight")]


def expose(model):
    """Makes the routing values inside the MoE function outputs of the graph: {layer: {value: output name}}."""
    function = next(f for f in model.functions if f.name == "MoE")
    defined = {name for node in function.node for name in node.output}
    values = [v for v in INTERNALS if v in defined]
    kinds = {
        "C": TensorProto.INT64,
        "": TensorProto.INT64,
        "_slot": TensorProto.INT64,
        "_kept": TensorProto.BOOL,
        "_weight": TensorProto.FLOAT,
    }
    function.output.extend(values)
    exposed = {}
    for node in model.graph.node:
        if node.op_type != "MoE":
            continue
        layer = exposed.setdefault(node.output[0], {"l_aux": node.output[1]})
        model.graph.output.append(helper.make_tensor_value_info(node.output[1], TensorProto.FLOAT, None))
        for value in values:
            name = layer[value] = f"{node.output[0]}/{value}"
            node.output.append(name)
            kind = kinds[value.replace("first", "").replace("second", "")]
            model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return exposed


def concatenated(folder, world, micro, attempt=0):
    files = ["batches.safetensors"] if world == 1 else [f"batches-rank{r}.safetensors" for r in range(world)]
    data = [oracle.load(folder / f) for f in files]
    return [
        np.concatenate([d[f"attempt{attempt}.micro{micro}.{part}"] for d in data]).astype(np.int64)
        for part in ("src", "tgt")
    ]


class Golden:
    """One configuration: the written model with the recorded weights, ready to run."""

    def __init__(self, folder, path, extra=()):
        config = json.loads((folder / "config.json").read_text())
        self.folder, self.world = folder, config["world"]
        self.arguments = oracle.arguments(config["args"])
        self.micro = int(self.arguments.get("update-freq", 1))
        initial = oracle.load(preset.DATA / config["init"])
        flags = [
            word
            for flag in FLAGS
            if flag in self.arguments
            for word in ([f"--{flag}"] if self.arguments[flag] is True else [f"--{flag}", self.arguments[flag]])
        ]
        vocabulary = initial["decoder.embed_tokens.weight"].shape[0]
        preset.write(path, *flags, "--vocab-size", vocabulary, "--routing-groups", self.world, *extra)
        self.initial = initial
        self.model = preset.fill(path, oracle.stacked(initial))
        updates = json.loads((folder / "exact-f64.json").read_text())["updates"]
        self.first = updates[0]


class GoldenTest(preset.TestCase):
    def test_loss(self):
        """Tolerance 1e-6: fairseq's own float32 runs differ from float64 by up to 1.8e-7."""
        self.assertEqual(len(CONFIGURATIONS), 9)
        for folder in CONFIGURATIONS:
            with self.subTest(folder.name):
                golden = Golden(folder, self.path)
                session = preset.session(self.path)
                total = gate = count = 0.0
                for micro in range(golden.micro):
                    src, tgt = concatenated(folder, golden.world, micro)
                    loss, logits, aux = session.run(["loss", "logits", "aux_loss"], {"input_ids": src, "labels": tgt})
                    counted = int((tgt != 1).sum())
                    self.assertEqual(logits.shape, (*src.shape, golden.initial["decoder.embed_tokens.weight"].shape[0]))
                    total, gate, count = total + counted * float(loss), gate + counted * float(aux), count + counted
                logged = golden.first["logging_outputs"]
                self.assertEqual(count, golden.first["sample_size"])
                want = sum(o["loss"] for o in logged) / count
                self.assertLess(abs(total / count - want) / want, 1e-6)
                want_gate = sum(o.get("moe_loss", 0.0) for o in logged) / count
                self.assertLess(abs(gate / count - want_gate), 1e-6 * max(want_gate, 1.0))

    def test_routing(self):
        """Experts, slots, kept entries and capacities are equal; weights and l_aux to 1e-6 (float32 softmax)."""
        for folder in CONFIGURATIONS:
            if not list(folder.glob("routing1*")):
                continue
            with self.subTest(folder.name):
                golden = Golden(folder, self.path)
                exposed = expose(golden.model)
                onnx.save(golden.model, self.path)
                session = preset.session(self.path)
                files = (
                    ["routing1.safetensors"]
                    if golden.world == 1
                    else [f"routing1-rank{r}.safetensors" for r in range(golden.world)]
                )
                recorded = [oracle.load(folder / f) for f in files]
                dropped = 0
                for micro in range(golden.micro):
                    src, tgt = concatenated(folder, golden.world, micro)
                    names = [n for layer in exposed.values() for n in layer.values()]
                    got = dict(zip(names, session.run(names, {"input_ids": src, "labels": tgt})))
                    for layer, values in exposed.items():
                        for group in range(golden.world):
                            want = {
                                k: recorded[group][f"{layer}.gate.call{micro}.{k}"]
                                for k in ("l_aux", "capacity", "token", "expert", "slot", "weight")
                            }
                            self.assertEqual(int(got[values["C"]][0]), int(want["capacity"][0]))
                            self.assertLess(abs(got[values["l_aux"]][group] - want["l_aux"][0]), 1e-6)
                            kept = {}
                            for choice in ("first", "second"):
                                if choice not in values:
                                    continue
                                expert, slot, keep, weight = (
                                    got[values[choice + p]][group] for p in ("", "_slot", "_kept", "_weight")
                                )
                                dropped += int((~keep).sum())
                                kept |= {
                                    (s, int(expert[s])): (int(slot[s]), float(weight[s])) for s in np.flatnonzero(keep)
                                }
                            expected = {
                                (int(s), int(e)): (int(c), float(w))
                                for s, e, c, w in zip(*(want[k] for k in ("token", "expert", "slot", "weight")))
                            }
                            self.assertEqual({k: v[0] for k, v in kept.items()}, {k: v[0] for k, v in expected.items()})
                            for key, (_, weight) in expected.items():
                                self.assertAlmostEqual(kept[key][1], weight, delta=1e-6)
                # With two experts and two choices every token fits.
                self.assertEqual(dropped > 0, int(golden.arguments["moe-expert-count"]) > 2)

    def test_routing_groups_are_one_initializer(self):
        """Overriding `routing_groups` alone turns the one-group file into fairseq on two processes."""
        folder = preset.DATA / "w2-fsdp"
        golden = Golden(folder, self.path, ("--routing-groups", 1))
        groups = next(t for t in golden.model.graph.initializer if t.name == "routing_groups")
        self.assertEqual((list(groups.dims), list(groups.int64_data)), ([1], [1]))
        groups.int64_data[0] = 2
        onnx.save(golden.model, self.path)
        src, tgt = concatenated(folder, 2, 0)
        (loss,) = preset.session(self.path).run(["loss"], {"input_ids": src, "labels": tgt})
        want = sum(o["loss"] for o in golden.first["logging_outputs"]) / golden.first["sample_size"]
        self.assertLess(abs(float(loss) - want) / want, 1e-6)


class OracleTest(unittest.TestCase):
    def test_equals_fairseq(self):
        """The oracle of the other tests is right: 1e-8, since the recorded weights are rounded to float32."""
        for folder in CONFIGURATIONS:
            with self.subTest(folder.name):
                config = json.loads((folder / "config.json").read_text())
                flags, world = oracle.arguments(config["args"]), config["world"]
                model = oracle.Model(flags, oracle.load(preset.DATA / config["init"]))
                total = count = 0.0
                for micro in range(int(flags.get("update-freq", 1))):
                    src, tgt = concatenated(folder, world, micro)
                    for s, t in zip(np.split(src, world), np.split(tgt, world)):
                        ce, gate, counted, _ = model(s, t)
                        total, count = total + ce + float(flags.get("moe-gate-loss-wt", 1.0)) * gate, count + counted
                updates = json.loads((folder / "exact-f64.json").read_text())["updates"]
                want = sum(o["loss"] for o in updates[0]["logging_outputs"]) / count
                self.assertLess(abs(total / count - want) / want, 1e-8)


if __name__ == "__main__":
    preset.main()
