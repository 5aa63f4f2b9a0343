//===- Attention.cpp - Attention and rotary positions of opset 23 and later ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Recurrent.h"
#include "frontend/onnx/ops/Support.h"

#include <cmath>

using namespace mlir;

namespace moe::frontend {
namespace {

/// [B, S, H D] as heads [B, H, S, D]; four dimensions are that already.
Value asHeads(NodeContext &n, Value x, llvm::StringRef count) {
  if (n.failed() || n.rank(x) == 4)
    return x;
  Shape shape = n.shape(x);
  const int64_t heads = n.integer(count, 0);
  if (shape.size() != 3 || heads < 1 || shape[2] % heads != 0) {
    n.fail("its operands must be [batch, position, heads x width] with '" + count +
           "', or [batch, head, position, width]");
    return {};
  }
  return n.transpose(n.reshape(x, {shape[0], shape[1], heads, shape[2] / heads}), {0, 2, 1, 3});
}

/// [B, K, S, D] to [B, H, S, D]: groups of H / K heads read the same keys.
Value repeatedHeads(NodeContext &n, Value x, int64_t heads) {
  if (n.failed() || n.shape(x)[1] == heads)
    return x;
  Shape s = n.shape(x);
  if (s[1] == 0 || heads % s[1] != 0) {
    n.fail("the number of query heads is no multiple of that of key heads");
    return {};
  }
  Value wide = n.broadcast(x, {s[0], s[1], heads / s[1], s[2], s[3]}, {0, 1, 3, 4});
  return n.reshape(wide, {s[0], heads, s[2], s[3]});
}

/// What is added to scores [B, H, Q, K]: a float mask as it is, a boolean one as 0 or -inf. Keys beyond it are masked.
Value maskTerm(NodeContext &n, Value mask, llvm::ArrayRef<int64_t> scores, Type element) {
  if (!mask)
    return {};
  auto scalar = [&](double value) { return n.splat(RankedTensorType::get({}, element), value); };
  if (n.element(mask).isInteger(1)) {
    Shape own = n.shape(mask);
    mask = n.make<ir::SelectOp>(mask, n.broadcastTo(scalar(0.0), own), n.broadcastTo(scalar(-INFINITY), own));
  }
  Shape own = n.shape(mask);
  const int64_t last = n.rank(mask) - 1;
  if (!n.failed() && !own.empty() && own[last] != 1 && own[last] < scores.back()) {
    Shape rest = own;
    rest[last] = scores.back() - own[last];
    Value hidden = n.broadcastTo(scalar(-INFINITY), rest);
    mask = n.make<ir::ConcatOp>(ValueRange{mask, hidden}, last);
  }
  return n.failed() ? Value() : n.broadcastTo(mask, scores);
}

/// Which keys a query may see by their positions, as scores [B, H, Q, K]; null if all.
struct Visibility {
  Value lengths;    ///< [B] keys that are not padding, or null
  int64_t past = 0; ///< keys before the first query, unless `lengths` says it
  bool causal = false;
  int64_t left = -1, right = -1; ///< positions beside the query's own; -1: no bound
};

Value visible(NodeContext &n, const Visibility &which, llvm::ArrayRef<int64_t> scores) {
  if (n.failed() || (!which.lengths && !which.causal && which.left < 0 && which.right < 0))
    return {};
  const Shape shape = {scores[0], scores[2], scores[3]};
  Type index = n.builder.getI64Type();
  Value key = iota(n, shape, index, 2), query = iota(n, shape, index, 1), result;
  auto require = [&](ir::ComparePredicate predicate, Value a, Value b) {
    Value condition = compare(n, predicate, a, b);
    result = result ? n.make<ir::AndOp>(result, condition) : condition;
  };
  Value position = add(n, query, static_cast<double>(which.past));
  if (which.lengths) {
    Value length = n.broadcast(n.cast(which.lengths, index), shape, {0});
    require(ir::ComparePredicate::LT, key, length);
    if (which.past == 0)
      position = n.make<ir::AddOp>(query, add(n, length, -static_cast<double>(scores[2])));
  }
  if (which.causal)
    require(ir::ComparePredicate::LE, key, position);
  if (which.left >= 0)
    require(ir::ComparePredicate::GE, key, add(n, position, -static_cast<double>(which.left)));
  if (which.right >= 0)
    require(ir::ComparePredicate::LE, key, add(n, position, static_cast<double>(which.right)));
  return n.failed() ? Value() : n.broadcast(result, scores, {0, 2, 3});
}

/// Rows without any visible key are zero, where a softmax alone would be 0/0.
Value maskedSoftmax(NodeContext &n, Value scores) {
  if (n.failed())
    return {};
  Shape shape = n.shape(scores);
  Value largest = n.reduce(scores, ir::ReduceKind::Max, {3}, /*keepDims=*/true);
  Value hidden = n.broadcastTo(compare(n, ir::ComparePredicate::EQ, largest, n.splatLike(largest, -INFINITY)), shape);
  Value safe = n.make<ir::SelectOp>(hidden, n.splatLike(scores, 0.0), scores);
  return n.make<ir::SelectOp>(hidden, n.splatLike(scores, 0.0), n.make<ir::SoftmaxOp>(safe));
}

/// softmax(softcap(scale Q K^T + mask)) V; the standard scales Q and K by the root of the scale each.
void attention(NodeContext &n) {
  const bool flat = n.rank(n.input(0)) == 3;
  Value q = asHeads(n, n.input(0), "q_num_heads"), k = asHeads(n, n.input(1), "kv_num_heads"),
        v = asHeads(n, n.input(2), "kv_num_heads");
  Value mask = n.hasInput(3) ? n.input(3) : Value();
  if (!n.failed() && (n.rank(q) != 4 || n.rank(k) != 4 || n.rank(v) != 4))
    n.fail("its operands are not of three or four dimensions");
  int64_t past = 0;
  if (!n.failed() && n.hasInput(4) && n.hasInput(5)) {
    past = n.rank(n.input(4)) == 4 ? n.shape(n.input(4))[2] : 0;
    k = n.make<ir::ConcatOp>(ValueRange{n.input(4), k}, int64_t(2));
    v = n.make<ir::ConcatOp>(ValueRange{n.input(5), v}, int64_t(2));
  }
  n.output(1, k);
  n.output(2, v);
  if (n.failed()) {
    n.output(0, {});
    return n.output(3, {});
  }
  const int64_t heads = n.shape(q)[1];
  const double scale =
      n.real("scale", 0.0) != 0.0 ? n.real("scale", 0.0) : 1.0 / std::sqrt(static_cast<double>(n.shape(q)[3]));
  Value keys = repeatedHeads(n, k, heads), values = repeatedHeads(n, v, heads);
  Value product = n.failed() ? Value() : n.dot(q, keys, {0, 1}, {0, 1}, {3}, {3});
  Value scores = multiply(n, product, scale), raw = scores;
  Shape shape = n.shape(scores);
  const double cap = n.real("softcap", 0.0);
  auto capped = [&](Value x) {
    return cap == 0.0 ? x : multiply(n, n.make<ir::TanhOp>(multiply(n, x, 1.0 / cap)), cap);
  };
  // The cap comes before the mask, which it would weaken.
  scores = capped(scores);
  Value between = scores;
  if (Value term = n.failed() ? Value() : maskTerm(n, mask, shape, n.element(scores)))
    scores = n.make<ir::AddOp>(scores, term);
  Visibility which{n.hasInput(6) ? n.input(6) : Value(), past, n.integer("is_causal", 0) != 0,
                   n.integer("left_window_size", -1), n.integer("right_window_size", -1)};
  if (Value seen = visible(n, which, shape))
    scores = n.make<ir::SelectOp>(seen, scores, n.splatLike(scores, -INFINITY));
  Value weights = maskedSoftmax(n, scores);
  Value result = n.failed() ? Value() : n.dot(weights, values, {0, 1}, {0, 1}, {3}, {2});
  if (flat && !n.failed()) {
    Shape s = n.shape(result);
    result = n.reshape(n.transpose(result, {0, 2, 1, 3}), {s[0], s[2], s[1] * s[3]});
  }
  n.output(0, result);
  const Value stages[] = {raw, between, scores, weights};
  const int64_t stage = n.integer("qk_matmul_output_mode", 0);
  if (n.wantsOutput(3) && (stage < 0 || stage > 3))
    n.fail("the output mode of the scores is unknown");
  n.output(3, n.failed() ? Value() : stages[std::clamp<int64_t>(stage, 0, 3)]);
}

/// Pairs (x, y) of each head turn by the angle of their position: (x cos - y sin, x sin + y cos).
void rotaryEmbedding(NodeContext &n) {
  Value x = n.input(0), cosines = n.input(1), sines = n.input(2);
  const bool flat = n.rank(x) == 3;
  Value heads = asHeads(n, x, "num_heads");
  if (n.failed())
    return n.output(0, {});
  Shape shape = n.shape(heads);
  int64_t turned = n.integer("rotary_embedding_dim", 0);
  turned = turned == 0 ? shape[3] : turned;
  const int64_t half = turned / 2;
  if (n.hasInput(3)) {
    // One row of the tables for each position.
    Value positions = n.input(3);
    cosines = n.make<ir::GatherOp>(cosines, positions);
    sines = n.make<ir::GatherOp>(sines, positions);
  }
  if (!n.failed() && (n.rank(cosines) != 3 || n.shape(cosines)[2] != half || turned != 2 * half || turned > shape[3] ||
                      n.shape(sines) != n.shape(cosines)))
    n.fail("the tables of angles do not fit the heads");
  if (n.failed())
    return n.output(0, {});
  const Shape part = {shape[0], shape[1], shape[2], half};
  cosines = n.broadcast(cosines, part, {0, 2, 3});
  sines = n.broadcast(sines, part, {0, 2, 3});
  const bool interleaved = n.integer("interleaved", 0) != 0;
  Value active = slicePart(n, heads, 3, 0, turned), a, b;
  if (interleaved) {
    Value pairs = n.reshape(active, {shape[0], shape[1], shape[2], half, 2});
    a = n.reshape(slicePart(n, pairs, 4, 0, 1), part);
    b = n.reshape(slicePart(n, pairs, 4, 1, 2), part);
  } else {
    a = slicePart(n, active, 3, 0, half);
    b = slicePart(n, active, 3, half, 2 * half);
  }
  auto times = [&](Value left, Value right) { return n.make<ir::MulOp>(left, right); };
  Value first = n.make<ir::SubOp>(times(a, cosines), times(b, sines));
  Value second = n.make<ir::AddOp>(times(a, sines), times(b, cosines));
  Value result;
  if (interleaved) {
    Shape single = part;
    single.push_back(1);
    result = n.failed()
                 ? Value()
                 : n.make<ir::ConcatOp>(ValueRange{n.reshape(first, single), n.reshape(second, single)}, int64_t(4));
    result = n.reshape(result, {shape[0], shape[1], shape[2], turned});
  } else {
    result = n.make<ir::ConcatOp>(ValueRange{first, second}, int64_t(3));
  }
  if (!n.failed() && turned < shape[3])
    result = n.make<ir::ConcatOp>(ValueRange{result, slicePart(n, heads, 3, turned, shape[3])}, int64_t(3));
  if (flat && !n.failed())
    result = n.reshape(n.transpose(result, {0, 2, 1, 3}), n.shape(x));
  n.output(0, result);
}

constexpr OpEntry kOps[] = {
    {"", "Attention", 23, attention},
    {"", "RotaryEmbedding", 23, rotaryEmbedding},
    {"", "LinearAttention", 27, linearAttention},
    {"", "CausalConvWithState", 27, causalConvolution},
};

} // namespace

llvm::ArrayRef<OpEntry> attentionOps() {
  return kOps;
}

} // namespace moe::frontend
