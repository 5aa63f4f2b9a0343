//===- Contrib.cpp - What ONNX Runtime's optimiser fuses: norms, activations, products, embeddings ----------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

// Reference: the operators of domain com.microsoft as ONNX Runtime documents them. Each is written as operators of the
// standard, as its fusion found them.

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Body.h"

using namespace mlir;

namespace moe::frontend {
namespace {

constexpr const char *kDomain = "com.microsoft";

/// x + bias, gelu; the bias is optional where the operator says so.
void gelu(NodeContext &n, const char *form) {
  Body body(n);
  std::string x = body.operand(0), bias = body.operand(1);
  if (!bias.empty())
    x = body.node("Add", {x, bias});
  body.output(0, body.node("Gelu", {x}, {{"approximate", std::string(form)}}));
}

void geluByErf(NodeContext &n) {
  gelu(n, "none");
}

void geluByTanh(NodeContext &n) {
  gelu(n, "tanh");
}

/// x sigmoid(alpha x)
void quickGelu(NodeContext &n) {
  Body body(n);
  std::string x = body.operand(0), alpha = body.number(n.real("alpha", 1.702), n.input(0));
  body.output(0, body.node("Mul", {x, body.node("Sigmoid", {body.node("Mul", {x, alpha})})}));
}

/// alpha op(A) op(B): `transBatch` moves the first dimension in front of the last one, `trans` swaps the last two.
void fusedMatMul(NodeContext &n) {
  Body body(n);
  auto factor = [&](int index, const char *trans, const char *transBatch) {
    std::string x = body.operand(index);
    const int64_t rank = n.rank(n.input(index));
    Shape order = llvm::to_vector(llvm::seq<int64_t>(0, rank));
    if (rank > 2 && n.integer(transBatch, 0) != 0)
      std::rotate(order.begin(), order.begin() + 1, order.end() - 1);
    if (rank > 1 && n.integer(trans, 0) != 0)
      std::swap(order[order.size() - 1], order[order.size() - 2]);
    return body.node("Transpose", {x}, {{"perm", order}});
  };
  std::string a = factor(0, "transA", "transBatchA"), b = factor(1, "transB", "transBatchB");
  std::string product = body.node("MatMul", {a, b});
  if (n.real("alpha", 1.0) != 1.0)
    product = body.node("Mul", {product, body.number(n.real("alpha", 1.0), n.input(0))});
  body.output(0, product);
}

/// A Gemm and the activation behind it, whose parameters are called `activation_…`.
void fusedGemm(NodeContext &n) {
  Body body(n);
  std::string result = body.node("Gemm", {body.operand(0), body.operand(1), body.operand(2)},
                                 {{"alpha", n.real("alpha", 1.0)},
                                  {"beta", n.real("beta", 1.0)},
                                  {"transA", n.integer("transA", 0)},
                                  {"transB", n.integer("transB", 0)}});
  const std::string activation = n.text("activation", "");
  llvm::SmallVector<Body::Attribute> parameters;
  for (auto [to, from] :
       {std::pair{"alpha", "activation_alpha"}, {"beta", "activation_beta"}, {"gamma", "activation_gamma"}})
    if (n.attribute(from))
      parameters.push_back({to, n.real(from, 0.0)});
  if (!activation.empty())
    result = body.node(activation, {result}, parameters);
  body.output(0, result);
}

/// Fails if the node gives a result that only a kernel of ONNX Runtime needs.
void refuseOutput(NodeContext &n, int index, const char *name) {
  if (n.wantsOutput(index))
    n.fail("its result '" + llvm::Twine(name) + "' is not supported");
}

/// In files that ONNX Runtime wrote it belongs to the standard's own domain.
void simplifiedLayerNormalization(NodeContext &n) {
  refuseOutput(n, 1, "inv_std_var");
  Body body(n);
  body.output(0, body.node("RMSNormalization", {body.operand(0), body.operand(1)},
                           {{"axis", n.integer("axis", -1)}, {"epsilon", n.real("epsilon", 1e-5)}}));
}

/// The norm of x + skip + bias, and that sum as the last result. `simplified`: of the root of the mean square.
void skipNormalization(NodeContext &n, bool simplified) {
  Body body(n);
  std::string sum = body.node("Add", {body.operand(0), body.operand(1)});
  const int bias = simplified ? 3 : 4;
  if (n.hasInput(bias))
    sum = body.node("Add", {sum, body.operand(bias)});
  std::string scale = body.operand(2);
  if (simplified) {
    refuseOutput(n, 1, "mean");
    refuseOutput(n, 2, "inv_std_var");
    body.output(0, body.node("RMSNormalization", {sum, scale}, {{"epsilon", n.real("epsilon", 1e-5)}}));
  } else {
    std::vector<std::string> results =
        body.nodes("LayerNormalization", {sum, scale, body.operand(3)}, 3, {{"epsilon", n.real("epsilon", 1e-5)}});
    for (int i = 0; i < 3; ++i)
      body.output(i, results[static_cast<size_t>(i)]);
  }
  body.output(3, sum);
}

void skipLayerNormalization(NodeContext &n) {
  skipNormalization(n, false);
}

void skipSimplifiedLayerNormalization(NodeContext &n) {
  skipNormalization(n, true);
}

/// The norm of the sum of rows of up to three tables, and that sum as the last result; result 1 counts the mask.
void embedLayerNormalization(NodeContext &n) {
  Body body(n);
  std::string ids = body.operand(0), segments = body.operand(1), mask = body.operand(7), positions = body.operand(8);
  if (n.failed() || n.rank(n.input(0)) != 2) {
    n.fail("its tokens must be [batch, position]");
    for (int i = 0; i < 3; ++i)
      n.output(i, {});
    return;
  }
  const Shape shape = n.shape(n.input(0));
  if (positions.empty()) {
    std::string range = body.node("Range", {body.node("Squeeze", {body.constant({0})}),
                                            body.node("Squeeze", {body.constant({shape[1]})}),
                                            body.node("Squeeze", {body.constant({1})})});
    positions = body.node("Expand", {range, body.constant(shape)});
  }
  std::string sum = body.node(
      "Add", {body.node("Gather", {body.operand(2), ids}), body.node("Gather", {body.operand(3), positions})});
  if (!segments.empty())
    sum = body.node("Add", {sum, body.node("Gather", {body.operand(4), segments})});
  body.output(0, body.node("LayerNormalization", {sum, body.operand(5), body.operand(6)},
                           {{"epsilon", n.real("epsilon", 1e-12)}}));
  if (n.wantsOutput(1)) {
    std::string counted = mask.empty() ? body.node("Sub", {ids, ids})
                                       : body.node("Cast", {mask}, {{"to", int64_t(onnx::TensorProto::INT32)}});
    body.output(1, body.node("ReduceSum", {counted, body.constant({1})}, {{"keepdims", int64_t(0)}}));
  }
  body.output(2, sum);
}

constexpr OpEntry kOps[] = {
    {kDomain, "Gelu", 1, geluByErf},
    {kDomain, "BiasGelu", 1, geluByErf},
    {kDomain, "FastGelu", 1, geluByTanh},
    {kDomain, "QuickGelu", 1, quickGelu},
    {kDomain, "FusedMatMul", 1, fusedMatMul},
    {kDomain, "FusedGemm", 1, fusedGemm},
    {"", "SimplifiedLayerNormalization", 1, simplifiedLayerNormalization},
    {kDomain, "SimplifiedLayerNormalization", 1, simplifiedLayerNormalization},
    {kDomain, "SkipLayerNormalization", 1, skipLayerNormalization},
    {kDomain, "SkipSimplifiedLayerNormalization", 1, skipSimplifiedLayerNormalization},
    {kDomain, "EmbedLayerNormalization", 1, embedLayerNormalization},
};

} // namespace

llvm::ArrayRef<OpEntry> contribOps() {
  return kOps;
}

} // namespace moe::frontend
