//===- RandomAttention.cpp ----------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/passes/RandomAttention.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace moe::ir;

namespace moe::test {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double lowest = std::numeric_limits<float>::lowest();

class Writer {
public:
  Writer(OpBuilder &builder, const AttentionStyle &style, ValueRange arguments)
      : s(style), b(builder, builder.getUnknownLoc()), heads(style.keyHeads * style.group), padding(arguments[3]),
        bias(arguments[4]), sink(arguments[5]) {
    query = split(arguments[0], s.queries, heads, s.width);
    key = split(arguments[1], s.keys, s.keyHeads, s.width);
    value = split(arguments[2], s.keys, s.keyHeads, s.valueWidth);
  }

  Value write() {
    switch (s.layout) {
    case AttentionStyle::Transposed:
      return transposed();
    case AttentionStyle::Merged:
      return merged();
    case AttentionStyle::Direct:
      return direct();
    case AttentionStyle::Grouped:
      return grouped();
    }
    return {};
  }

private:
  /// [B, L, H D] -> [B, L, H, D]
  Value split(Value v, int64_t length, int64_t count, int64_t width) {
    return b.reshape(v, {s.batch, length, count, width});
  }

  /// Each key head once for every query head that reads it; [B, S, H, D].
  Value repeated(Value v) {
    if (s.group == 1)
      return v;
    const int64_t width = typeOf(v).getShape().back();
    Value wide = b.broadcast(v, {s.batch, s.keys, s.keyHeads, s.group, width}, {0, 1, 2, 4});
    return b.reshape(wide, {s.batch, s.keys, heads, width});
  }

  Value scaledQuery(Value q) {
    if (s.scaling == AttentionStyle::OnQuery)
      return b.mul(q, 0.7);
    return s.scaling == AttentionStyle::OnBoth ? b.mul(q, std::sqrt(0.7)) : q;
  }
  Value scaledKey(Value k) {
    if (s.scaling == AttentionStyle::OnKey)
      return b.mul(k, 0.7);
    return s.scaling == AttentionStyle::OnBoth ? b.div(k, b.splatLike(k, 1 / std::sqrt(0.7))) : k;
  }

  /// As [B, H, T, D], the key as [B, H, D, S].
  Value transposed() {
    Value q = scaledQuery(b.transpose(query, {0, 2, 1, 3})), k = b.transpose(repeated(key), {0, 2, 3, 1}),
          v = b.transpose(repeated(value), {0, 2, 1, 3});
    Value weights = softmax(masked(b.dot(q, scaledKey(k), {0, 1}, {0, 1}, {3}, {2})));
    Value out = b.dot(weights, v, {0, 1}, {0, 1}, {3}, {2});
    return b.reshape(b.transpose(out, {0, 2, 1, 3}), {s.batch, s.queries, heads * s.valueWidth});
  }

  /// Batch and heads as one dimension; the mask in between is added to four dimensions.
  Value merged() {
    auto merge = [&](Value v, int64_t length) {
      return b.reshape(b.transpose(v, {0, 2, 1, 3}), {s.batch * heads, length, typeOf(v).getShape().back()});
    };
    Value q = scaledQuery(merge(query, s.queries)), k = b.transpose(scaledKey(merge(repeated(key), s.keys)), {0, 2, 1});
    Value scores = b.reshape(b.dot(q, k, {0}, {0}, {2}, {1}), {s.batch, heads, s.queries, s.keys});
    Value weights = b.reshape(softmax(masked(scores)), {s.batch * heads, s.queries, s.keys});
    Value out = b.dot(weights, merge(repeated(value), s.keys), {0}, {0}, {2}, {1});
    out = b.transpose(b.reshape(out, {s.batch, heads, s.queries, s.valueWidth}), {0, 2, 1, 3});
    return b.reshape(out, {s.batch, s.queries, heads * s.valueWidth});
  }

  /// Nothing moves before the products; keys stand left in the first.
  Value direct() {
    Value scores = b.dot(scaledKey(repeated(key)), scaledQuery(query), {0, 2}, {0, 2}, {3}, {3}); // [B,H,S,T]
    Value weights = softmax(masked(b.transpose(scores, {0, 1, 3, 2})));
    Value out = b.dot(repeated(value), weights, {0, 2}, {0, 1}, {1}, {3}); // [B,H,D,T]
    return b.reshape(b.transpose(out, {0, 3, 1, 2}), {s.batch, s.queries, heads * s.valueWidth});
  }

  /// Groups of queries against one key head: [B, Hkv, G, T, D] and [B, S, Hkv, D].
  Value grouped() {
    Value q = b.reshape(scaledQuery(query), {s.batch, s.queries, s.keyHeads, s.group, s.width});
    Value scores = b.dot(q, scaledKey(key), {0, 2}, {0, 2}, {4}, {3}); // [B,Hkv,T,G,S]
    scores = b.reshape(b.transpose(scores, {0, 1, 3, 2, 4}), {s.batch, heads, s.queries, s.keys});
    Value weights = b.reshape(softmax(masked(scores)), {s.batch, s.keyHeads, s.group, s.queries, s.keys});
    Value out = b.dot(weights, value, {0, 1}, {0, 2}, {4}, {1}); // [B,Hkv,G,T,D]
    return b.reshape(b.transpose(out, {0, 3, 1, 2, 4}), {s.batch, s.queries, heads * s.valueWidth});
  }

  RankedTensorType matrix(Type element) { return RankedTensorType::get({s.queries, s.keys}, element); }

  /// [T, S], true where a query sees a key.
  Value causalCondition() {
    Type i64 = b.builder.getI64Type();
    Value column = b.iota(matrix(i64), 1), row = b.iota(matrix(i64), 0);
    return b.compare(ComparePredicate::LE, column, b.add(row, static_cast<double>(s.keys - s.queries)));
  }

  /// [B, S], true where a key is no padding.
  Value kept() { return b.compare(ComparePredicate::NE, padding, b.splatLike(padding, 0.0)); }

  Value over(Value v, ArrayRef<int64_t> dims) { return b.broadcast(v, {s.batch, heads, s.queries, s.keys}, dims); }

  Value masked(Value scores) {
    if (s.scaling == AttentionStyle::MultipliesScores)
      scores = b.mul(scores, 0.7);
    if (s.scaling == AttentionStyle::DividesScores)
      scores = b.div(scores, b.splatLike(scores, 1 / 0.7));
    if (s.capped)
      scores = b.mul(b.tanh(b.mul(scores, 1 / 1.3)), 1.3);
    Type f64 = b.builder.getF64Type();
    auto number = [&](double x) { return b.splat(matrix(f64), x); };
    switch (s.mask) {
    case AttentionStyle::CausalAdded:
      return b.add(scores, over(b.select(causalCondition(), number(0), number(lowest)), {2, 3}));
    case AttentionStyle::CausalSelected:
    case AttentionStyle::CausalLow:
      return b.select(over(causalCondition(), {2, 3}), scores,
                      b.splatLike(scores, s.mask == AttentionStyle::CausalLow ? -1e9 : -infinity));
    case AttentionStyle::PaddingSelected:
      return b.select(over(b.make<NotOp>(kept()), {0, 3}), b.splatLike(scores, -infinity), scores);
    case AttentionStyle::CausalAndPadding: {
      RankedTensorType type = RankedTensorType::get({s.batch, s.queries, s.keys}, b.builder.getI1Type());
      Value sees =
          b.conj(b.broadcast(causalCondition(), type.getShape(), {1, 2}), b.broadcast(kept(), type.getShape(), {0, 2}));
      Value zero = b.splat(withElement(type, f64), 0.0);
      return b.add(scores, over(b.select(sees, zero, b.splatLike(zero, -infinity)), {0, 2, 3}));
    }
    case AttentionStyle::PaddingAdded: {
      Value hidden = b.sub(b.splatLike(padding, 1.0), padding);
      return b.add(over(b.mul(hidden, lowest), {0, 3}), scores);
    }
    case AttentionStyle::Bias:
      return b.add(scores, over(bias, {1, 2, 3}));
    case AttentionStyle::Distances: {
      auto type = RankedTensorType::get({heads, s.queries, s.keys}, f64);
      Value slope = b.mul(b.add(b.iota(type, 0), 1.0), -0.25), distance = b.sub(b.iota(type, 1), b.iota(type, 2));
      Value hides = b.select(causalCondition(), number(0), number(-infinity));
      return b.add(b.add(scores, over(b.mul(slope, distance), {1, 2, 3})), over(hides, {2, 3}));
    }
    default:
      return scores;
    }
  }

  Value softmax(Value scores) {
    if (s.sink) {
      Value each = b.broadcast(sink, {s.batch, heads, s.queries, 1}, {1});
      Value weights = weightsOf(b.make<ConcatOp>(ValueRange{scores, each}, 3));
      return b.make<SliceOp>(weights, ArrayRef<int64_t>{0, 0, 0, 0}, typeOf(scores).getShape(),
                             ArrayRef<int64_t>{1, 1, 1, 1});
    }
    return weightsOf(scores);
  }

  Value weightsOf(Value scores) {
    if (s.shifted)
      scores = b.sub(scores, b.broadcastRows(b.reduceLast(ReduceKind::Max, scores), scores));
    if (s.softmax == AttentionStyle::Coarse)
      return b.make<SoftmaxOp>(scores);
    if (s.softmax == AttentionStyle::Guarded) {
      Value weights = b.make<SoftmaxOp>(scores);
      Value none = b.compare(ComparePredicate::NE, weights, weights);
      return b.select(none, b.splatLike(weights, 0.0), weights);
    }
    Value shifted = scores;
    if (s.softmax == AttentionStyle::Fine)
      shifted = b.sub(scores, b.broadcastRows(b.reduceLast(ReduceKind::Max, scores), scores));
    Value e = b.exp(shifted);
    return b.div(e, b.broadcastRows(b.reduceLast(ReduceKind::Sum, e), e));
  }

  const AttentionStyle &s;
  TensorBuilder b;
  int64_t heads;
  Value query, key, value, padding, bias, sink;
};

} // namespace

AttentionStyle AttentionStyle::random(std::mt19937 &engine) {
  auto pick = [&](int count) { return static_cast<int>(engine() % static_cast<unsigned>(count)); };
  AttentionStyle style{};
  style.batch = 1 + pick(2);
  style.queries = 2 + pick(3);
  style.keys = style.queries + pick(2);
  style.keyHeads = 1 + pick(2);
  style.group = 1 + pick(2);
  style.width = 2 + pick(2);
  style.layout = static_cast<Layout>(pick(4));
  style.scaling = static_cast<Scaling>(pick(5));
  style.softmax = static_cast<Softmax>(pick(4));
  style.mask = static_cast<Mask>(pick(kMasks));
  style.capped = pick(4) == 0;
  style.valueWidth = style.width + pick(3) % 2;
  style.sink = pick(4) == 0;
  style.shifted = pick(4) == 0;
  return style;
}

std::string AttentionStyle::name() const {
  std::string text;
  for (int64_t x : {batch, queries, keys, keyHeads, group, width, valueWidth})
    text += std::to_string(x) + " ";
  return text + "layout " + std::to_string(layout) + " scaling " + std::to_string(scaling) + " softmax " +
         std::to_string(softmax) + " mask " + std::to_string(mask) + (capped ? " capped" : "") + (sink ? " sink" : "") +
         (shifted ? " shifted" : "");
}

OwningOpRef<ModuleOp> attentionModule(MLIRContext &context, const AttentionStyle &style) {
  OpBuilder builder(&context);
  OwningOpRef<ModuleOp> module(ModuleOp::create(builder, builder.getUnknownLoc()));
  Type f64 = builder.getF64Type();
  auto tensor = [&](ArrayRef<int64_t> shape) { return RankedTensorType::get(shape, f64); };
  int64_t heads = style.keyHeads * style.group;
  Type query = tensor({style.batch, style.queries, heads * style.width}),
       key = tensor({style.batch, style.keys, style.keyHeads * style.width}),
       value = tensor({style.batch, style.keys, style.keyHeads * style.valueWidth}),
       result = tensor({style.batch, style.queries, heads * style.valueWidth});
  SmallVector<Type> arguments = {
      query,          key, value, tensor({style.batch, style.keys}), tensor({heads, style.queries, style.keys}),
      tensor({heads})};
  builder.setInsertionPointToEnd(module->getBody());
  auto function =
      func::FuncOp::create(builder, builder.getUnknownLoc(), "f", builder.getFunctionType(arguments, result));
  Block *block = function.addEntryBlock();
  builder.setInsertionPointToEnd(block);
  func::ReturnOp::create(builder, builder.getUnknownLoc(), Writer(builder, style, block->getArguments()).write());
  return module;
}

} // namespace moe::test
