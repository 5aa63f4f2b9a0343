//===- DecomposeSort.cpp - Sorting by counting ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"

#include "llvm/ADT/Sequence.h"

using namespace mlir;

namespace moe::ir {

FailureOr<SmallVector<Value>> SortOp::decompose(OpBuilder &builder) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType type = typeOf(getInput());
  int64_t rank = type.getRank();
  SmallVector<int64_t> pairs(type.getShape()), columns = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  pairs.push_back(pairs.back());
  SmallVector<int64_t> rows = columns;
  rows.back() = rank;
  // The place of element i is the number of elements j before it. Pairs are [..., i, j].
  Value own = b.broadcast(getInput(), pairs, columns), other = b.broadcast(getInput(), pairs, rows);
  RankedTensorType numbers = withElement(typeOf(own), builder.getI32Type());
  Value i = b.iota(numbers, rank - 1), j = b.iota(numbers, rank), tied = b.compare(ComparePredicate::EQ, own, other);
  Value before = b.compare(ComparePredicate::GT, other, own);
  if (isa<FloatType>(type.getElementType())) {
    Value ownNaN = b.compare(ComparePredicate::NE, own, own), otherNaN = b.compare(ComparePredicate::NE, other, other);
    tied = b.make<OrOp>(tied, b.conj(ownNaN, otherNaN));
    before = b.make<OrOp>(before, b.conj(ownNaN, b.make<NotOp>(otherNaN)));
  }
  before = b.make<OrOp>(before, b.conj(tied, b.compare(ComparePredicate::LT, j, i)));
  Value place = b.reduceLast(ReduceKind::Sum, b.select(before, b.splat(numbers, 1), b.splat(numbers, 0)));
  // Exactly one element i has place r. Pairs are [..., r, i].
  Value here = b.compare(ComparePredicate::EQ, b.broadcast(place, pairs, rows), i);
  return SmallVector<Value>{b.reduceLast(ReduceKind::Sum, b.select(here, other, b.splatLike(other, 0))),
                            b.reduceLast(ReduceKind::Sum, b.select(here, j, b.splat(numbers, 0)))};
}

} // namespace moe::ir
