//===- Decompose.cpp - Coarse operations in terms of finer ones -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/RetypeTensors.h"
#include "ir/TensorBuilder.h"

#include "llvm/ADT/Sequence.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>
#include <numbers>

using namespace mlir;

namespace moe::ir {

using Values = SmallVector<Value>;

#define MOE_DECOMPOSE(OP) FailureOr<SmallVector<Value>> OP::decompose(OpBuilder &builder)

MOE_DECOMPOSE(GeluOp) {
  TensorBuilder b(builder, getLoc());
  Value x = getInput(), inner;
  if (getApproximate() == GeluKind::Erf) {
    inner = b.make<ErfOp>(b.mul(x, std::numbers::sqrt2 / 2));
  } else {
    Value factor = b.add(b.mul(b.mul(x, x), 0.044715), 1.0);
    inner = b.tanh(b.mul(b.mul(x, std::sqrt(2.0 / std::numbers::pi)), factor));
  }
  return Values{b.mul(b.mul(x, 0.5), b.add(inner, 1.0))};
}

/// y[…, i, …] = sum over j of x[…, j, …], where j precedes i along `dim`.
static Value maskedSums(TensorBuilder &b, Value x, int64_t dim, bool exclusive, bool reverse) {
  RankedTensorType type = typeOf(x);
  const int64_t rank = type.getRank();
  // j becomes a new last dimension. `broadcast` keeps dimensions in order: bring the summed one to the end first.
  SmallVector<int64_t> shape(type.getShape()), last;
  shape.push_back(type.getDimSize(dim));
  for (int64_t d = 0; d < rank; ++d)
    if (d != dim)
      last.push_back(d);
  SmallVector<int64_t> kept = last;
  last.push_back(dim);
  kept.push_back(rank);
  Value terms = b.broadcast(b.transpose(x, last), shape, kept);
  RankedTensorType indices = withElement(typeOf(terms), b.builder.getI32Type());
  ComparePredicate precedes = reverse ? (exclusive ? ComparePredicate::GT : ComparePredicate::GE)
                                      : (exclusive ? ComparePredicate::LT : ComparePredicate::LE);
  Value counted = b.compare(precedes, b.iota(indices, rank), b.iota(indices, dim));
  return b.reduceLast(ReduceKind::Sum, b.select(counted, terms, b.splatLike(terms, 0.0)));
}

MOE_DECOMPOSE(CumsumOp) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType type = getType();
  constexpr int64_t chunk = 16, mostPairs = 4 * chunk;
  const auto dim = static_cast<int64_t>(getDim());
  const int64_t rank = type.getRank(), length = type.getDimSize(dim), chunks = llvm::divideCeil(length, chunk);
  if (length <= mostPairs)
    return Values{maskedSums(b, getInput(), dim, getExclusive(), getReverse())};

  // Sums within chunks, and of all chunks before, which this operation says again. Narrow floats are rounded once.
  Value x = getInput();
  const bool narrow = isa<FloatType>(type.getElementType()) && type.getElementTypeBitWidth() < 32;
  if (narrow)
    x = b.cast(x, builder.getF32Type());
  const SmallVector<int64_t> zeros(rank), ones(rank, 1);
  SmallVector<int64_t> more(rank), padded(type.getShape()), split(type.getShape()), whole;
  more[dim] = chunks * chunk - length;
  padded[dim] = chunks * chunk;
  split[dim] = chunks;
  split.insert(split.begin() + dim + 1, chunk);
  for (int64_t d = 0; d <= rank; ++d)
    if (d != dim + 1)
      whole.push_back(d);
  if (more[dim] > 0)
    x = b.make<PadOp>(x, zeros, more, zeros);
  x = b.reshape(x, split);
  Value before = CumsumOp::create(builder, getLoc(), b.reduce(ReduceKind::Sum, x, {dim + 1}), dim, true, getReverse());
  Value sums = b.add(maskedSums(b, x, dim + 1, getExclusive(), getReverse()), b.broadcast(before, split, whole));
  sums = b.reshape(sums, padded);
  if (more[dim] > 0)
    sums = b.make<SliceOp>(sums, zeros, type.getShape(), ones);
  return Values{narrow ? b.cast(sums, type.getElementType()) : sums};
}

MOE_DECOMPOSE(DropoutOp) {
  TensorBuilder b(builder, getLoc());
  double rate = getRate().convertToDouble();
  RankedTensorType type = withElement(getType(), builder.getF32Type());
  auto random = RandomUniformOp::create(builder, getLoc(), wholeOrSplit(type), getRng(), getSeed(), getSite());
  for (const char *name : {kLayoutAttr, kNumberedShapeAttr})
    if (Attribute place = (*this)->getAttr(name))
      random->setAttr(name, place);
  Value uniform = random.getResult();
  Value kept = b.compare(ComparePredicate::GE, uniform, b.splatLike(uniform, rate));
  return Values{b.select(kept, b.mul(getInput(), 1.0 / (1.0 - rate)), b.splatLike(getInput(), 0.0))};
}

MOE_DECOMPOSE(ScaleGradientOp) {
  return Values{getInput()};
}

MOE_DECOMPOSE(SoftmaxOp) {
  TensorBuilder b(builder, getLoc());
  Value x = getInput();
  Value e = b.exp(b.sub(x, b.broadcastRows(b.reduceLast(ReduceKind::Max, x), x)));
  return Values{b.div(e, b.broadcastRows(b.reduceLast(ReduceKind::Sum, e), x))};
}

MOE_DECOMPOSE(LayerNormOp) {
  TensorBuilder b(builder, getLoc());
  Value x = getInput();
  double inverse = 1.0 / static_cast<double>(typeOf(x).getShape().back());
  Value mean = b.mul(b.reduceLast(ReduceKind::Sum, x), inverse);
  Value centred = b.sub(x, b.broadcastRows(mean, x));
  Value variance = b.mul(b.reduceLast(ReduceKind::Sum, b.mul(centred, centred)), inverse);
  Value rstd = b.rsqrt(b.add(variance, getEpsilon().convertToDouble()));
  Value scaled = b.mul(b.mul(centred, b.broadcastRows(rstd, x)), b.broadcastLast(getScale(), x));
  return Values{b.add(scaled, b.broadcastLast(getBias(), x)), mean, rstd};
}

MOE_DECOMPOSE(RmsNormOp) {
  TensorBuilder b(builder, getLoc());
  Value x = getInput();
  double inverse = 1.0 / static_cast<double>(typeOf(x).getShape().back());
  Value square = b.mul(b.reduceLast(ReduceKind::Sum, b.mul(x, x)), inverse);
  Value rstd = b.rsqrt(b.add(square, getEpsilon().convertToDouble()));
  return Values{b.mul(b.mul(x, b.broadcastRows(rstd, x)), b.broadcastLast(getScale(), x)), rstd};
}

MOE_DECOMPOSE(SoftmaxCrossEntropyOp) {
  TensorBuilder b(builder, getLoc());
  Value x = getLogits(), labels = getLabels();
  RankedTensorType type = typeOf(x);
  Type i32 = builder.getI32Type();
  Value maximum = b.reduceLast(ReduceKind::Max, x);
  Value sum = b.reduceLast(ReduceKind::Sum, b.exp(b.sub(x, b.broadcastRows(maximum, x))));
  Value lse = b.add(maximum, b.log(sum));
  Value column = b.iota(withElement(type, i32), type.getRank() - 1);
  Value hit = b.compare(ComparePredicate::EQ, column, b.broadcastRows(b.cast(labels, i32), column));
  Value picked = b.reduceLast(ReduceKind::Sum, b.select(hit, x, b.splatLike(x, 0.0)));
  Value counted = b.compare(ComparePredicate::NE, labels, b.splatLike(labels, static_cast<int64_t>(getIgnoreIndex())));
  return Values{b.select(counted, b.sub(lse, picked), b.splatLike(lse, 0.0)), lse};
}

//===----------------------------------------------------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------------------------------------------------===//

/// `index` where `guard` is not negative, -1 elsewhere.
static Value guarded(TensorBuilder &b, Value guard, Value index) {
  return b.select(b.compare(ComparePredicate::LT, guard, b.splatLike(guard, 0)), b.splatLike(index, -1), index);
}

/// Row of each (group, token, choice) in rows seen as [E*G*C, M]: (expert * G + group) * C + slot, or -1.
static Value rowIndex(TensorBuilder &b, Value expert, Value slot, int64_t groups, int64_t capacity) {
  Value group = b.iota(typeOf(expert), 0);
  Value base = b.add(b.mul(expert, static_cast<double>(groups)), group);
  return guarded(b, slot, b.add(b.mul(base, static_cast<double>(capacity)), slot));
}

MOE_DECOMPOSE(DispatchOp) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType x = typeOf(getInput());
  int64_t groups = x.getDimSize(0), tokens = x.getDimSize(1), width = x.getDimSize(2);
  int64_t choices = typeOf(getExpert()).getDimSize(2);
  Value token = getToken();
  // First row of the group among [G*S*K].
  Value base = b.mul(b.iota(typeOf(token), 1), static_cast<double>(tokens * choices));
  Value entry = guarded(b, token, b.add(base, token));
  Value row = guarded(b, token, b.div(entry, b.splatLike(entry, static_cast<double>(choices))));
  Value rows = b.make<GatherOp>(b.reshape(getInput(), {groups * tokens, width}), row);
  if (getWeight()) {
    Value weight = b.make<GatherOp>(b.reshape(getWeight(), {groups * tokens * choices}), entry);
    rows = b.mul(rows, b.broadcastRows(weight, rows));
  }
  return Values{rows};
}

MOE_DECOMPOSE(CombineOp) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType rows = typeOf(getRows()), e = typeOf(getExpert());
  int64_t groups = e.getDimSize(0), tokens = e.getDimSize(1), choices = e.getDimSize(2);
  Value flat = b.reshape(getRows(), {rows.getDimSize(0) * groups * rows.getDimSize(2), rows.getDimSize(3)});
  auto choice = [&](Value v, int64_t k) {
    Value one = b.make<SliceOp>(v, ArrayRef<int64_t>{0, 0, k}, ArrayRef<int64_t>{groups, tokens, k + 1},
                                ArrayRef<int64_t>{1, 1, 1});
    return b.reshape(one, {groups, tokens});
  };
  Value sum;
  for (int64_t k = 0; k < choices; ++k) {
    Value index = rowIndex(b, choice(getExpert(), k), choice(getSlot(), k), groups, rows.getDimSize(2));
    Value term = b.make<GatherOp>(flat, index);
    if (getWeight())
      term = b.mul(term, b.broadcastRows(choice(getWeight(), k), term));
    sum = sum ? b.add(sum, term) : term;
  }
  return Values{sum};
}

MOE_DECOMPOSE(RoutedDotOp) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType rows = typeOf(getRows()), e = typeOf(getExpert());
  Value flat = b.reshape(getRows(), {rows.getDimSize(0) * rows.getDimSize(1) * rows.getDimSize(2), rows.getDimSize(3)});
  Value index = rowIndex(b, getExpert(), getSlot(), e.getDimSize(0), rows.getDimSize(2));
  Value gathered = b.make<GatherOp>(flat, index); // [G,S,K,M]
  Value x = b.broadcast(getInput(), typeOf(gathered).getShape(), {0, 1, 3});
  return Values{b.reduceLast(ReduceKind::Sum, b.mul(x, gathered))};
}

} // namespace moe::ir
