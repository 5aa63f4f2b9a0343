//===- DecomposeRoute.cpp - Capacity routing in finer operations ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// Index form throughout: the largest values are [groups, tokens, experts], or [groups, tokens, tokens] where slots are
// handed out by priority. Choices are constants to differentiation; gradients run through the probabilities.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"

#include <limits>

using namespace mlir;

namespace moe::ir {

namespace {

/// Machine epsilon of float32, as in the gate's definition, whatever the element type.
constexpr double kEpsilon = 1.1920929e-7;

class RouteDecomposition {
public:
  RouteDecomposition(RouteOp op, OpBuilder &builder)
      : op(op), b(builder, op.getLoc()), logits(op.getLogits()), full(typeOf(logits)), real(full.getElementType()),
        i32(builder.getI32Type()), groups(full.getDimSize(0)), tokens(full.getDimSize(1)), experts(full.getDimSize(2)) {
  }

  SmallVector<Value> run() {
    probs = b.make<SoftmaxOp>(logits);
    choose();
    assignSlots();
    SmallVector<Value> weights = weightsOfSurvivors();
    Value firstFraction = mean(asReal(masks[0]));
    Value meanProbs = mean(probs);
    Value aux = b.mul(b.reduceLast(ReduceKind::Sum, b.mul(meanProbs, firstFraction)), static_cast<double>(experts));
    SmallVector<Value> slots;
    for (size_t k = 0; k < hits.size(); ++k)
      slots.push_back(b.select(kept[k], slotOf[k], b.splatLike(slotOf[k], -1)));
    Value expert = perChoice(chosen), slot = perChoice(slots);
    return {expert, slot, perChoice(weights), tokenTable(expert, slot), aux, probs, firstFraction, metrics()};
  }

private:
  Value asReal(Value v) { return b.cast(v, real); }
  Value asInt(Value v) { return b.cast(v, i32); }
  Value rows(Value v) { return b.broadcastRows(v, logits); }
  /// [G,S,E] -> [G,E], the mean over tokens.
  Value mean(Value v) { return b.mul(b.reduce(ReduceKind::Sum, v, {1}), 1.0 / static_cast<double>(tokens)); }
  Value pick(Value hit, Value v) { return b.reduceLast(ReduceKind::Sum, b.select(hit, v, b.splatLike(v, 0))); }

  /// One-hot of the first maximum of each row, and its index.
  std::pair<Value, Value> argmax(Value v) {
    Value index = b.iota(withElement(full, i32), 2);
    Value top = rows(b.reduceLast(ReduceKind::Max, v));
    Value candidates =
        b.select(b.compare(ComparePredicate::EQ, v, top), index, b.splatLike(index, static_cast<double>(experts)));
    Value first = b.reduceLast(ReduceKind::Min, candidates);
    return {b.compare(ComparePredicate::EQ, index, rows(first)), first};
  }

  void choose() {
    auto [firstHit, first] = argmax(probs);
    hits = {firstHit};
    chosen = {first};
    gates = {pick(firstHit, probs)};
    Value everyone = b.compare(ComparePredicate::EQ, first, first);
    SmallVector<Value> routed{everyone};
    if (op.getTopK() == 2) {
      Value scores = logits;
      if (op.getPolicy() == SecondExpertPolicy::Sampling)
        scores = b.add(scores, op.getNoise());
      scores = b.select(firstHit, b.splatLike(scores, -std::numeric_limits<double>::infinity()), scores);
      auto [secondHit, second] = argmax(scores);
      hits.push_back(secondHit);
      chosen.push_back(second);
      gates.push_back(pick(secondHit, probs));
      if (op.getNormalizeBeforeDropping())
        normalize(gates);
      routed.push_back(everyone);
      if (op.getPolicy() == SecondExpertPolicy::Random)
        routed[1] = b.compare(ComparePredicate::GT, b.mul(gates[1], 2.0), op.getNoise());
    }
    for (size_t k = 0; k < hits.size(); ++k) {
      if (op.getMask())
        routed[k] = b.conj(routed[k], b.make<NotOp>(op.getMask()));
      isRouted.push_back(routed[k]);
      masks.push_back(b.conj(hits[k], rows(routed[k])));
    }
  }

  static void normalizeWith(TensorBuilder &b, SmallVectorImpl<Value> &values) {
    Value sum = b.max(b.add(values[0], values[1]), b.splatLike(values[0], kEpsilon));
    for (Value &value : values)
      value = b.div(value, sum);
  }
  void normalize(SmallVectorImpl<Value> &values) { normalizeWith(b, values); }

  /// Tokens before each one that chose the same expert, per choice; second choices count on from all first ones.
  void assignSlots() {
    Value offset;
    for (Value mask : masks) {
      Value before = countBefore(asReal(mask));
      if (offset)
        before = b.add(before, b.broadcast(offset, full.getShape(), {0, 2}));
      offset = b.reduce(ReduceKind::Sum, asReal(mask), {1});
      slotOf.push_back(asInt(pick(hits[slotOf.size()], before)));
    }
    for (size_t k = 0; k < slotOf.size(); ++k) {
      Value fits =
          b.compare(ComparePredicate::LT, slotOf[k], b.splatLike(slotOf[k], static_cast<double>(op.getCapacity())));
      kept.push_back(b.conj(isRouted[k], fits));
    }
  }

  Value countBefore(Value mask) {
    if (!op.getBatchPrioritized())
      return CumsumOp::create(b.builder, b.loc, mask, 1, true, false).getResult();
    // Token t comes before s if its best probability is higher, or equal with a lower number.
    RankedTensorType pairs = withShape(full, {groups, tokens, tokens});
    Value best = b.reduceLast(ReduceKind::Max, probs);
    Value mine = b.broadcast(best, pairs.getShape(), {0, 1}), other = b.broadcast(best, pairs.getShape(), {0, 2});
    RankedTensorType indices = withElement(pairs, i32);
    Value earlier = b.compare(ComparePredicate::LT, b.iota(indices, 2), b.iota(indices, 1));
    Value tied = b.conj(b.compare(ComparePredicate::EQ, other, mine), earlier);
    Value before = b.make<OrOp>(b.compare(ComparePredicate::GT, other, mine), tied);
    return b.dot(asReal(before), mask, {0}, {0}, {2}, {1});
  }

  SmallVector<Value> weightsOfSurvivors() {
    SmallVector<Value> weights;
    for (size_t k = 0; k < gates.size(); ++k)
      weights.push_back(b.select(kept[k], gates[k], b.splatLike(gates[k], 0.0)));
    if (weights.size() == 2 && !op.getNormalizeBeforeDropping())
      normalize(weights);
    return weights;
  }

  /// [G,S] per choice -> [G,S,K].
  Value perChoice(ArrayRef<Value> values) {
    SmallVector<Value> parts;
    for (Value value : values)
      parts.push_back(b.reshape(value, {groups, tokens, 1}));
    return b.make<ConcatOp>(ValueRange(parts), 2);
  }

  /// [E,G,C]: s * K + k of the token in each slot, or -1. Numbers are scattered as floats, exact below 2^24.
  Value tokenTable(Value expert, Value slot) {
    auto choices = static_cast<double>(op.getTopK()), capacity = static_cast<double>(op.getCapacity());
    Value row = b.add(b.mul(expert, static_cast<double>(groups)), b.iota(typeOf(expert), 0));
    row = b.add(b.mul(row, capacity), slot);
    Value none = b.compare(ComparePredicate::LT, slot, b.splatLike(slot, 0));
    row = b.select(none, slot, row);
    Value number = b.add(b.mul(b.iota(typeOf(expert), 1), choices), b.iota(typeOf(expert), 2));
    auto slots = static_cast<int64_t>(op.getCapacity());
    RankedTensorType flat = withShape(full, {experts * groups * slots});
    Value table = b.make<ScatterAddOp>(flat, row, asReal(b.add(number, 1)), Value());
    return b.reshape(b.add(asInt(table), -1), {experts, groups, slots});
  }

  /// Shares of the busiest and idlest fifth in percent and the number of unused experts, each [G,1].
  void balance(Value hit, SmallVectorImpl<Value> &columns) {
    Value counts = b.reduce(ReduceKind::Sum, asReal(hit), {1});
    Value percent = b.add(b.mul(counts, 100.0 / static_cast<double>(tokens)), std::numeric_limits<float>::min());
    auto sorted = SortOp::create(b.builder, b.loc, percent);
    int64_t fifth = std::max<int64_t>((experts + 4) / 5, 1);
    for (int64_t from : {int64_t{0}, experts - fifth}) {
      Value part = b.make<SliceOp>(sorted.getValues(), ArrayRef<int64_t>{0, from},
                                   ArrayRef<int64_t>{groups, from + fifth}, ArrayRef<int64_t>{1, 1});
      columns.push_back(b.reshape(b.reduceLast(ReduceKind::Sum, part), {groups, 1}));
    }
    Value unused = asReal(b.compare(ComparePredicate::EQ, counts, b.splatLike(counts, 0.0)));
    columns.push_back(b.reshape(b.reduceLast(ReduceKind::Sum, unused), {groups, 1}));
  }

  /// Percentage of the routed choices without a slot.
  Value overflow(size_t k) {
    Value dropped = b.conj(isRouted[k], b.make<NotOp>(kept[k]));
    Value ratio =
        b.div(b.reduceLast(ReduceKind::Sum, asReal(dropped)), b.reduceLast(ReduceKind::Sum, asReal(isRouted[k])));
    return b.reshape(b.mul(ratio, 100.0), {groups, 1});
  }

  Value metrics() {
    Value bounded = b.min(b.max(probs, b.splatLike(probs, kEpsilon)), b.splatLike(probs, 1 - kEpsilon));
    Value entropy = b.neg(b.reduce(ReduceKind::Sum, b.mul(probs, b.log(bounded)), {1, 2}));
    Value zero = b.splat(withShape(full, {groups, 1}), 0.0);
    bool two = op.getTopK() == 2;
    SmallVector<Value> columns{b.reshape(b.mul(entropy, 1.0 / static_cast<double>(tokens)), {groups, 1}),
                               two ? overflow(0) : zero, two ? overflow(1) : zero};
    balance(hits[0], columns);
    if (two)
      balance(hits[1], columns);
    else
      columns.append(3, zero);
    return b.make<ConcatOp>(ValueRange(columns), 1);
  }

  RouteOp op;
  TensorBuilder b;
  Value logits;
  RankedTensorType full;
  Type real, i32;
  int64_t groups, tokens, experts;
  Value probs;
  /// Per choice: one-hot [G,S,E], index [G,S], probability [G,S], routed at all, one-hot of the routed, slot, kept.
  SmallVector<Value> hits, chosen, gates, isRouted, masks, slotOf, kept;
};

} // namespace

bool RouteOp::decomposesForCodegen() {
  return false;
}

FailureOr<SmallVector<Value>> RouteOp::decompose(OpBuilder &builder) {
  return RouteDecomposition(*this, builder).run();
}

} // namespace moe::ir
