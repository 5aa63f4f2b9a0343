//===- DecomposeRows.cpp - A table of rows sorted by expert as a counting sort ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Stable and linear in the choices: they lie in chunks, within which all pairs are compared; how many choices of each
// expert a chunk has is counted with scatter_add. A running sum over the chunks then says where those of an expert
// begin in each chunk. Counts and numbers of choices are scattered as float32, which is exact below 2^24.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/GroupedRows.h"

#include "ir/TensorBuilder.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <array>

using namespace mlir;

namespace moe::ir {
namespace {

/// Choices that are compared with each other: few enough for the pairs, enough for the table of counts [chunks,experts]
/// to be no larger than the choices if possible. Longer lists of scatter_add's rows are slow on GPUs.
int64_t chunkOf(int64_t experts) {
  constexpr int64_t least = 16, most = 64;
  return std::clamp(static_cast<int64_t>(llvm::bit_ceil(static_cast<uint64_t>(experts))), least, most);
}

class GroupRowsDecomposition {
public:
  GroupRowsDecomposition(GroupRowsOp op, OpBuilder &builder)
      : op(op), b(builder, op.getLoc()), i32(builder.getI32Type()), f32(builder.getF32Type()) {
    RankedTensorType type = typeOf(op.getExpert());
    groups = type.getDimSize(0);
    choices = type.getDimSize(1) * type.getDimSize(2);
    experts = static_cast<int64_t>(op.getExperts());
    parts = static_cast<int64_t>(op.getParts());
    block = static_cast<int64_t>(op.getBlock());
    partBlocks = typeOf(op.getBlockExpert()).getDimSize(1) / parts;
    length = chunkOf(experts);
    chunks = llvm::divideCeil(choices, length);
  }

  SmallVector<Value> run() {
    Value chosen = b.reshape(op.getExpert(), {groups, choices});
    Value none = b.splat(RankedTensorType::get({groups, chunks * length - choices}, i32), -1);
    Value padded = chunks * length == choices ? chosen : b.make<ConcatOp>(ValueRange{chosen, none}, 1);
    padded = b.reshape(padded, {groups, chunks, length});

    // Choices of each expert in each chunk and in all, [G,Q,E] and [G,E].
    Value bin = b.add(b.mul(b.iota(typeOf(padded), 0), static_cast<double>(chunks)), b.iota(typeOf(padded), 1));
    bin = unlessNone(padded, b.add(b.mul(bin, static_cast<double>(experts)), padded));
    // An expert that does not exist must not count as one of the next chunk: scatter_add refuses its place.
    const std::array bins{groups * chunks * experts};
    Value exists = b.compare(ComparePredicate::LT, padded, b.splatLike(padded, static_cast<double>(experts)));
    bin = b.select(exists, bin, b.splatLike(bin, static_cast<double>(bins[0])));
    Value one = b.splat(withElement(typeOf(bin), f32), 1);
    Value counts = b.reshape(scatter(bins, bin, one), {groups, chunks, experts});
    Value sizes = b.reduce(ReduceKind::Sum, counts, {1});
    Value before = CumsumOp::create(b.builder, b.loc, counts, 1, true, false);

    Value last = lastBlocks(sizes);
    Value starts = b.broadcast(firstRows(last, sizes), {groups, chunks, experts}, {0, 2});
    Value table = b.reshape(b.add(before, starts), bins);
    Value row = unlessNone(padded, b.add(b.make<GatherOp>(table, bin), earlierInChunk(padded)));
    row = b.reshape(row, {groups, chunks * length});
    if (chunks * length != choices)
      row = b.make<SliceOp>(row, ArrayRef<int64_t>{0, 0}, ArrayRef<int64_t>{groups, choices}, ArrayRef<int64_t>{1, 1});
    return {b.reshape(row, typeOf(op.getSlot()).getShape()), holders(row), blockExperts(last)};
  }

private:
  GroupRowsOp op;
  TensorBuilder b;
  Type i32, f32;
  int64_t groups, choices, experts, parts, block, partBlocks, length, chunks;

  /// -1 where `number` is negative.
  Value unlessNone(Value number, Value value) {
    Value none = b.compare(ComparePredicate::LT, number, b.splatLike(number, 0));
    return b.select(none, b.splatLike(value, -1), value);
  }

  /// Sums of numbers at the places that `index` says, as i32.
  Value scatter(ArrayRef<int64_t> shape, Value index, Value numbers) {
    auto table = RankedTensorType::get(shape, f32);
    return b.cast(b.make<ScatterAddOp>(table, index, numbers, Value()), i32);
  }

  Value count(Value condition, int64_t dim) {
    RankedTensorType numbers = withElement(typeOf(condition), i32);
    return b.reduce(ReduceKind::Sum, b.select(condition, b.splat(numbers, 1), b.splat(numbers, 0)), {dim});
  }

  Value blocksOf(Value sizes) {
    auto rows = static_cast<double>(block);
    return b.reshape(b.div(b.add(sizes, rows - 1), b.splatLike(sizes, rows)), {groups, parts, experts / parts});
  }

  /// Blocks of a part that its experts up to each one take, [G,parts,experts of a part].
  Value lastBlocks(Value sizes) { return CumsumOp::create(b.builder, b.loc, blocksOf(sizes), 2, false, false); }

  /// The first row of each expert, [G,E]: behind all parts before, and the experts before it in its part.
  Value firstRows(Value last, Value sizes) {
    Value before = b.mul(b.iota(typeOf(last), 1), static_cast<double>(partBlocks));
    Value first = b.add(b.sub(last, blocksOf(sizes)), before);
    return b.reshape(b.mul(first, static_cast<double>(block)), {groups, experts});
  }

  /// Choices of the same expert before each one in its chunk.
  Value earlierInChunk(Value padded) {
    SmallVector<int64_t> pairs{groups, chunks, length, length};
    Value own = b.broadcast(padded, pairs, {0, 1, 2}), other = b.broadcast(padded, pairs, {0, 1, 3});
    Value earlier = b.compare(ComparePredicate::LT, b.iota(typeOf(own), 3), b.iota(typeOf(own), 2));
    return count(b.conj(b.compare(ComparePredicate::EQ, own, other), earlier), 3);
  }

  /// The choice in each row, or -1.
  Value holders(Value row) {
    const int64_t rows = parts * partBlocks * block;
    Value place = b.add(b.mul(b.iota(typeOf(row), 0), static_cast<double>(rows)), row);
    place = unlessNone(row, place);
    Value number = b.cast(b.add(b.iota(typeOf(row), 1), 1), f32);
    return b.reshape(b.add(scatter({groups * rows}, place, number), -1), typeOf(op.getToken()).getShape());
  }

  /// A block belongs to the first expert of its part whose rows end after it.
  Value blockExperts(Value last) {
    const int64_t partExperts = experts / parts;
    Value end = b.broadcast(last, {groups, parts, partBlocks, partExperts}, {0, 1, 3});
    Value expertOf = count(b.compare(ComparePredicate::LE, end, b.iota(typeOf(end), 2)), 3);
    Value none = b.compare(ComparePredicate::GE, expertOf, b.splatLike(expertOf, static_cast<double>(partExperts)));
    return b.reshape(b.select(none, b.splatLike(expertOf, -1), expertOf), typeOf(op.getBlockExpert()).getShape());
  }
};

} // namespace

FailureOr<SmallVector<Value>> GroupRowsOp::decompose(OpBuilder &builder) {
  return GroupRowsDecomposition(*this, builder).run();
}

} // namespace moe::ir
