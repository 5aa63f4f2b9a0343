//===- Moec.cpp ---------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// The model-local functions of domain ai.moec stay coarse (frontend/models/Functions.h says what their operands mean).
// Their bodies, which other runtimes execute, are not looked at.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/NodeContext.h"
#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace moe::frontend {
namespace {

/// q, k, v [B,T,M], key_padding_mask [B,T] -> [B,T,M].
void attention(NodeContext &n) {
  Value q = n.input(0), k = n.input(1), v = n.input(2);
  if (n.failed())
    return n.output(0, {});
  const int64_t heads = n.integer("num_heads", 0);
  for (Value value : {q, k, v})
    if (n.rank(value) != 3 || heads < 1 || n.shape(value)[2] % heads != 0)
      n.fail("q, k and v must be of shape [batch, length, width] with a width that num_heads divides");
  if (n.failed())
    return n.output(0, {});
  auto perHead = [&](Value value) {
    Shape shape = n.shape(value);
    return n.reshape(value, {shape[0], shape[1], heads, shape[2] / heads});
  };
  const double rate = n.program.mode == Mode::Training ? n.real("dropout", 0.0) : 0.0;
  llvm::SmallVector<Value> operands = {perHead(q), perHead(k), perHead(v)};
  auto number = [&](double value) { return n.builder.getF64FloatAttr(value); };
  const bool drops = rate > 0.0;
  Value padding = n.hasInput(3) ? n.input(3) : Value();
  Operation *op = n.create<ir::AttentionOp>(
      operands[0], operands[1], operands[2], padding, drops ? n.program.rng() : Value(), /*bias=*/Value(),
      /*sinks=*/Value(), number(n.real("scale", 1.0)),
      n.integer("causal", 0) != 0 ? n.builder.getUnitAttr() : UnitAttr(), number(rate),
      n.builder.getI64IntegerAttr(drops ? n.program.session.options.seed : 0),
      n.builder.getI64IntegerAttr(drops ? n.site() : 0), /*bias_dims=*/n.builder.getDenseI64ArrayAttr({}),
      /*softcap=*/number(0.0), /*window=*/n.builder.getI64IntegerAttr(0));
  n.output(0, op ? n.reshape(op->getResult(0), n.shape(q)) : Value());
}

/// Everything that the attributes and shapes of one MoE layer say.
struct MoeLayer {
  int64_t groups = 1, tokens = 0, experts = 0, topK = 2, capacity = 0;
  ir::SecondExpertPolicy policy = ir::SecondExpertPolicy::All;
};

/// Rows of each expert for each group of `tokens` (reference: the fairseq MoE layer). Evaluation with a fraction f > 0:
/// ceil(f S); otherwise trunc(factor ceil(S / E)).
int64_t capacity(NodeContext &n, const MoeLayer &layer) {
  const double fraction = n.real("eval_capacity_token_fraction", 0.0);
  const int64_t perExpert = (layer.tokens + layer.experts - 1) / layer.experts;
  const double factor = n.real("capacity_factor", layer.topK == 1 ? 1.0 : 2.0);
  const double rows = n.program.mode == Mode::Evaluation && fraction > 0.0
                          ? std::ceil(fraction * static_cast<double>(layer.tokens))
                          : factor * static_cast<double>(perExpert);
  return rows >= 0.0 && rows <= static_cast<double>(kMaxElements) ? static_cast<int64_t>(rows) : 0;
}

MoeLayer readLayer(NodeContext &n, Value x, Value gate) {
  MoeLayer layer;
  if (n.failed())
    return layer;
  if (n.rank(x) != 3 || n.rank(gate) != 2) {
    n.fail("its input must be [batch, length, width], its gate [experts, width]");
    return layer;
  }
  Shape shape = n.shape(x);
  const std::optional<Shape> groups = n.hasInput(6) ? n.integers(6) : Shape{n.program.routingGroups()};
  layer.groups = groups && groups->size() == 1 ? groups->front() : 0;
  layer.experts = n.shape(gate)[0];
  layer.topK = n.integer("top_k", 2);
  if (layer.groups < 1 || shape[0] % layer.groups != 0) {
    n.fail("the batch of " + llvm::Twine(shape[0]) + " does not divide into " + llvm::Twine(layer.groups) +
           " routing groups: bind another batch or set routing_groups in the recipe");
    return layer;
  }
  if (layer.topK < 1 || layer.topK > 2 || layer.experts < 1 || n.integer("num_experts", layer.experts) != layer.experts)
    n.fail("num_experts must be the number of rows of the gate, and top_k 1 or 2");
  layer.tokens = shape[0] / layer.groups * shape[1];
  layer.capacity = n.failed() ? 1 : capacity(n, layer);
  if (layer.capacity < 1)
    n.fail("its experts would have no capacity");
  std::string policy = n.text("second_expert_policy", "all");
  if (policy == "sampling")
    layer.policy = ir::SecondExpertPolicy::Sampling;
  else if (policy == "random")
    layer.policy = ir::SecondExpertPolicy::Random;
  else if (policy != "all")
    n.fail("second_expert_policy '" + policy + "' is none of all, sampling, random");
  if (layer.topK == 1)
    layer.policy = ir::SecondExpertPolicy::All;
  return layer;
}

/// Gumbel noise [G,S,E] for `sampling`, uniform noise [G,S] for `random`, drawn in evaluation too, as fairseq does.
Value gateNoise(NodeContext &n, const MoeLayer &layer) {
  if (layer.policy == ir::SecondExpertPolicy::All || n.failed())
    return {};
  n.at("noise");
  const bool gumbel = layer.policy == ir::SecondExpertPolicy::Sampling;
  Shape shape = {layer.groups, layer.tokens};
  if (gumbel)
    shape.push_back(layer.experts);
  Value uniform = n.make<ir::RandomUniformOp>(n.type(shape, n.builder.getF32Type()), n.program.rng(),
                                              n.program.session.options.seed, n.site());
  if (!gumbel)
    return uniform;
  return n.make<ir::NegOp>(n.make<ir::LogOp>(n.make<ir::NegOp>(n.make<ir::LogOp>(uniform))));
}

/// fairseq's normalisation of expert gradients by the square root of the world, which is G here.
Value expertParameter(NodeContext &n, int index, const MoeLayer &layer) {
  Value value = n.input(index);
  if (n.failed() || n.program.mode == Mode::Evaluation ||
      n.text("normalize_expert_grad", "world_size") != "sqrt_world_size")
    return value;
  const double factor = std::sqrt(static_cast<double>(std::min(layer.groups, layer.experts)));
  if (factor == 1.0)
    return value;
  return n.make<ir::ScaleGradientOp>(value, n.builder.getF64FloatAttr(factor));
}

/// rows [E,G,C,in], weight [E,out,in], bias [E,out] -> [E,G,C,out].
Value expertLinear(NodeContext &n, Value rows, int weightIndex, const MoeLayer &layer) {
  Value weight = expertParameter(n, weightIndex, layer), bias = expertParameter(n, weightIndex + 1, layer);
  Value product = n.dot(rows, weight, {0}, {0}, {3}, {2});
  return n.failed() ? Value() : n.make<ir::AddOp>(product, n.broadcast(bias, n.shape(product), {0, 3}));
}

Value activation(NodeContext &n, Value x) {
  std::string name = n.text("activation", "gelu");
  if (name == "gelu" || name == "gelu_tanh")
    return n.make<ir::GeluOp>(x, name == "gelu" ? ir::GeluKind::Erf : ir::GeluKind::Tanh);
  if (name == "relu")
    return n.make<ir::ReluOp>(x);
  if (name == "tanh")
    return n.make<ir::TanhOp>(x);
  if (name != "linear")
    n.fail("the activation '" + name + "' is unknown");
  return x;
}

/// Choices of a layer that found no slot, as a float32 scalar that ranks can add up: exact up to 2^24. Padding and
/// second experts that `random` has turned down chose nothing.
Value countDropped(NodeContext &n, const MoeLayer &layer, Operation *route, Value mask, Value noise) {
  n.at("dropped");
  Type f32 = n.builder.getF32Type();
  auto count = [&](Value flags) {
    const int64_t rank = n.rank(flags);
    return n.reduce(n.cast(flags, f32), ir::ReduceKind::Sum, llvm::ArrayRef<int64_t>({0, 1, 2}).take_front(rank),
                    false);
  };
  auto both = [&](Value a, Value b) { return n.make<ir::AndOp>(a, b); };
  Value expert = route->getResult(0), slot = route->getResult(1), probs = route->getResult(5);
  Value absent = compare(n, ir::ComparePredicate::LT, slot, n.splatLike(slot, 0.0));
  Value unmasked = mask ? n.make<ir::NotOp>(mask) : Value();
  if (mask)
    absent = both(absent, n.broadcast(unmasked, n.shape(slot), {0, 1}));
  Value dropped = count(absent);
  if (layer.policy != ir::SecondExpertPolicy::Random)
    return dropped;
  // As `route` itself decides: a second expert stays if twice its probability is above the noise.
  auto probability = [&](int64_t k) {
    Value chosen =
        n.make<ir::SliceOp>(expert, Shape{0, 0, k}, Shape{layer.groups, layer.tokens, k + 1}, Shape{1, 1, 1});
    Value index = n.make<ir::IotaOp>(n.type(n.shape(probs), n.element(expert)), 2);
    Value hit = compare(n, ir::ComparePredicate::EQ, index, n.broadcastTo(chosen, n.shape(probs)));
    return n.reduce(n.make<ir::SelectOp>(hit, probs, n.splatLike(probs, 0.0)), ir::ReduceKind::Sum, {2}, false);
  };
  Value second = probability(1);
  if (n.integer("normalize_gate_prob_before_dropping", 0) != 0) {
    Value sum = n.make<ir::AddOp>(probability(0), second);
    second = n.make<ir::DivOp>(second, n.make<ir::MaxOp>(sum, n.splatLike(sum, std::numeric_limits<float>::epsilon())));
  }
  Value twice = n.make<ir::MulOp>(second, n.splatLike(second, 2.0));
  Value turnedDown = n.make<ir::NotOp>(compare(n, ir::ComparePredicate::GT, twice, noise));
  return n.make<ir::SubOp>(dropped, count(mask ? both(turnedDown, unmasked) : turnedDown));
}

/// gate -> route -> dispatch -> experts -> combine, in index form.
void moe(NodeContext &n) {
  Value x = n.input(0), gate = n.input(1);
  MoeLayer layer = readLayer(n, x, gate);
  if (n.failed()) {
    n.output(0, {});
    return n.output(1, {});
  }
  const Shape shape = n.shape(x);
  Type f32 = n.builder.getF32Type();
  Value tokens = n.reshape(x, {layer.groups, layer.tokens, shape[2]});
  n.at("logits");
  Value logits = n.dot(n.cast(tokens, f32), n.cast(gate, f32), {}, {}, {2}, {1});
  Value mask = n.hasInput(7) ? n.reshape(n.input(7), {layer.groups, layer.tokens}) : Value();
  Value noise = gateNoise(n, layer);
  n.at("route");
  auto flag = [&](const char *name) { return n.integer(name, 0) != 0 ? n.builder.getUnitAttr() : UnitAttr(); };
  Operation *route = n.create<ir::RouteOp>(
      logits, mask, noise, n.builder.getI64IntegerAttr(layer.topK), n.builder.getI64IntegerAttr(layer.capacity),
      ir::SecondExpertPolicyAttr::get(n.builder.getContext(), layer.policy),
      layer.topK == 2 ? flag("normalize_gate_prob_before_dropping") : UnitAttr(), flag("batch_prioritized_routing"));
  if (!route) {
    n.output(0, {});
    return n.output(1, {});
  }
  Value expert = route->getResult(0), slot = route->getResult(1), weight = route->getResult(2);
  Value token = route->getResult(3);
  n.program.addMoeMetrics(route->getResult(7), countDropped(n, layer, route, mask, noise));

  n.at("dispatched");
  Value rows = n.make<ir::DispatchOp>(tokens, expert, slot, token, Value());
  n.at("fc1");
  Value hidden = expertLinear(n, rows, 2, layer);
  n.at("activation");
  hidden = activation(n, hidden);
  n.at("activation_dropout");
  hidden = n.dropout(hidden, n.real("activation_dropout", 0.0));
  n.at("fc2");
  rows = expertLinear(n, hidden, 4, layer);
  // Both copies of a token have masks of their own, since they are dropped in their slots.
  n.at("dropout");
  rows = n.dropout(rows, n.real("dropout", 0.0));
  n.atOutput();
  Value y = n.make<ir::CombineOp>(rows, expert, slot, token, weight);
  n.output(0, n.reshape(y, shape));
  n.output(1, route->getResult(4));
}

constexpr OpEntry kOps[] = {
    {"ai.moec", "Attention", 1, attention},
    {"ai.moec", "MoE", 1, moe},
};

} // namespace

llvm::ArrayRef<OpEntry> moecOps() {
  return kOps;
}

} // namespace moe::frontend
