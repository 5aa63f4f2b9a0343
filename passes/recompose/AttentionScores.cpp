//===- AttentionScores.cpp - From softmax weights back to queries and keys ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/Attention.h"

using namespace mlir;

namespace moe::ir::recompose {

namespace {

using Scores = Finding<FoundScores>;

class ScoreFinder {
public:
  ScoreFinder(AxisTable &axes, KnownValues &values) : axes(axes), values(values) {}

  Scores find(View weights) {
    if (!throughWeights(std::move(weights)))
      return Scores::no(std::move(why));
    found.scores.dims =
        llvm::map_to_vector<4>(found.scores.dims, [&](const AxisList &dim) { return axes.expand(dim); });
    View scores = found.scores;
    if (!throughScores(std::move(scores)))
      return Scores::no(std::move(why));
    return Scores::yes(std::move(found));
  }

private:
  bool is(Value value, double number) { return values.scalar(value) == number; }
  View with(const View &view, Value value) { return {value, view.dims}; }
  bool fail(std::string reason) {
    why = std::move(reason);
    return false;
  }

  //===--------------------------------------------------------------------------------------------------------------===//
  // Weights
  //===--------------------------------------------------------------------------------------------------------------===//

  /// Goes from the operand of the product with the values to what the softmax is taken of. Fails without a reason where
  /// there is no softmax.
  bool throughWeights(View view) {
    while (true) {
      view = axes.source(std::move(view), /*throughBroadcast=*/false);
      Operation *op = view.value.getDefiningOp();
      if (auto dropout = dyn_cast_or_null<DropoutOp>(op)) {
        if (found.dropout)
          return fail("its weights are dropped twice");
        found.dropout = dropout;
        dropoutDims = view.dims;
        view = with(view, dropout.getInput());
        continue;
      }
      if (auto select = dyn_cast_or_null<SelectOp>(op)) {
        if (Value inner = withoutGuard(select)) {
          found.zeroRows = true;
          view = with(view, inner);
          continue;
        }
        return false;
      }
      // Weights of all keys but those of sinks, which have no values.
      SliceOp cut = dyn_cast_or_null<SliceOp>(op);
      if (cut) {
        Value whole = cut.getInput();
        auto guard = whole.getDefiningOp<SelectOp>();
        if (Value inner = guard ? withoutGuard(guard) : Value()) {
          found.zeroRows = true;
          whole = inner;
        }
        op = whole.getDefiningOp();
      }
      found.softmax = op;
      if (auto softmax = dyn_cast_or_null<SoftmaxOp>(op)) {
        found.scores = with(view, softmax.getInput());
      } else if (Value input = inputOfFineSoftmax(op)) {
        found.scores = with(view, input);
      } else {
        return false;
      }
      found.scores.value = unshifted(found.scores.value);
      if (cut && !withoutSink(cut))
        return false;
      return inOrder(found.scores) && throughZeroedRows();
    }
  }

  /// s of s - max(s): what all scores of a row lose changes no weight.
  Value unshifted(Value scores) {
    auto sub = scores.getDefiningOp<SubOp>();
    return sub && isRowReduction(sub.getRhs(), ReduceKind::Max, sub.getLhs()) ? sub.getLhs() : scores;
  }

  /// Goes from scores and sinks, joined along the last dimension, to the scores, if `cut` leaves just their weights.
  bool withoutSink(SliceOp cut) {
    auto concat = found.scores.value.getDefiningOp<ConcatOp>();
    int64_t last = typeOf(cut).getRank() - 1;
    if (!concat || concat->getNumOperands() != 2 || static_cast<int64_t>(concat.getDim()) != last)
      return false;
    for (unsigned side : {0U, 1U}) {
      Value scores = concat->getOperand(side), sink = concat->getOperand(1 - side);
      if (typeOf(scores).getShape() != typeOf(cut).getShape() || typeOf(sink).getDimSize(last) != 1 ||
          cut.getStarts()[last] != side || cut.getStrides()[last] != 1)
        continue;
      found.scores.value = scores;
      found.sink = View{sink, found.scores.dims};
      found.sink->dims.back().clear();
      return true;
    }
    return false;
  }

  /// Dropout numbers its elements in the order [batch, heads, queries, keys].
  bool inOrder(const View &scores) {
    if (!found.dropout)
      return true;
    return axes.flat(View{{}, dropoutDims}) == axes.flat(scores) || fail("dropout sees its weights in another order");
  }

  /// x of select(x != x, 0, x), which turns the 0/0 of a query that sees no key into zero.
  Value withoutGuard(SelectOp select) {
    auto compare = select.getCondition().getDefiningOp<CompareOp>();
    if (compare && compare.getPredicate() == ComparePredicate::NE && compare.getLhs() == compare.getRhs() &&
        compare.getLhs() == select.getRhs() && is(select.getLhs(), 0))
      return select.getRhs();
    if (compare && compare.getPredicate() == ComparePredicate::EQ && compare.getLhs() == compare.getRhs() &&
        compare.getLhs() == select.getLhs() && is(select.getRhs(), 0))
      return select.getLhs();
    // select(hidden, 0, softmax(select(hidden, 0, scores))): rows without a score above -inf.
    auto softmax = select.getRhs().getDefiningOp<SoftmaxOp>();
    if (softmax && is(select.getLhs(), 0) && scoresOfZeroedRows(softmax.getInput(), select.getCondition()))
      return select.getRhs();
    return {};
  }

  /// s of select(hidden, 0, s), where `hidden` says which rows of s have no element above -inf.
  Value scoresOfZeroedRows(Value value, Value hidden) {
    auto select = value.getDefiningOp<SelectOp>();
    if (!select || (hidden && select.getCondition() != hidden) || !is(select.getLhs(), 0))
      return {};
    View rows = axes.fresh(select.getCondition());
    AxisList leading = axes.flat({{}, {rows.dims.begin(), std::prev(rows.dims.end())}});
    View source = axes.source(rows);
    auto compare = source.value.getDefiningOp<CompareOp>();
    if (!compare || compare.getPredicate() != ComparePredicate::EQ || axes.flat(source) != axes.expand(leading) ||
        !is(compare.getRhs(), -std::numeric_limits<double>::infinity()))
      return {};
    View maximum = axes.source(with(source, compare.getLhs()));
    auto reduce = maximum.value.getDefiningOp<ReduceOp>();
    bool isMaximum = reduce && reduce.getKind() == ReduceKind::Max && reduce.getInput() == select.getRhs() &&
                     reduce.getDims() == ArrayRef<int64_t>{typeOf(value).getRank() - 1} &&
                     axes.flat(maximum) == axes.expand(leading);
    return isMaximum ? select.getRhs() : Value();
  }

  bool throughZeroedRows() {
    if (found.zeroRows)
      if (Value inner = scoresOfZeroedRows(found.scores.value, {}))
        found.scores.value = inner;
    return true;
  }

  /// s of e / sum(e) along the last dimension with e = exp(s - max(s)) or exp(s).
  Value inputOfFineSoftmax(Operation *op) {
    auto div = dyn_cast_or_null<DivOp>(op);
    auto exp = div ? div.getLhs().getDefiningOp<ExpOp>() : ExpOp();
    if (!exp || !isRowReduction(div.getRhs(), ReduceKind::Sum, exp.getResult()))
      return {};
    return unshifted(exp.getInput());
  }

  /// Whether `value` repeats along the last dimension the reduction of `of` over it.
  bool isRowReduction(Value value, ReduceKind kind, Value of) {
    View view = axes.fresh(value);
    AxisList leading = axes.flat({{}, {view.dims.begin(), std::prev(view.dims.end())}});
    View source = axes.source(view);
    auto reduce = source.value.getDefiningOp<ReduceOp>();
    return reduce && reduce.getKind() == kind && reduce.getInput() == of &&
           reduce.getDims() == ArrayRef<int64_t>{typeOf(of).getRank() - 1} && axes.flat(source) == axes.expand(leading);
  }

  //===--------------------------------------------------------------------------------------------------------------===//
  // Scores
  //===--------------------------------------------------------------------------------------------------------------===//

  bool throughScores(View view) {
    double factor = 1;
    while (true) {
      view = axes.source(std::move(view), /*throughBroadcast=*/false);
      Operation *op = view.value.getDefiningOp();
      if (auto dot = dyn_cast_or_null<DotOp>(op))
        return throughProduct(dot, view, factor);
      if (std::optional<std::pair<Value, double>> scaled = scaling(op)) {
        factor *= scaled->second;
        view = with(view, scaled->first);
      } else if (auto tanh = dyn_cast_or_null<TanhOp>(op)) {
        if (found.softcap > 0 || !(factor > 0))
          return fail("its scores go through a tanh that is no cap");
        found.softcap = std::exchange(factor, 1.0);
        view = with(view, tanh.getInput());
      } else if (auto add = dyn_cast_or_null<AddOp>(op)) {
        Value next = leadsToProduct(add.getLhs()) ? add.getLhs() : add.getRhs();
        if (!addTerm(with(view, next == add.getLhs() ? add.getRhs() : add.getLhs()), factor))
          return false;
        view = with(view, next);
      } else if (auto sub = dyn_cast_or_null<SubOp>(op)) {
        bool left = leadsToProduct(sub.getLhs());
        if (!addTerm(with(view, left ? sub.getRhs() : sub.getLhs()), left ? -factor : factor))
          return false;
        factor = left ? factor : -factor;
        view = with(view, left ? sub.getLhs() : sub.getRhs());
      } else if (auto select = dyn_cast_or_null<SelectOp>(op)) {
        std::optional<View> next = throughSelect(select, view, factor);
        if (!next)
          return false;
        view = std::move(*next);
      } else if (auto max = dyn_cast_or_null<MaxOp>(op)) {
        // max(scores, lowest) of older exports.
        std::optional<double> floor = values.scalar(max.getRhs());
        if (!floor || *floor * factor > kHidden || !(factor > 0) || found.softcap > 0)
          return fail("its scores are clamped");
        found.floored = true;
        view = with(view, max.getLhs());
      } else {
        return fail(op ? "its scores come from '" + op->getName().getStringRef().str() +
                             "', not from a product of "
                             "queries and keys"
                       : "its scores are an input");
      }
    }
  }

  /// x and c of x c, x / c, -x.
  std::optional<std::pair<Value, double>> scaling(Operation *op) {
    if (auto neg = dyn_cast_or_null<NegOp>(op))
      return std::pair(neg.getInput(), -1.0);
    if (auto mul = dyn_cast_or_null<MulOp>(op)) {
      if (std::optional<double> factor = values.scalar(mul.getRhs()))
        return std::pair(mul.getLhs(), *factor);
      if (std::optional<double> factor = values.scalar(mul.getLhs()))
        return std::pair(mul.getRhs(), *factor);
    }
    if (auto div = dyn_cast_or_null<DivOp>(op))
      if (std::optional<double> divisor = values.scalar(div.getRhs()); divisor && *divisor != 0)
        return std::pair(div.getLhs(), 1 / *divisor);
    return std::nullopt;
  }

  bool addTerm(View term, double factor) {
    if (found.softcap > 0)
      return fail("something is added to its scores before they are capped");
    found.terms.push_back({std::move(term), factor});
    return true;
  }

  std::optional<View> throughSelect(SelectOp select, const View &view, double factor) {
    for (bool when : {true, false}) {
      std::optional<double> value = values.scalar(when ? select.getLhs() : select.getRhs());
      if (!value)
        continue;
      if (found.softcap > 0 || !(*value * factor <= kHidden)) {
        fail(found.softcap > 0
                 ? "its mask is set before the scores are capped"
                 : "masked scores are set to " + std::to_string(*value * factor) + ", which does not hide a key");
        return std::nullopt;
      }
      found.hidden.push_back({with(view, select.getCondition()), when, *value * factor});
      return with(view, when ? select.getRhs() : select.getLhs());
    }
    fail("its scores are chosen between two tensors");
    return std::nullopt;
  }

  /// Whether a product is behind `value`, through what may stand between it and a softmax.
  bool leadsToProduct(Value value, int depth = 0) {
    Operation *op = value.getDefiningOp();
    if (!op || depth > 32)
      return false;
    if (isa<DotOp>(op))
      return true;
    if (isa<ReshapeOp, TransposeOp, NegOp, TanhOp>(op))
      return leadsToProduct(op->getOperand(0), depth + 1);
    if (isa<MulOp, DivOp, AddOp, SubOp, MaxOp>(op))
      return leadsToProduct(op->getOperand(0), depth + 1) || leadsToProduct(op->getOperand(1), depth + 1);
    if (auto select = dyn_cast<SelectOp>(op))
      return leadsToProduct(select.getLhs(), depth + 1) || leadsToProduct(select.getRhs(), depth + 1);
    return false;
  }

  bool throughProduct(DotOp dot, const View &view, double factor) {
    View lhs{dot.getLhs(), {}}, rhs{dot.getRhs(), {}};
    lhs.dims.resize(typeOf(lhs.value).getRank());
    rhs.dims.resize(typeOf(rhs.value).getRank());
    size_t next = 0;
    for (auto [l, r] : llvm::zip_equal(dot.getLhsBatch(), dot.getRhsBatch()))
      lhs.dims[l] = rhs.dims[r] = view.dims[next++];
    for (int64_t d : dot.lhsFree())
      lhs.dims[d] = view.dims[next++];
    for (int64_t d : dot.rhsFree())
      rhs.dims[d] = view.dims[next++];
    for (auto [l, r] : llvm::zip_equal(dot.getLhsContract(), dot.getRhsContract())) {
      int64_t size = typeOf(lhs.value).getDimSize(static_cast<unsigned>(l));
      if (size > 1)
        found.contracted.push_back(axes.add(size));
      lhs.dims[l] = rhs.dims[r] = size > 1 ? AxisList{found.contracted.back()} : AxisList{};
    }
    bool keysAreLeft = holdsKeys(lhs);
    if (keysAreLeft == holdsKeys(rhs))
      return fail("its keys are a dimension of both factors of its scores, or of none");
    found.query = source(keysAreLeft ? rhs : lhs, factor);
    found.key = source(keysAreLeft ? lhs : rhs, factor);
    found.scale = found.softcap > 0 ? factor * found.softcap : factor;
    return true;
  }

  bool holdsKeys(const View &view) {
    AxisList keys = axes.expand(found.scores.dims.back()), all = axes.flat(view);
    return !keys.empty() && llvm::all_of(keys, [&](unsigned axis) { return llvm::is_contained(all, axis); });
  }

  /// Behind data movement and constant factors, which go to the scale.
  View source(View view, double &factor) {
    while (true) {
      view = axes.source(std::move(view));
      std::optional<std::pair<Value, double>> scaled = scaling(view.value.getDefiningOp());
      if (!scaled)
        return view;
      factor *= scaled->second;
      view = with(view, scaled->first);
    }
  }

  AxisTable &axes;
  KnownValues &values;
  FoundScores found;
  SmallVector<AxisList, 4> dropoutDims;
  std::string why;
};

} // namespace

Finding<FoundScores> findScores(AxisTable &axes, KnownValues &values, View weights) {
  return ScoreFinder(axes, values).find(std::move(weights));
}

} // namespace moe::ir::recompose
