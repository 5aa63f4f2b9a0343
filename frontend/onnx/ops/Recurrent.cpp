//===- Recurrent.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ops/Recurrent.h"
#include "frontend/onnx/ops/Body.h"

#include <cmath>

using namespace mlir;

namespace moe::frontend {
namespace {

/// Longer sequences are refused rather than unrolled.
constexpr int64_t kMaxLength = 1024;

/// Fails, and gives nothing.
void refuse(NodeContext &n, const llvm::Twine &why) {
  n.fail(why);
  n.output(0, {});
  n.output(1, {});
}

} // namespace

/// The state S [B, H, K, V] of each head is S' = e^g S + k u with u = v, or beta (v - k e^g S) by the delta rule; the
/// output is scale q S'. Groups of query heads share a state. Reference: the standard's description of the operator.
void linearAttention(NodeContext &n) {
  Body body(n);
  const std::string q = body.operand(0), k = body.operand(1), v = body.operand(2),
                    rule = n.text("update_rule", "gated_delta");
  const bool isGated = rule == "gated" || rule == "gated_delta", isDelta = rule == "delta" || rule == "gated_delta";
  if (!isGated && !isDelta && rule != "linear")
    n.fail("the update rule '" + rule + "' is none of linear, gated, delta, gated_delta");
  const Shape query = n.shape(n.input(0)), key = n.shape(n.input(1)), value = n.shape(n.input(2));
  const int64_t queryHeads = n.integer("q_num_heads", 0), heads = n.integer("kv_num_heads", 0);
  if (n.failed() || query.size() != 3 || key.size() != 3 || value.size() != 3 || heads < 1 || queryHeads < heads ||
      queryHeads % heads != 0 || query[2] % queryHeads != 0 || key[2] % heads != 0 || value[2] % heads != 0 ||
      query[2] / queryHeads != key[2] / heads)
    return refuse(
        n, "its operands must be [batch, position, heads x width], with heads of queries that those of keys divide");
  const int64_t batch = query[0], length = query[1], group = queryHeads / heads, width = key[2] / heads,
                depth = value[2] / heads;
  if (queryHeads > kMaxElements / std::max<int64_t>(depth, 1))
    return refuse(n, "its result would have more than 2^40 elements");
  if (length < 1 || length > kMaxLength)
    return refuse(n, "its length of " + llvm::Twine(length) + " is not from 1 to " + llvm::Twine(kMaxLength) +
                         ": each position is a step of its own");
  std::string state =
      n.hasInput(3) ? body.operand(3)
                    : body.node("Expand", {body.number(0.0, n.input(0)), body.constant({batch, heads, width, depth})});
  std::string decay = isGated ? body.node("Exp", {body.operand(4)}) : std::string();
  std::string rate = isDelta ? body.operand(5) : std::string();
  // Extents behind [batch, position]; a decay or rate may be one number for a head or for all heads.
  auto at = [&](const std::string &x, int64_t position, const Shape &rest) {
    std::string part =
        body.node("Slice", {x, body.constant({position}), body.constant({position + 1}), body.constant({1})});
    Shape shape = {batch};
    shape.append(rest.begin(), rest.end());
    return body.node("Reshape", {part, body.constant(shape)});
  };
  std::vector<std::string> outputs;
  for (int64_t t = 0; t < length && !n.failed(); ++t) {
    std::string row = at(k, t, {heads, 1, width}), update = at(v, t, {heads, 1, depth});
    if (isGated)
      state = body.node("Mul", {at(decay, t, {heads, -1, 1}), state});
    if (isDelta) {
      update = body.node("Sub", {update, body.node("MatMul", {row, state})});
      update = body.node("Mul", {at(rate, t, {-1, 1, 1}), update});
    }
    state = body.node("Add", {state, body.node("Mul", {at(k, t, {heads, width, 1}), update})});
    std::string read = body.node("MatMul", {at(q, t, {heads, group, width}), state});
    outputs.push_back(body.node("Reshape", {read, body.constant({batch, 1, queryHeads * depth})}));
  }
  const double given = n.real("scale", 0.0), scale = given != 0.0 ? given : 1.0 / std::sqrt(static_cast<double>(width));
  std::string all = body.node("Concat", outputs, {{"axis", int64_t(1)}});
  body.output(0, body.node("Mul", {all, body.number(scale, n.input(0))}));
  body.output(1, state);
}

void causalConvolution(NodeContext &n) {
  Body body(n);
  std::string x = body.operand(0), weight = body.operand(1);
  const Shape shape = n.shape(n.input(0)), kernel = n.shape(n.input(1));
  if (n.failed() || shape.size() != 3 || kernel.size() != 3 || kernel[0] != shape[1] || kernel[1] != 1 || kernel[2] < 1)
    return refuse(n, "its operands must be [batch, channel, position] and [channel, 1, width]");
  const int64_t past = kernel[2] - 1;
  const std::string activation = n.text("activation", "none");
  if (activation != "none" && activation != "silu" && activation != "swish")
    return refuse(n, "the activation '" + activation + "' is none of none, silu, swish");
  if (n.hasInput(3))
    x = body.node("Concat", {body.operand(3), x}, {{"axis", int64_t(2)}});
  else
    x = body.node("Pad", {x, body.constant({0, 0, past, 0, 0, 0})});
  std::string y = body.node("Conv", {x, weight, body.operand(2)}, {{"group", shape[1]}});
  if (activation != "none")
    y = body.node("Mul", {y, body.node("Sigmoid", {y})});
  body.output(0, y);
  body.output(1,
              body.node("Slice", {x, body.constant({shape[2]}), body.constant({shape[2] + past}), body.constant({2})}));
}

} // namespace moe::frontend
