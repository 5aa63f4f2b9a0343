//===- ContribMoe.cpp - Layers of experts as ONNX Runtime's optimiser writes them ---------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
// Reference: the operator MoE of domain com.microsoft as ONNX Runtime documents it. It drops no token. It is written as
// exporters write such layers, with the weights of the chosen experts gathered for each choice, which
// `recompose-experts` turns into grouped products.

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Body.h"
#include <cmath>

using namespace mlir;

namespace moe::frontend {
namespace {

/// Operands of the node.
enum Operand { kInput, kRouter, kWeight1, kBias1, kWeight2, kBias2, kWeight3, kBias3 };

/// The form of GELU that the kernels of ONNX Runtime compute in experts.
constexpr const char *kMoeGelu = "tanh";

struct Experts {
  NodeContext &n;
  Body &body;
  std::string chosen;  ///< [choices], the number of an expert for each token and choice
  int64_t choices = 0; ///< tokens x k

  /// rows [choices, in] by the chosen experts' weights [E, out, in], plus their biases [E, out].
  std::string linear(const std::string &rows, int weight, int bias, int64_t in) {
    // What failed before is no fault of the weights.
    if (n.failed() || !body.value(rows))
      return rows;
    const Shape shape = n.shape(n.input(weight));
    if (shape.size() != 3 || shape[2] != in) {
      n.fail("weights of experts must be [expert, output width, input width], here with an input width of " +
             llvm::Twine(in));
      return {};
    }
    std::string own = body.node("Gather", {body.operand(weight), chosen});
    std::string product = body.node("MatMul", {body.node("Unsqueeze", {rows, body.constant({1})}),
                                               body.node("Transpose", {own}, {{"perm", Shape{0, 2, 1}}})});
    product = body.node("Squeeze", {product, body.constant({1})});
    if (!n.hasInput(bias))
      return product;
    return body.node("Add", {product, body.node("Gather", {body.operand(bias), chosen})});
  }
};

/// clip(gate) sigmoid(alpha clip(gate)) (clip(value) + beta), where the limit bounds the gate above, the value both
/// ways.
std::string swiGlu(NodeContext &n, Body &body, std::string gate, std::string value) {
  Value like = n.input(kInput);
  const double limit = n.attribute("swiglu_limit") ? n.real("swiglu_limit", 0.0) : INFINITY;
  if (std::isfinite(limit)) {
    std::string most = body.number(limit, like), least = body.number(-limit, like);
    gate = body.node("Min", {gate, most});
    value = body.node("Min", {body.node("Max", {value, least}), most});
  }
  std::string slope = body.node("Mul", {gate, body.number(n.real("activation_alpha", 1.0), like)});
  std::string active = body.node("Mul", {gate, body.node("Sigmoid", {slope})});
  if (n.real("activation_beta", 0.0) != 0.0)
    value = body.node("Add", {value, body.number(n.real("activation_beta", 0.0), like)});
  return body.node("Mul", {active, value});
}

/// The hidden rows [choices, width] from the first product of experts and, where they are gated, from `third`.
std::string activated(NodeContext &n, Body &body, const std::string &hidden, const std::string &third, int64_t choices,
                      int64_t width) {
  const std::string kind = n.text("activation_type", "relu");
  const int64_t fusion = n.integer("swiglu_fusion", 0);
  if (kind == "swiglu") {
    if (fusion == 0 && !third.empty())
      return swiGlu(n, body, hidden, third);
    if (fusion != 1 && fusion != 2) {
      n.fail("swiglu needs fc3_experts_weights, or swiglu_fusion of 1 or 2");
      return {};
    }
    // Gate and value alternate (1), or the gates come first (2).
    const Shape split = fusion == 1 ? Shape{choices, width / 2, 2} : Shape{choices, 2, width / 2};
    const int64_t dim = fusion == 1 ? 2 : 1;
    std::vector<std::string> parts =
        body.nodes("Split", {body.node("Reshape", {hidden, body.constant(split)})}, 2, {{"axis", dim}});
    for (std::string &part : parts)
      part = body.node("Squeeze", {part, body.constant({dim})});
    return swiGlu(n, body, parts[0], parts[1]);
  }
  std::string active = hidden;
  if (kind == "relu")
    active = body.node("Relu", {hidden});
  else if (kind == "gelu")
    active = body.node("Gelu", {hidden}, {{"approximate", std::string(kMoeGelu)}});
  else if (kind == "silu")
    active = body.node("Mul", {hidden, body.node("Sigmoid", {hidden})});
  else if (kind != "identity")
    n.fail("the activation '" + kind + "' is none of relu, gelu, silu, swiglu, identity");
  return third.empty() ? active : body.node("Mul", {active, third});
}

void moe(NodeContext &n) {
  Body body(n);
  std::string x = body.operand(kInput), router = body.operand(kRouter);
  if (n.integer("use_sparse_mixer", 0) != 0)
    n.fail("use_sparse_mixer is not supported: its choice of experts is that of one model's training");
  const Shape shape = n.shape(n.input(kInput)), logits = n.shape(n.input(kRouter)), first = n.shape(n.input(kWeight1));
  const int64_t k = n.integer("k", 1);
  if (n.failed() || shape.size() < 2 || logits.size() < 2 || first.size() != 3 || k < 1 || k > logits.back()) {
    n.fail("its operands must be rows [..., width], scores [..., experts] and weights of experts, k at most the number "
           "of experts");
    return n.output(0, {});
  }
  const int64_t width = shape.back(),
                tokens = ir::typeOf(n.input(kInput)).getNumElements() / std::max<int64_t>(width, 1);
  if (k > kMaxElements / std::max<int64_t>(tokens, 1)) {
    n.fail("it has more choices of experts than a tensor has elements");
    return n.output(0, {});
  }
  std::string scores = body.node("Softmax", {body.node("Reshape", {router, body.constant({tokens, logits.back()})})},
                                 {{"axis", int64_t(-1)}});
  std::vector<std::string> best = body.nodes("TopK", {scores, body.constant({k})}, 2);
  std::string weight = best[0];
  if (n.integer("normalize_routing_weights", 0) != 0)
    weight = body.node("Div", {weight, body.node("ReduceSum", {weight, body.constant({-1})})});

  Experts experts{n, body, body.node("Reshape", {best[1], body.constant({tokens * k})}), tokens * k};
  std::string rows = body.node("Reshape", {x, body.constant({tokens, 1, width})});
  rows = body.node("Expand", {rows, body.constant({tokens, k, width})});
  rows = body.node("Reshape", {rows, body.constant({tokens * k, width})});
  std::string hidden = experts.linear(rows, kWeight1, kBias1, width), third;
  if (n.hasInput(kWeight3))
    third = experts.linear(rows, kWeight3, kBias3, width);
  hidden = activated(n, body, hidden, third, tokens * k, first[1]);
  const int64_t inner = body.value(hidden) ? n.shape(body.value(hidden)).back() : 0;
  std::string y = experts.linear(hidden, kWeight2, kBias2, inner);
  y = body.node("Reshape", {y, body.constant({tokens, k, width})});
  y = body.node("Mul", {y, body.node("Unsqueeze", {weight, body.constant({-1})})});
  y = body.node("ReduceSum", {y, body.constant({1})}, {{"keepdims", int64_t(0)}});
  body.output(0, body.node("Reshape", {y, body.constant(shape)}));
}

constexpr OpEntry kOps[] = {
    {"com.microsoft", "MoE", 1, moe},
};

} // namespace

llvm::ArrayRef<OpEntry> contribMoeOps() {
  return kOps;
}

} // namespace moe::frontend
