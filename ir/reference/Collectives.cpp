//===- Collectives.cpp - Reference semantics of operations between ranks
//--------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/RetypeTensors.h"
#include "ir/reference/Indexing.h"
#include "ir/reference/Interpreter.h"

using namespace mlir;

namespace moe::ir {

//===----------------------------------------------------------------------------------------------------------------===//
// Where a part lies
//===----------------------------------------------------------------------------------------------------------------===//

int64_t Place::elements() const {
  return productFrom(whole, 0);
}

int64_t Place::index(ArrayRef<int64_t> part, int64_t index) const {
  SmallVector<int64_t> wholeStrides = stridesOf(whole), partStrides = stridesOf(part);
  int64_t result = 0;
  for (size_t d = 0; d < part.size(); ++d) {
    result += (offset[d] + index / partStrides[d]) * wholeStrides[d];
    index %= partStrides[d];
  }
  return result;
}

Place placeOf(const InterpreterContext &context, Operation *op, Value result) {
  RankedTensorType type = typeOf(result);
  Place place{SmallVector<int64_t>(type.getShape()), SmallVector<int64_t>(type.getRank(), 0)};
  auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
  if (!layout)
    layout = op->getAttrOfType<LayoutAttr>(kLayoutAttr);
  auto module = op->getParentOfType<ModuleOp>();
  MeshAttr mesh = module ? MeshAttr::of(module) : MeshAttr();
  if (!layout || !mesh || context.coordinates.empty())
    return place;
  // Minor axes first: a part of theirs is the unit of the next one.
  for (unsigned axis = layout.getAxes().size(); axis-- > 0;)
    if (layout.kind(axis) == AxisKind::Shard) {
      int64_t dim = layout.getDims()[axis];
      place.offset[dim] += context.coordinates[axis] * place.whole[dim];
      place.whole[dim] *= mesh.getSizes()[axis];
    }
  if (auto numbered = op->getAttrOfType<DenseI64ArrayAttr>(kNumberedShapeAttr))
    place.whole.assign(numbered.asArrayRef().begin(), numbered.asArrayRef().end());
  return place;
}

namespace {

using Members = ArrayRef<SmallVector<const HostTensor *>>;
using GroupResults = MutableArrayRef<std::vector<HostTensor>>;

/// Copies between the part of `whole` that starts at `start` along `dim` and `part`.
template <typename Vector>
void copyPart(Vector &to, const Vector &from, bool toWhole, ArrayRef<int64_t> whole, ArrayRef<int64_t> part,
              int64_t dim, int64_t start) {
  int64_t inner = productFrom(whole, dim + 1), outer = productFrom(whole, 0) / productFrom(whole, dim);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < part[dim] * inner; ++i) {
      int64_t inWhole = (o * whole[dim] + start) * inner + i, inPart = o * part[dim] * inner + i;
      to[toWhole ? inWhole : inPart] = from[toWhole ? inPart : inWhole];
    }
}

/// Part `i` along `dim`; the shape of `part` says how large it is.
void cut(const HostTensor &whole, int64_t dim, int64_t i, HostTensor &part) {
  whole.isFloat ? copyPart(part.floats, whole.floats, false, whole.shape, part.shape, dim, i * part.shape[dim])
                : copyPart(part.ints, whole.ints, false, whole.shape, part.shape, dim, i * part.shape[dim]);
}

/// Puts part `i` along `dim` in its place.
void paste(HostTensor &whole, int64_t dim, int64_t i, const HostTensor &part) {
  whole.isFloat ? copyPart(whole.floats, part.floats, true, whole.shape, part.shape, dim, i * part.shape[dim])
                : copyPart(whole.ints, part.ints, true, whole.shape, part.shape, dim, i * part.shape[dim]);
}

/// Zeros like `tensor`, `factor` times as long along `dim`.
HostTensor longer(const HostTensor &tensor, int64_t dim, size_t factor) {
  HostTensor result = tensor;
  result.shape[dim] *= static_cast<int64_t>(factor);
  result.isFloat ? result.floats.assign(tensor.floats.size() * factor, 0)
                 : result.ints.assign(tensor.ints.size() * factor, 0);
  return result;
}

HostTensor sumOf(Members operands) {
  HostTensor sum = *operands[0][0];
  for (size_t member = 1; member < operands.size(); ++member)
    for (size_t i = 0; i < sum.floats.size(); ++i)
      sum.floats[i] += operands[member][0]->floats[i];
  return sum;
}

HostTensor joined(Members operands, int64_t dim) {
  HostTensor whole = longer(*operands[0][0], dim, operands.size());
  for (size_t member = 0; member < operands.size(); ++member)
    paste(whole, dim, static_cast<int64_t>(member), *operands[member][0]);
  return whole;
}

} // namespace

#define MOE_GROUP(OP)                                                                                                  \
  LogicalResult OP::interpret(InterpreterContext &, ArrayRef<const HostTensor *> operands,                             \
                              MutableArrayRef<HostTensor> results) {                                                   \
    return interpretAlone(*this, operands, results);                                                                   \
  }                                                                                                                    \
  LogicalResult OP::interpretGroup(Members operands, GroupResults results)

/// On one rank: a group of one.
static LogicalResult interpretAlone(CollectiveOpInterface op, ArrayRef<const HostTensor *> operands,
                                    MutableArrayRef<HostTensor> results) {
  auto module = op->getParentOfType<ModuleOp>();
  MeshAttr mesh = module ? MeshAttr::of(module) : MeshAttr();
  if (mesh && mesh.ranks() > 1)
    return op->emitOpError() << "concerns all ranks of " << mesh << " and cannot run on one of them";
  std::vector<HostTensor> computed(results.begin(), results.end());
  SmallVector<const HostTensor *> mine(operands);
  if (failed(op.interpretGroup(mine, computed)))
    return failure();
  std::move(computed.begin(), computed.end(), results.begin());
  return success();
}

MOE_GROUP(AllReduceOp) {
  HostTensor sum = sumOf(operands);
  for (auto &mine : results)
    mine[0] = sum;
  return success();
}

MOE_GROUP(AllGatherOp) {
  HostTensor whole = joined(operands, getDim());
  for (auto &mine : results)
    mine[0] = whole;
  return success();
}

MOE_GROUP(ReduceScatterOp) {
  HostTensor sum = sumOf(operands);
  for (auto [i, mine] : llvm::enumerate(results))
    cut(sum, getDim(), static_cast<int64_t>(i), mine[0]);
  return success();
}

MOE_GROUP(AllToAllOp) {
  HostTensor whole = joined(operands, getFrom());
  for (auto [i, mine] : llvm::enumerate(results))
    cut(whole, getTo(), static_cast<int64_t>(i), mine[0]);
  return success();
}

MOE_GROUP(AllSliceOp) {
  for (auto [i, mine] : llvm::enumerate(results))
    cut(*operands[i][0], getDim(), static_cast<int64_t>(i), mine[0]);
  return success();
}

MOE_GROUP(PadSliceOp) {
  for (auto [i, mine] : llvm::enumerate(results)) {
    mine[0] = longer(*operands[i][0], getDim(), operands.size());
    paste(mine[0], getDim(), static_cast<int64_t>(i), *operands[i][0]);
  }
  return success();
}

MOE_GROUP(AsPartialOp) {
  for (auto [i, mine] : llvm::enumerate(results))
    if (i == 0)
      mine[0] = *operands[0][0];
  return success();
}

MOE_GROUP(OwnSlotsOp) {
  for (auto [i, mine] : llvm::enumerate(results)) {
    const HostTensor &expert = *operands[i][0], &slot = *operands[i][1], &token = *operands[i][2];
    const auto dim = static_cast<int64_t>(getDim());
    const int64_t own = mine[2].shape[dim], start = static_cast<int64_t>(i) * own;
    for (size_t c = 0; c < slot.ints.size(); ++c) {
      int64_t at = dim == 0 ? expert.ints[c] : slot.ints[c];
      bool isOwn = slot.ints[c] >= 0 && at >= start && at < start + own;
      mine[0].ints[c] = isOwn && dim == 0 ? at - start : expert.ints[c];
      mine[1].ints[c] = !isOwn ? -1 : dim == 0 ? slot.ints[c] : at - start;
      if (!isOwn)
        mine[0].ints[c] = 0;
    }
    cut(token, dim, static_cast<int64_t>(i), mine[2]);
  }
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Buckets
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult BucketSplitOp::interpret(InterpreterContext &, ArrayRef<const HostTensor *> operands,
                                       MutableArrayRef<HostTensor> results) {
  for (auto [member, offset] : llvm::zip_equal(results, getOffsets()))
    std::copy_n(operands[0]->floats.begin() + offset, member.floats.size(), member.floats.begin());
  return success();
}

LogicalResult BucketJoinOp::interpret(InterpreterContext &, ArrayRef<const HostTensor *> operands,
                                      MutableArrayRef<HostTensor> results) {
  for (auto [member, offset] : llvm::zip_equal(operands, getOffsets()))
    std::copy(member->floats.begin(), member->floats.end(), results[0].floats.begin() + offset);
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Start and done
//===----------------------------------------------------------------------------------------------------------------===//

/// Collectives are computed where they are started.
LogicalResult DoneOp::interpret(InterpreterContext &, ArrayRef<const HostTensor *> operands,
                                MutableArrayRef<HostTensor> results) {
  results[0] = *operands[0];
  return success();
}

} // namespace moe::ir
