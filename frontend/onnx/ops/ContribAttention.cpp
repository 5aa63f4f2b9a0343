//===- ContribAttention.cpp - Attention and rotary positions as ONNX Runtime's optimiser writes them --------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

// Reference: the operators of domain com.microsoft as ONNX Runtime documents them, written as Attention and
// RotaryEmbedding of the standard. Keys and values of earlier calls belong to generation and are refused.

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Body.h"

using namespace mlir;

namespace moe::frontend {
namespace {

constexpr const char *kDomain = "com.microsoft";

void refuseOperand(NodeContext &n, int index, const char *name) {
  if (n.hasInput(index))
    n.fail("its operand '" + llvm::Twine(name) + "' is not supported: a training step computes all positions at once");
}

void giveNothing(NodeContext &n) {
  for (int i = 0; i < n.node.output_size(); ++i)
    n.output(i, {});
}

std::string scalar(Body &body, int64_t value) {
  return body.node("Squeeze", {body.constant({value})});
}

std::string range(Body &body, int64_t count) {
  return body.node("Range", {scalar(body, 0), scalar(body, count), scalar(body, 1)});
}

/// What the integer mask at operand `index` adds to scores [batch, head, query, key] of type `like`: 0 where a key is
/// seen, `mask_filter_value` elsewhere. It lists the ends of the sequences [B], ends and then starts [2 B], or says
/// what is seen: [B, K] or [B, Q, K].
std::string maskTerm(NodeContext &n, Body &body, int index, int64_t keys, Value like) {
  std::string mask = body.operand(index);
  const Shape shape = n.shape(n.input(index));
  const int64_t batch = n.shape(like)[0];
  std::string seen;
  if (shape.size() == 1 && (shape[0] == batch || shape[0] == 2 * batch)) {
    std::string place = range(body, keys),
                whole = body.node("Cast", {mask}, {{"to", int64_t(onnx::TensorProto::INT64)}});
    auto bound = [&](int64_t from) {
      std::string part = body.node("Slice", {whole, body.constant({from}), body.constant({from + batch})});
      return body.node("Unsqueeze", {part, body.constant({1, 2, 3})});
    };
    seen = body.node("Less", {place, bound(0)});
    if (shape[0] == 2 * batch)
      seen = body.node("And", {seen, body.node("GreaterOrEqual", {place, bound(batch)})});
  } else if (shape.size() == 2 || shape.size() == 3) {
    seen = body.node("Greater", {mask, body.number(0.0, n.input(index))});
    seen = body.node("Unsqueeze", {seen, shape.size() == 2 ? body.constant({1, 2}) : body.constant({1})});
  } else {
    n.fail("a mask of this shape is not supported: it must be [batch], [2 batch], [batch, key] or [batch, query, key]");
    return {};
  }
  return body.node("Where", {seen, body.number(0.0, like), body.number(n.real("mask_filter_value", -10000.0), like)});
}

/// The sum of the terms that are there.
std::string sumOf(Body &body, const std::string &a, const std::string &b) {
  return a.empty() ? b : b.empty() ? a : body.node("Add", {a, b});
}

struct Heads {
  std::string q, k, v, bias;
  int64_t queryHeads = 0, keyHeads = 0;
  bool causal = false;
  int64_t window = -1;
};

/// Attention of the standard, with its scale of 1 / sqrt(width of a head) unless the node says another; [output, keys,
/// values].
std::vector<std::string> attend(NodeContext &n, Body &body, const Heads &heads) {
  llvm::SmallVector<Body::Attribute> attributes = {{"q_num_heads", heads.queryHeads},
                                                   {"kv_num_heads", heads.keyHeads},
                                                   {"is_causal", int64_t(heads.causal)},
                                                   {"softcap", n.real("softcap", 0.0)},
                                                   {"left_window_size", heads.window}};
  if (n.real("scale", 0.0) != 0.0)
    attributes.push_back({"scale", n.real("scale", 0.0)});
  return body.nodes("Attention", {heads.q, heads.k, heads.v, heads.bias}, 3, attributes);
}

/// x [B, S, M] by weights [M, Q + K + V] and their bias: one product, three parts.
void attention(NodeContext &n) {
  Body body(n);
  std::string x = body.operand(0), weight = body.operand(1);
  refuseOperand(n, 4, "past");
  refuseOperand(n, 6, "past_sequence_length");
  if (n.integer("do_rotary", 0) != 0)
    n.fail("do_rotary is not supported in Attention");
  if (n.wantsOutput(1))
    n.fail("its result 'present' is not supported");
  if (n.failed() || n.rank(n.input(0)) != 3 || n.rank(n.input(1)) != 2) {
    n.fail("its operands must be [batch, position, width] and [width, widths of queries, keys and values]");
    return giveNothing(n);
  }
  const Shape shape = n.shape(n.input(0));
  const int64_t third = n.shape(n.input(1))[1] / 3;
  const Shape widths = n.integerList("qkv_hidden_sizes").value_or(Shape{third, third, third});
  std::string product = body.node("MatMul", {x, weight});
  if (n.hasInput(2))
    product = body.node("Add", {product, body.operand(2)});
  std::vector<std::string> parts = body.nodes("Split", {product, body.constant(widths)}, 3, {{"axis", int64_t(-1)}});
  Heads heads{parts[0], parts[1], parts[2], {}};
  heads.queryHeads = heads.keyHeads = n.integer("num_heads", 0);
  heads.causal = n.integer("unidirectional", 0) != 0;
  if (n.hasInput(3))
    heads.bias = maskTerm(n, body, 3, shape[1], n.input(0));
  heads.bias = sumOf(body, heads.bias, body.operand(5));
  body.output(0, attend(n, body, heads)[0]);
}

/// Queries [B, S, M], keys and values likewise or as heads [B, N, S, D]; or packed as [B, S, N, 3, D], or queries and
/// then keys and values as [B, S, N, 2, D].
void multiHeadAttention(NodeContext &n) {
  Body body(n);
  refuseOperand(n, 6, "past_key");
  refuseOperand(n, 7, "past_value");
  if (n.wantsOutput(3))
    n.fail("its result 'qk' is not supported");
  Heads heads{body.operand(0), body.operand(1), body.operand(2), {}};
  heads.queryHeads = heads.keyHeads = n.integer("num_heads", 0);
  if (n.failed() || heads.queryHeads < 1) {
    n.fail("it has no heads");
    return giveNothing(n);
  }
  const Shape query = n.shape(n.input(0)), key = heads.k.empty() ? query : n.shape(n.input(1));
  int64_t keys = key.size() > 1 ? key[key.size() == 4 ? 2 : 1] : 0;
  // The parts of a packed operand, without the dimension that numbers them.
  auto unpack = [&](const std::string &packed, const Shape &shape, int64_t count) {
    std::vector<std::string> parts = body.nodes("Split", {packed}, static_cast<size_t>(count), {{"axis", int64_t(3)}});
    for (std::string &part : parts)
      part = body.node("Reshape", {part, body.constant({shape[0], shape[1], shape[2] * shape[4]})});
    return parts;
  };
  if (query.size() == 5 && query[3] == 3 && heads.k.empty()) {
    std::vector<std::string> parts = unpack(heads.q, query, 3);
    heads.q = parts[0], heads.k = parts[1], heads.v = parts[2];
  } else if (query.size() == 3 && key.size() == 5 && key[3] == 2 && heads.v.empty()) {
    std::vector<std::string> parts = unpack(heads.k, key, 2);
    heads.k = parts[0], heads.v = parts[1];
  } else if (query.size() != 3 || heads.k.empty() || heads.v.empty() || (key.size() != 3 && key.size() != 4)) {
    n.fail("its queries, keys and values are of shapes that are not supported");
    return giveNothing(n);
  }
  if (n.hasInput(3)) {
    if (key.size() == 4)
      n.fail("a bias of keys that come as heads is not supported");
    else if (n.rank(n.input(3)) != 1)
      n.fail("its bias must be one vector, of queries, keys and values");
    const int64_t width = n.failed() ? 0 : n.shape(body.value(heads.q)).back();
    const int64_t total = n.failed() ? 0 : n.shape(n.input(3)).front();
    std::vector<std::string> parts = body.nodes(
        "Split", {body.operand(3), body.constant({width, width, total - 2 * width})}, 3, {{"axis", int64_t(0)}});
    heads.q = body.node("Add", {heads.q, parts[0]});
    heads.k = body.node("Add", {heads.k, parts[1]});
    heads.v = body.node("Add", {heads.v, parts[2]});
  }
  heads.causal = n.integer("unidirectional", 0) != 0;
  if (n.hasInput(4) && !n.failed())
    heads.bias = maskTerm(n, body, 4, keys, n.input(0));
  heads.bias = sumOf(body, heads.bias, body.operand(5));
  std::vector<std::string> results = attend(n, body, heads);
  for (int i = 0; i < 3; ++i)
    body.output(i, results[static_cast<size_t>(i)]);
}

/// Positions [B, S] from operand `index`: that already, or the first one [1]; absent: from 0 on.
std::string positionsOf(NodeContext &n, Body &body, int index, int64_t batch, int64_t length) {
  const int64_t wide = onnx::TensorProto::INT64;
  if (n.hasInput(index) && n.rank(n.input(index)) == 2)
    return body.node("Cast", {body.operand(index)}, {{"to", wide}});
  std::string positions = range(body, length);
  if (n.hasInput(index))
    positions = body.node("Add", {positions, body.node("Cast", {body.operand(index)}, {{"to", wide}})});
  return body.node("Expand", {positions, body.constant({batch, length})});
}

/// Pairs of each head turn by the rows of the tables that belong to their positions.
void rotaryEmbedding(NodeContext &n) {
  Body body(n);
  std::string x = body.operand(0), cosines = body.operand(2), sines = body.operand(3);
  if (n.real("scale", 1.0) != 1.0)
    n.fail("a scale of positions is not supported");
  if (n.integer("is_packed_batching", 0) != 0)
    n.fail("packed batches are not supported");
  if (n.failed() || (n.rank(n.input(0)) != 3 && n.rank(n.input(0)) != 4) || n.rank(n.input(2)) != 2) {
    n.fail("its operands must be [batch, position, width] or [batch, head, position, width], and tables of angles");
    return giveNothing(n);
  }
  const Shape shape = n.shape(n.input(0));
  const bool flat = shape.size() == 3;
  // Without `num_heads` a head is as wide as the tables say.
  int64_t heads = n.integer("num_heads", 0);
  if (flat && heads == 0)
    heads = shape[2] / std::max<int64_t>(2 * n.shape(n.input(2))[1], 1);
  std::string positions = positionsOf(n, body, 1, shape[0], shape[flat ? 1 : 2]);
  body.output(0, body.node("RotaryEmbedding", {x, cosines, sines, positions},
                           {{"num_heads", heads},
                            {"interleaved", n.integer("interleaved", 0)},
                            {"rotary_embedding_dim", n.integer("rotary_embedding_dim", 0)}}));
}

/// Causal attention of groups of heads. The lengths of the sequences (`seqlens_k`) only tell which rows are padding, at
/// the end; no other row sees those.
void groupQueryAttention(NodeContext &n) {
  Body body(n);
  refuseOperand(n, 3, "past_key");
  refuseOperand(n, 4, "past_value");
  if (n.hasInput(11) || n.integer("smooth_softmax", 0) > 0)
    n.fail("sinks of attention (head_sink, smooth_softmax) are not supported in GroupQueryAttention");
  if (n.wantsOutput(3))
    n.fail("its result 'output_qk' is not supported");
  Heads heads{body.operand(0), body.operand(1), body.operand(2), {}};
  heads.queryHeads = n.integer("num_heads", 0);
  heads.keyHeads = n.integer("kv_num_heads", 0);
  const Shape shape = n.shape(n.input(0));
  if (n.failed() || shape.size() != 3 || heads.queryHeads < 1 || heads.queryHeads > shape[2] || heads.keyHeads < 1 ||
      heads.keyHeads > heads.queryHeads) {
    n.fail("its queries must be [batch, position, width], with num_heads and kv_num_heads that fit the width");
    return giveNothing(n);
  }
  if (heads.k.empty()) {
    const int64_t width = shape[2] / (heads.queryHeads + 2 * heads.keyHeads);
    std::vector<std::string> parts = body.nodes(
        "Split", {heads.q, body.constant({width * heads.queryHeads, width * heads.keyHeads, width * heads.keyHeads})},
        3, {{"axis", int64_t(-1)}});
    heads.q = parts[0], heads.k = parts[1], heads.v = parts[2];
  }
  if (n.integer("do_rotary", 0) != 0) {
    std::string cosines = body.operand(7), sines = body.operand(8);
    std::string positions = positionsOf(n, body, 9, shape[0], shape[1]);
    auto turned = [&](const std::string &x, int64_t count) {
      // Tables narrower than half a head turn its first part only.
      const int64_t width = 2 * n.shape(n.input(7)).back();
      return body.node(
          "RotaryEmbedding", {x, cosines, sines, positions},
          {{"num_heads", count}, {"interleaved", n.integer("rotary_interleaved", 0)}, {"rotary_embedding_dim", width}});
    };
    if (n.failed() || n.rank(n.input(7)) != 2) {
      n.fail("do_rotary needs tables of angles");
      return giveNothing(n);
    }
    heads.q = turned(heads.q, heads.queryHeads);
    heads.k = turned(heads.k, heads.keyHeads);
  }
  heads.causal = true;
  // The window counts the query's own key.
  const int64_t window = n.integer("local_window_size", -1);
  heads.window = window > 0 ? window - 1 : -1;
  heads.bias = body.operand(10);
  std::vector<std::string> results = attend(n, body, heads);
  for (int i = 0; i < 3; ++i)
    body.output(i, results[static_cast<size_t>(i)]);
}

constexpr OpEntry kOps[] = {
    {kDomain, "Attention", 1, attention},
    {kDomain, "MultiHeadAttention", 1, multiHeadAttention},
    {kDomain, "GroupQueryAttention", 1, groupQueryAttention},
    {kDomain, "RotaryEmbedding", 1, rotaryEmbedding},
};

} // namespace

llvm::ArrayRef<OpEntry> contribAttentionOps() {
  return kOps;
}

} // namespace moe::frontend
