//===- Norms.cpp - Layer norm and root mean square norm from their statistics -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "mlir/IR/OperationSupport.h"
#include "passes/recompose/Axes.h"
#include "passes/recompose/Recompose.h"

#include <cmath>

using namespace mlir;

namespace moe::ir::recompose {

namespace {

/// Whether two values are the same computation, if one was written down twice.
bool isSame(Value a, Value b, int depth = 0) {
  if (a == b)
    return true;
  Operation *left = a.getDefiningOp(), *right = b.getDefiningOp();
  return left && right && depth < 8 && isMemoryEffectFree(left) && left->getName() == right->getName() &&
         cast<OpResult>(a).getResultNumber() == cast<OpResult>(b).getResultNumber() &&
         OperationEquivalence::isEquivalentTo(
             left, right, [&](Value x, Value y) { return success(isSame(x, y, depth + 1)); },
             /*markEquivalent=*/nullptr, OperationEquivalence::IgnoreLocations);
}

class NormFinder {
public:
  NormFinder(Operation *op, KnownValues &values) : op(op), values(values) {
    whole = axes.fresh(op->getResult(0));
    width = whole.dims.empty() ? 0 : typeOf(op->getResult(0)).getShape().back();
  }

  void run() {
    if (width == 0)
      return;
    if (isa<DivOp>(op))
      normalise(op->getOperand(0), op->getOperand(1), /*inverse=*/false);
    if (isa<MulOp, AddOp>(op))
      for (auto [value, other] :
           {std::pair(op->getOperand(0), op->getOperand(1)), std::pair(op->getOperand(1), op->getOperand(0))})
        if ((isa<MulOp>(op) && normalise(value, other, /*inverse=*/true)) || absorb(value, other))
          return;
  }

private:
  /// A statistic as it was made: one number per row.
  std::optional<View> statistic(View view) {
    view = axes.source(std::move(view));
    AxisList leading;
    for (const AxisList &dim : ArrayRef<AxisList>(whole.dims).drop_back())
      llvm::append_range(leading, axes.expand(dim));
    return axes.flat(view) == leading ? std::optional(view) : std::nullopt;
  }

  std::optional<View> operand(const View &view, Value value) { return statistic(View{value, view.dims}); }

  bool close(std::optional<double> number, double wanted) {
    return number && std::fabs(*number - wanted) <= 1e-6 * std::fabs(wanted);
  }

  /// u of 1/sqrt(u) (`inverse`) or sqrt(u).
  std::optional<View> rooted(const View &view, bool inverse) {
    Operation *root = view.value.getDefiningOp();
    if (auto rsqrt = dyn_cast_or_null<RsqrtOp>(root); rsqrt && inverse)
      return operand(view, rsqrt.getInput());
    if (auto sqrt = dyn_cast_or_null<SqrtOp>(root); sqrt && !inverse)
      return operand(view, sqrt.getInput());
    if (auto pow = dyn_cast_or_null<PowOp>(root); pow && close(values.scalar(pow.getRhs()), inverse ? -0.5 : 0.5))
      return operand(view, pow.getLhs());
    if (auto div = dyn_cast_or_null<DivOp>(root); div && inverse && values.scalar(div.getLhs()) == 1.0) {
      std::optional<View> divisor = operand(view, div.getRhs());
      return divisor ? rooted(*divisor, false) : std::nullopt;
    }
    return std::nullopt;
  }

  /// x of mean(x) along the last dimension.
  Value averaged(const View &view) {
    Value sum;
    if (auto div = view.value.getDefiningOp<DivOp>(); div && close(values.scalar(div.getRhs()), width))
      sum = div.getLhs();
    if (auto mul = view.value.getDefiningOp<MulOp>()) {
      if (close(values.scalar(mul.getRhs()), 1.0 / static_cast<double>(width)))
        sum = mul.getLhs();
      else if (close(values.scalar(mul.getLhs()), 1.0 / static_cast<double>(width)))
        sum = mul.getRhs();
    }
    std::optional<View> total = sum ? operand(view, sum) : std::nullopt;
    auto reduce = total ? total->value.getDefiningOp<ReduceOp>() : ReduceOp();
    if (!reduce || reduce.getKind() != ReduceKind::Sum || reduce.getInput().getType() != op->getResult(0).getType() ||
        reduce.getDims() != ArrayRef<int64_t>{typeOf(reduce.getInput()).getRank() - 1})
      return {};
    // Rows in their own order, not transposed on the way.
    return reduce.getInput();
  }

  Value squared(Value value) {
    if (auto mul = value.getDefiningOp<MulOp>(); mul && isSame(mul.getLhs(), mul.getRhs()))
      return mul.getLhs();
    if (auto pow = value.getDefiningOp<PowOp>(); pow && values.scalar(pow.getRhs()) == 2.0)
      return pow.getLhs();
    return {};
  }

  /// `value` times (`inverse`) or by `other`, where other comes from the mean of its squares.
  bool normalise(Value value, Value other, bool inverse) {
    std::optional<View> root = statistic(View{other, whole.dims});
    std::optional<View> shifted = root ? rooted(*root, inverse) : std::nullopt;
    if (!shifted)
      return false;
    double epsilon = 0;
    View variance = *shifted;
    if (auto add = shifted->value.getDefiningOp<AddOp>())
      for (auto [number, rest] : {std::pair(add.getRhs(), add.getLhs()), std::pair(add.getLhs(), add.getRhs())})
        if (std::optional<double> known = values.scalar(number)) {
          std::optional<View> inner = operand(*shifted, rest);
          if (!inner)
            return false;
          epsilon = *known;
          variance = *inner;
          break;
        }
    Value squares = averaged(variance), base = squares ? squared(squares) : Value();
    if (!base || !isSame(base, value) || epsilon < 0)
      return false;
    OpBuilder builder(op);
    TensorBuilder b(builder, op->getLoc());
    RankedTensorType type = typeOf(value);
    Value ones = b.splat(RankedTensorType::get({width}, type.getElementType()), 1.0);
    if (Value input = uncentred(value)) {
      Value zeros = b.splat(typeOf(ones), 0.0);
      op->getResult(0).replaceAllUsesWith(b.make<LayerNormOp>(input, ones, zeros, builder.getF64FloatAttr(epsilon)));
    } else {
      op->getResult(0).replaceAllUsesWith(b.make<RmsNormOp>(value, ones, builder.getF64FloatAttr(epsilon)));
    }
    return true;
  }

  /// x of x - mean(x).
  Value uncentred(Value value) {
    auto sub = value.getDefiningOp<SubOp>();
    std::optional<View> mean = sub ? statistic(View{sub.getRhs(), whole.dims}) : std::nullopt;
    Value input = mean ? averaged(*mean) : Value();
    return input && isSame(input, sub.getLhs()) ? sub.getLhs() : Value();
  }

  /// Makes a factor or a term along the last dimension the scale or bias of the norm that it is applied to.
  bool absorb(Value value, Value other) {
    Operation *norm = value.getDefiningOp();
    if (!isa_and_nonnull<LayerNormOp, RmsNormOp>(norm) || !value.hasOneUse() || value != norm->getResult(0))
      return false;
    View vector = axes.source(View{other, whole.dims});
    if (axes.flat(vector) != axes.expand(whole.dims.back()) || axes.flat(vector).empty())
      return false;
    auto isUnset = [&](unsigned parameter, double neutral) {
      return values.scalar(norm->getOperand(parameter)) == neutral;
    };
    unsigned parameter = isa<MulOp>(op) ? 1 : 2;
    if (!isUnset(parameter, parameter == 1 ? 1 : 0) || (parameter == 2 && isa<RmsNormOp>(norm)) ||
        (parameter == 1 && isa<LayerNormOp>(norm) && !isUnset(2, 0)))
      return false;
    OpBuilder builder(op);
    TensorBuilder b(builder, op->getLoc());
    Operation *scaled = builder.clone(*norm);
    builder.setInsertionPoint(scaled);
    scaled->setOperand(parameter, axes.arrange(b, vector, {whole.dims.back()}));
    op->getResult(0).replaceAllUsesWith(scaled->getResult(0));
    return true;
  }

  Operation *op;
  KnownValues &values;
  AxisTable axes;
  View whole;
  int64_t width = 0;
};

} // namespace

void rewriteNorms(Operation *function, KnownValues &values) {
  SmallVector<Operation *> candidates;
  function->walk([&](Operation *op) {
    if (isa<MulOp, DivOp, AddOp>(op) && isa<FloatType>(typeOf(op->getResult(0)).getElementType()))
      candidates.push_back(op);
  });
  for (Operation *op : candidates)
    NormFinder(op, values).run();
}

} // namespace moe::ir::recompose
