//===- IndexBounds.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/IndexBounds.h"
#include "ir/Ops.h"
#include "llvm/ADT/DenseMap.h"
#include <algorithm>
#include <optional>

using namespace mlir;

namespace moe::frontend {
namespace {

/// Larger bounds are none: the numbers of an input are as good as free.
constexpr int64_t kUnbounded = int64_t(1) << 31;

/// Constants with more elements are not looked at, and no more operations followed, in depth and in all, so that large
/// models take no time worth mentioning.
constexpr int64_t kMaxConstant = 1 << 16;
constexpr int kMaxDepth = 64;
constexpr unsigned kMaxOperations = 256;

struct Interval {
  int64_t low, high;
};
using Known = std::optional<Interval>;

Known unite(Known a, Known b) {
  if (!a || !b)
    return std::nullopt;
  return Interval{std::min(a->low, b->low), std::max(a->high, b->high)};
}

Known sum(Known a, Known b) {
  Interval result{};
  if (!a || !b || __builtin_add_overflow(a->low, b->low, &result.low) ||
      __builtin_add_overflow(a->high, b->high, &result.high))
    return std::nullopt;
  return result;
}

Known difference(Known a, Known b) {
  Interval result{};
  if (!a || !b || __builtin_sub_overflow(a->low, b->high, &result.low) ||
      __builtin_sub_overflow(a->high, b->low, &result.high))
    return std::nullopt;
  return result;
}

Known product(Known a, Known b) {
  if (!a || !b)
    return std::nullopt;
  Interval result{INT64_MAX, INT64_MIN};
  for (int64_t x : {a->low, a->high})
    for (int64_t y : {b->low, b->high}) {
      int64_t corner = 0;
      if (__builtin_mul_overflow(x, y, &corner))
        return std::nullopt;
      result = {std::min(result.low, corner), std::max(result.high, corner)};
    }
  return result;
}

/// The values between which integers lie, given those of one input.
class Intervals {
public:
  Intervals(Value input, Interval assumed) : input(input), assumed(assumed) {}

  Known of(Value value, int depth = 0) {
    if (value == input) {
      isReached = true;
      return assumed;
    }
    Operation *op = value.getDefiningOp();
    if (!op || depth > kMaxDepth || !isa<IntegerType>(ir::typeOf(value).getElementType()))
      return std::nullopt;
    if (auto found = known.find(value); found != known.end())
      return found->second;
    if (known.size() >= kMaxOperations)
      return std::nullopt;
    Known result = compute(op, depth + 1);
    // What does not fit its type wraps around.
    const unsigned width = ir::typeOf(value).getElementTypeBitWidth();
    if (result && width > 1 && width < 64) {
      const int64_t limit = int64_t(1) << (width - 1);
      if (result->low < -limit || result->high >= limit)
        result = std::nullopt;
    }
    known[value] = result;
    return result;
  }

  bool isReached = false;      ///< the input is among what was looked at
  bool meansNegatives = false; ///< something was compared with a negative number

private:
  Known compute(Operation *op, int depth) {
    auto operand = [&](unsigned i) { return of(op->getOperand(i), depth); };
    if (auto constant = dyn_cast<ir::ConstantOp>(op))
      return ofConstant(constant);
    if (auto iota = dyn_cast<ir::IotaOp>(op))
      return Interval{0, iota.getType().getDimSize(static_cast<unsigned>(iota.getDim())) - 1};
    if (isa<ir::ReshapeOp, ir::BroadcastOp, ir::TransposeOp, ir::SliceOp>(op))
      return operand(0);
    if (isa<ir::PadOp>(op))
      return unite(operand(0), Interval{0, 0});
    if (isa<ir::CastOp>(op))
      return ir::typeOf(op->getResult(0)).getElementType().isInteger(1) ? Known(Interval{0, 1}) : operand(0);
    if (isa<ir::ConcatOp>(op)) {
      Known all = operand(0);
      for (unsigned i = 1; i < op->getNumOperands(); ++i)
        all = unite(all, operand(i));
      return all;
    }
    if (auto gather = dyn_cast<ir::GatherOp>(op)) {
      // A negative index reads zeros. The index is looked at for what it depends on.
      (void)of(gather.getIndex(), depth);
      return unite(of(gather.getTable(), depth), Interval{0, 0});
    }
    if (isa<ir::AddOp>(op))
      return sum(operand(0), operand(1));
    if (isa<ir::SubOp>(op))
      return difference(operand(0), operand(1));
    if (isa<ir::MulOp>(op))
      return product(operand(0), operand(1));
    if (isa<ir::MaxOp, ir::MinOp>(op))
      return ofExtreme(operand(0), operand(1), isa<ir::MaxOp>(op));
    if (auto select = dyn_cast<ir::SelectOp>(op))
      return ofSelect(select, depth);
    if (auto compare = dyn_cast<ir::CompareOp>(op))
      return ofCompare(compare, depth);
    return std::nullopt;
  }

  static Known ofConstant(ir::ConstantOp op) {
    auto elements = dyn_cast<DenseElementsAttr>(op.getValue());
    if (!elements || op.getType().getNumElements() == 0 ||
        (!elements.isSplat() && op.getType().getNumElements() > kMaxConstant))
      return std::nullopt;
    const bool isBool = op.getType().getElementType().isInteger(1);
    Interval result{INT64_MAX, INT64_MIN};
    auto include = [&](const llvm::APInt &element) {
      const int64_t number = isBool ? static_cast<int64_t>(element.getZExtValue()) : element.getSExtValue();
      result = {std::min(result.low, number), std::max(result.high, number)};
    };
    if (elements.isSplat())
      include(elements.getSplatValue<llvm::APInt>());
    else
      for (const llvm::APInt &element : elements.getValues<llvm::APInt>())
        include(element);
    return result;
  }

  /// One side alone bounds the result: a maximum from below, a minimum from above.
  static Known ofExtreme(Known a, Known b, bool isMaximum) {
    if (!a && !b)
      return std::nullopt;
    const Interval free{INT64_MIN, INT64_MAX};
    const Interval x = a.value_or(free), y = b.value_or(free);
    return isMaximum ? Interval{std::max(x.low, y.low), std::max(x.high, y.high)}
                     : Interval{std::min(x.low, y.low), std::min(x.high, y.high)};
  }

  /// 0 or 1 where the intervals decide, else both.
  Known ofCompare(ir::CompareOp op, int depth) {
    Known a = of(op.getLhs(), depth), b = of(op.getRhs(), depth);
    for (const Known &side : {a, b})
      meansNegatives |= side && side->low == side->high && side->low < 0;
    if (!a || !b)
      return Interval{0, 1};
    auto decide = [](bool always, bool never) { return Interval{always ? 1 : 0, never ? 0 : 1}; };
    switch (op.getPredicate()) {
    case ir::ComparePredicate::LT:
      return decide(a->high < b->low, a->low >= b->high);
    case ir::ComparePredicate::LE:
      return decide(a->high <= b->low, a->low > b->high);
    case ir::ComparePredicate::GT:
      return decide(a->low > b->high, a->high <= b->low);
    case ir::ComparePredicate::GE:
      return decide(a->low >= b->high, a->high < b->low);
    default:
      return Interval{0, 1};
    }
  }

  /// What `value` is where the comparison of it, or of what it adds a number to, has the outcome `holds`; nothing left:
  /// null, and `isPossible` is false.
  Known refined(Value value, ir::CompareOp op, bool holds, int depth, bool &isPossible) {
    Known own = of(value, depth);
    if (!op || !own)
      return own;
    Known limit = of(op.getRhs(), depth), shift = Interval{0, 0};
    if (value != op.getLhs()) {
      auto add = value.getDefiningOp<ir::AddOp>();
      shift = add && add.getLhs() == op.getLhs() ? of(add.getRhs(), depth) : std::nullopt;
    }
    if (!limit || !shift || limit->low != limit->high || shift->low != shift->high)
      return own;
    const Known bound = sum(limit, shift);
    if (!bound)
      return own;
    const int64_t at = bound->low;
    const ir::ComparePredicate predicate = op.getPredicate();
    if (predicate == (holds ? ir::ComparePredicate::LT : ir::ComparePredicate::GE))
      own->high = std::min(own->high, at - 1);
    else if (predicate == (holds ? ir::ComparePredicate::LE : ir::ComparePredicate::GT))
      own->high = std::min(own->high, at);
    else if (predicate == (holds ? ir::ComparePredicate::GT : ir::ComparePredicate::LE))
      own->low = std::max(own->low, at + 1);
    else if (predicate == (holds ? ir::ComparePredicate::GE : ir::ComparePredicate::LT))
      own->low = std::max(own->low, at);
    else if (predicate == (holds ? ir::ComparePredicate::EQ : ir::ComparePredicate::NE))
      own = Interval{std::max(own->low, at), std::min(own->high, at)};
    isPossible = own->low <= own->high;
    return isPossible ? own : std::nullopt;
  }

  Known ofSelect(ir::SelectOp op, int depth) {
    Known condition = of(op.getCondition(), depth);
    auto compare = op.getCondition().getDefiningOp<ir::CompareOp>();
    bool mayHold = !condition || condition->high > 0, mayFail = !condition || condition->low < 1;
    Known left, right;
    if (mayHold)
      left = refined(op.getLhs(), compare, true, depth, mayHold);
    if (mayFail)
      right = refined(op.getRhs(), compare, false, depth, mayFail);
    return !mayHold ? right : !mayFail ? left : unite(left, right);
  }

  Value input;
  Interval assumed;
  llvm::DenseMap<Value, Known> known;
};

/// The bound from one table; 0: none.
int64_t boundOf(ir::GatherOp gather, BlockArgument input) {
  const int64_t rows = ir::typeOf(gather.getTable()).getDimSize(0);
  auto fits = [&](int64_t bound) {
    Known index = Intervals(input, {0, bound - 1}).of(gather.getIndex());
    return index && index->high < rows;
  };
  Intervals negative(input, {-kUnbounded, -1});
  Known below = negative.of(gather.getIndex());
  const bool isHarmless = below && below->low >= 0 && below->high < rows;
  if (!negative.isReached || negative.meansNegatives || isHarmless || !fits(1) || fits(kUnbounded))
    return 0;
  int64_t good = 1, bad = kUnbounded;
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

} // namespace

int64_t indexBound(func::FuncOp function, BlockArgument input) {
  int64_t bound = 0;
  if (!isa<IntegerType>(ir::typeOf(input).getElementType()))
    return bound;
  function.walk([&](ir::GatherOp gather) {
    if (const int64_t own = boundOf(gather, input); own > 0)
      bound = bound == 0 ? own : std::min(bound, own);
  });
  return bound;
}

} // namespace moe::frontend
