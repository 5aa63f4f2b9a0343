"""The ONNX standard's own node tests, generated from the `onnx` package: results and gradients of compiled programs and of
the reference interpreter.

All cases of one opset become one model: their nodes side by side, their numbers as inputs and weights. Results are compared
with those of the standard; files of 16- and 64-bit floats are computed in float32. Gradients are compared with directional
derivatives by central differences, in float64, of the reference implementation in the `onnx` package, at inputs moved a
little, further than the differences reach, since kinks lie at round numbers.
With words as arguments: only operators of these names, and the reason for every case that is left out.
"""
import collections
import json
import os
import re
import sys
import warnings

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

sys.path.insert(0, os.path.join(os.environ["MOEC_ROOT"], "test/e2e/support"))
import lab

warnings.filterwarnings("ignore")

OPERATORS = set("""
    Abs Add And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant
    ConstantOfShape Cos CumSum Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu
    AveragePool DepthToSpace GlobalAveragePool GlobalMaxPool MaxPool SpaceToDepth
    Acos Acosh Asin Asinh Atan Atanh Cosh Sinh Tan
    Attention BatchNormalization CausalConvWithState LinearAttention Conv EyeLike GroupNormalization InstanceNormalization LpNormalization MeanVarianceNormalization
    NegativeLogLikelihoodLoss Pad RMSNormalization RotaryEmbedding SwiGLU Tile Gemm Greater GreaterOrEqual HardSigmoid HardSwish Hardmax Identity If IsInf IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax Loop MatMul Max Mean Min Mish Mod Mul Neg Not OneHot Or PRelu Pow Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Optional OptionalGetElement OptionalHasElement Scan SequenceAt SequenceConstruct SequenceEmpty SequenceLength SequenceMap
    Round Scatter ScatterElements ScatterND Selu SequenceInsert Shape Shrink Sigmoid Sign Sin Size Slice Softmax
    SoftmaxCrossEntropyLoss Softplus Softsign Split SplitToSequence Sqrt Squeeze Sub Sum Swish Tanh ThresholdedRelu TopK
    Transpose Trilu Unsqueeze Where Xor
""".split())

# Why a case cannot be what it is in a program whose shapes do not depend on data, by name.
SKIPS = {
    r"training_dropout(?!.*zero_ratio)": "draws numbers",
    r"batchnorm.*training": "changes its statistics while training: no function of its operands",
    r"maxpool_with_argmax": "says where the maxima lie, which no model that is trained asks for",
    r"scan_sum": "a Scan of opset 8, over batches",
    r"dropout.*_old": "has no training_mode, and exporters write a Dropout of that opset for training only",
}

# Operands that decide about shapes or about what is computed: they are constants. All other operands may be inputs.
STATIC = {
    "Clip": {1, 2}, "ConstantOfShape": {0}, "CumSum": {1}, "Dropout": {1, 2}, "Expand": {1}, "OneHot": {1}, "Range": {0, 1, 2},
    "Reshape": {1}, "Slice": {1, 2, 3, 4}, "Split": {1}, "SplitToSequence": {1}, "Squeeze": {1}, "TopK": {1}, "Trilu": {1},
    "Unsqueeze": {1}, "If": {0}, "Loop": {0, 1}, "SequenceInsert": {2}, "Pad": {1, 3}, "Tile": {1},
}  # fmt: skip
REDUCTIONS = {name for name in OPERATORS if name.startswith("Reduce")}
# The runtime takes no negative tokens, so indices are constants here too.
INDICES = {"Gather": {1}, "GatherElements": {1}, "GatherND": {1}, "ScatterND": {1}, "ScatterElements": {1}, "Scatter": {1},
           "OneHot": {0}, "SoftmaxCrossEntropyLoss": {1}, "NegativeLogLikelihoodLoss": {1},
           "RotaryEmbedding": {3}}  # fmt: skip

FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16,
          TensorProto.BFLOAT16: ml_dtypes.bfloat16}  # fmt: skip
TYPES = FLOATS | {TensorProto.INT64: np.int64, TensorProto.INT32: np.int32, TensorProto.INT16: np.int16, TensorProto.INT8: np.int8,
                  TensorProto.UINT32: np.uint32, TensorProto.UINT16: np.uint16, TensorProto.UINT8: np.uint8, TensorProto.BOOL: np.bool_}  # fmt: skip
# Types that no kernel computes, and why nobody misses them.
REFUSED = {
    "FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0 FLOAT4E2M1 UINT4 INT4 UINT2 INT2": "a type of quantised models, which are refused",
    "UINT64": "unsigned numbers of 64 bits, which no export of a model has",
    "STRING": "texts, which no model computes with",
}


def is_float(array):
    return array.dtype in map(np.dtype, FLOATS.values())


def tensor_type(kind):
    """The tensors of a type that may be an optional one or a sequence."""
    while not kind.HasField("tensor_type"):
        kind = kind.optional_type.elem_type if kind.HasField("optional_type") else kind.sequence_type.elem_type
    return kind.tensor_type


def leaves(values):
    """The tensors of tensors, sequences (lists) and optional values that hold nothing (None)."""
    for value in values:
        if isinstance(value, list):
            yield from leaves(value)
        elif value is not None:
            yield np.asarray(value)


def as_array(value):
    """Some cases have their numbers as messages."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def widened(value):
    if isinstance(value, list):
        return [widened(element) for element in value]
    return value.astype(np.float64) if isinstance(value, np.ndarray) and is_float(value) else value


def widen(graph):
    """Makes a graph of any floats one of float64, as far as its constants and casts say which."""
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if tensor_type(value.type).elem_type in FLOATS:
            tensor_type(value.type).elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                widen(attribute.g)
            elif attribute.HasField("t") and attribute.t.data_type in FLOATS:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float64)))
            elif attribute.name in ("to", "dtype") and attribute.i in FLOATS:
                attribute.i = TensorProto.DOUBLE


class Case:
    """One test of the standard: a model and its numbers."""

    def __init__(self, test):
        self.name, self.model = test.name.removeprefix("test_"), test.model
        self.inputs, self.outputs = ([as_array(value) for value in values] for values in test.data_sets[0])
        self.rtol, self.atol = test.rtol, test.atol
        self.opset = max((o.version for o in self.model.opset_import if o.domain == ""), default=0)
        self.types = {node.op_type for node in self.nodes(self.model.graph)}
        self.operator = self.model.graph.node[0].op_type if len(self.model.graph.node) == 1 else None

    def nodes(self, graph):
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from self.nodes(attribute.g)

    def reason_to_skip(self):
        for pattern, reason in SKIPS.items():
            if re.search(pattern, self.name):
                return reason
        graph = self.model.graph
        types = {attribute.i for node in self.nodes(graph) for attribute in node.attribute if attribute.name == "to"}
        types |= {tensor_type(value.type).elem_type for value in [*graph.input, *graph.output]}
        names = {TensorProto.DataType.Name(kind) for kind in types - set(TYPES)}
        return next((reason for refused, reason in REFUSED.items() if names & set(refused.split())), None)

    def is_static(self, index):
        # Programs take no tensors without elements, no sequences and no optional values.
        array, kind = self.inputs[index], self.model.graph.input[index].type
        if self.types & {"If", "Loop"} or not kind.HasField("tensor_type") or array.size == 0:
            return True
        if self.operator is None:
            return not is_float(self.inputs[index])
        static = STATIC.get(self.operator, set()) | INDICES.get(self.operator, set())
        return index in static or (self.operator in REDUCTIONS and index == 1)


class Group:
    """Cases of one opset in one model. `trained`: their floats are weights, and a loss weighs their results."""

    def __init__(self, name, cases, trained):
        self.name, self.cases, self.trained = name, cases, trained
        self.nodes, self.weights, self.inputs, self.outputs, self.numbers = [], [], [], [], {}
        self.point, self.scores, self.wanted = {}, [], []
        random = np.random.default_rng(len(cases))
        for number, case in enumerate(cases):
            self.add(case, f"c{number}_", random)
        self.inputs.append(helper.make_tensor_value_info("tick", TensorProto.FLOAT, [1]))
        self.numbers["tick"] = np.zeros([1, 1], np.float32)
        self.nodes.append(helper.make_node("Identity", ["tick"], ["tock"]))
        self.outputs.append(helper.make_tensor_value_info("tock", TensorProto.FLOAT, [1]))
        self.nodes.append(helper.make_node("Sum" if self.scores else "Identity", self.scores or ["one_w"], ["loss"]))
        self.weights.append(numpy_helper.from_array(np.float32(1), "one_w"))
        self.outputs.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))

    def constant(self, name, array):
        if array is None:
            self.nodes.append(helper.make_node("Optional", [], [name], type=helper.make_tensor_type_proto(TensorProto.FLOAT, None)))
            return
        if isinstance(array, list):
            parts = [f"{name}_part{i}" for i in range(len(array))]
            for part, element in zip(parts, array):
                self.constant(part, element)
            self.nodes.append(helper.make_node("SequenceConstruct" if parts else "SequenceEmpty", parts, [name]))
            return
        self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(array))))

    def add(self, case, prefix, random):
        graph = compose.add_prefix(case.model, prefix).graph
        for index, (value, array) in enumerate(zip(graph.input, case.inputs)):
            if case.is_static(index):
                self.constant(value.name, array)
            elif self.trained and is_float(array):
                inward = -1 if case.operator in ("Acos", "Asin", "Atanh") else 1  # their cases reach up to 1
                moved = (array + inward * random.uniform(0.005, 0.02, array.shape)).astype(array.dtype)
                self.point[value.name] = moved
                self.weights.append(numpy_helper.from_array(moved, value.name))
            elif self.trained:
                self.constant(value.name, array)
            else:
                self.inputs.append(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, array.shape))
                self.numbers[value.name] = array[None]
        self.nodes.extend(graph.node)
        self.weights.extend(graph.initializer)
        self.wanted.append([])
        for value, result in zip(graph.output, case.outputs):
            for name, array in self.parts(value.name, result):
                if not self.trained and array.size == 0:
                    # Nor do they give any: their shape is all there is to compare.
                    self.nodes.append(helper.make_node("Shape", [name], [f"{name}_shape"]))
                    name, array = f"{name}_shape", np.array(array.shape, np.int64)
                if not self.trained:
                    self.outputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
                    self.wanted[-1].append((name, array))
                elif is_float(array) and np.isfinite(array).all():
                    self.constant(f"{name}_w", self.cotangent(array.shape))
                    self.nodes.append(helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT))
                    self.nodes.append(helper.make_node("Mul", [f"{name}_f", f"{name}_w"], [f"{name}_p"]))
                    self.nodes.append(helper.make_node("ReduceSum", [f"{name}_p"], [f"{name}_s"], keepdims=0))
                    self.scores.append(f"{name}_s")

    def parts(self, name, result):
        """(name, array) of a result that is a tensor, or of the elements of a sequence and their number."""
        if not isinstance(result, list):
            return [(name, np.asarray(result))]
        for i, array in enumerate(result):
            self.constant(f"{name}_place{i}", np.int64(i))
            self.nodes.append(helper.make_node("SequenceAt", [name, f"{name}_place{i}"], [f"{name}_at{i}"]))
        self.nodes.append(helper.make_node("SequenceLength", [name], [f"{name}_count"]))
        return [(f"{name}_at{i}", np.asarray(array)) for i, array in enumerate(result)] + [(f"{name}_count", np.int64(len(result)))]

    @staticmethod
    def cotangent(shape):
        return np.random.default_rng(7).uniform(0.5, 1.5, shape).astype(np.float32)

    def run(self):
        """Outputs and gradients by name, of the compiled program and of the interpreter, or the compiler's complaint."""
        graph = helper.make_graph(self.nodes, "cases", self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", self.cases[0].opset)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), "cases.onnx")
        with open("recipe.yaml", "w") as file:
            parameters = json.dumps({"default": "train", "train": ["one_w", *self.point]})
            file.write(f"loss: {{output: loss}}\nparameters: {parameters}\noptimizer: {{name: sgd, lr: 0.0}}\n")
        done = lab.subprocess.run(["moec", "compile", "cases.onnx", "--recipe", "recipe.yaml", "-o", "cases.moe"],
                                  capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            return done.stderr
        lab.save("inputs", self.numbers)
        lab.save("batch", {name: array[0] for name, array in self.numbers.items()})
        words = ["moerun", "run", "cases.moe", "--inputs", "inputs", "--steps", "1", "--save-outputs", "outputs",
                 "--save-gradients", "gradients"]  # fmt: skip
        done = lab.subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            return done.stderr
        interpreter = os.path.join(os.environ["MOEC_BUILD"], "test/interpret_model")
        lab.run(interpreter, "cases.onnx", "recipe.yaml", "batch", "interpreted")
        told = lab.load("interpreted")
        interpreted = [{key.removeprefix(kind): value for key, value in told.items() if key.startswith(kind)} for kind in ("output.", "grad.")]
        return {"compiled": (lab.load("outputs"), lab.load("gradients")), "interpreted": interpreted}

    def score(self, case, evaluator, inputs):
        """What the loss adds up for one case, in float64."""
        results = evaluator.run(None, inputs)
        return sum(np.sum(np.asarray(result, np.float64) * self.cotangent(array.shape))
                   for result, array in zip(leaves(results), leaves(case.outputs)) if is_float(array) and np.isfinite(array).all())  # fmt: skip

    def slopes(self, case, prefix, gradients):
        """(weight, slopes by differences of two sizes, by each of our gradients) along one direction for each weight."""
        names = [value.name for value in case.model.graph.input]
        at = {name: widened(value) for name, value in zip(names, case.inputs)}
        at |= {name: self.point[prefix + name].astype(np.float64) for name in names if prefix + name in self.point}
        random = np.random.default_rng(3)
        wide = onnx.ModelProto.FromString(case.model.SerializeToString())
        widen(wide.graph)
        evaluator = ReferenceEvaluator(wide)
        for name in names:
            if prefix + name not in self.point:
                continue
            direction = random.uniform(0.5, 1.5, at[name].shape)
            numeric = []
            # Parts of the reference round to float32, others are steep: one of the steps suits.
            for step in (1e-3, 1e-5):
                ends = [self.score(case, evaluator, at | {name: at[name] + sign * step * direction}) for sign in (1, -1)]
                numeric.append((ends[0] - ends[1]) / (2 * step))
            yield name, numeric, {way: np.sum(known.get(prefix + name, 0.0) * direction) for way, known in gradients.items()}


def tolerances(case, want):
    """(relative, absolute) of the case; or of four roundings of 16-bit numbers as large as the largest: the standard's
    numbers were rounded on their way, ours are float32. Whole numbers are equal."""
    if not is_float(want):
        return 0, 0
    rounding = 4 * float(ml_dtypes.finfo(want.dtype).eps) if want.dtype.itemsize == 2 else 0
    finite = np.abs(widened(want)[np.isfinite(want)]) if rounding else np.zeros(0)
    return max(case.rtol, rounding), max(case.atol, 1e-6, rounding * finite.max(initial=0))


def check_results(group, way, outputs, report):
    for number, case in enumerate(group.cases):
        for name, want in group.wanted[number]:
            got = outputs[name]
            rtol, atol = tolerances(case, want)
            equal = got.shape == want.shape and np.allclose(got, widened(want), rtol, atol, equal_nan=True)
            report.check(equal, f"{case.name}: {name} {way}" + ("" if equal else f"\n{got}\nexpected\n{want}"))


def check_gradients(group, gradients, report):
    for number, case in enumerate(group.cases):
        for name, numeric, slopes in group.slopes(case, f"c{number}_", gradients):
            for way, ours in slopes.items():
                near = np.isclose(ours, numeric, 5e-4, 1e-3).any()
                report.check(near, f"{case.name}: slope of {name} {way} {ours:.6g}, by differences {numeric[0]:.6g}, {numeric[1]:.6g}")


def has_gradient(case):
    """The expanded forms round to float32 on their way: the differences would be noise. The reference has no Scatter,
    and mixes types in MeanVarianceNormalization."""
    return case.operator not in (None, "Scatter", "MeanVarianceNormalization") and any(map(is_float, leaves(case.outputs))) and any(
        not case.is_static(index) and is_float(array) for index, array in enumerate(case.inputs))  # fmt: skip


report, groups, skipped = lab.Report(), collections.defaultdict(list), collections.Counter()
for test in collect_testcases(None):
    case = Case(test)
    if case.opset == 0 or not case.types <= OPERATORS or (sys.argv[1:] and not case.types & set(sys.argv[1:])):
        continue
    if reason := case.reason_to_skip():
        skipped[reason] += 1
        continue
    groups[case.opset].append(case)
for opset, cases in sorted(groups.items()):
    for trained in (False, True):
        chosen = [case for case in cases if has_gradient(case)] if trained else cases
        if not chosen:
            continue
        group = Group(f"opset {opset}", chosen, trained)
        outcome = group.run()
        if isinstance(outcome, str):
            report.check(False, f"opset {opset}: {len(chosen)} cases\n{outcome}")
        elif trained:
            check_gradients(group, {way: gradients for way, (_, gradients) in outcome.items()}, report)
        else:
            for way, (outputs, _) in outcome.items():
                check_results(group, way, outputs, report)
for reason, count in sorted(skipped.items()):
    print(f"{count} cases left out: {reason}")
report.finish()
