//===- BindPlaces.cpp - Where a rank's part lies, as data ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/BindPlaces.h"

#include "ir/RetypeTensors.h"
#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// Axes that split a dimension.
struct Split {
  SmallVector<Attribute> axes;
  int64_t parts = 1;
};

Split splitOf(LayoutAttr layout, MeshAttr mesh, int64_t dim) {
  Split split;
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
    if (layout.kind(axis) == AxisKind::Shard && layout.getDims()[axis] == dim && mesh.getSizes()[axis] > 1) {
      split.axes.push_back(layout.getAxes()[axis]);
      split.parts *= mesh.getSizes()[axis];
    }
  return split;
}

class Binder {
public:
  explicit Binder(MeshAttr mesh) : mesh(mesh) {}

  LogicalResult bind(Operation *op, LayoutAttr layout) {
    op->removeAttr(kLayoutAttr);
    return TypeSwitch<Operation *, LogicalResult>(op)
        .Case([&](IotaOp iota) { return bindIota(iota, layout); })
        .Case([&](RandomUniformOp random) { return bindRandom(random, layout); })
        .Case<AttentionOp, AttentionBackwardOp>(
            [&](auto attention) { return attention.getRng() ? bindAttention(attention, layout) : success(); })
        .Default([&](Operation *other) {
          return other->emitError() << "'" << other->getName()
                                    << "' depends on its place in a way that is unknown here";
        });
  }

private:
  MeshAttr mesh;

  /// Number of this rank's part: tensor<1xi64>.
  Value number(TensorBuilder &b, const Split &split) {
    auto all = RankedTensorType::get(split.parts, b.builder.getI64Type());
    return AllSliceOp::create(b.builder, b.loc, withShape(all, {1}), b.iota(all, 0), b.builder.getArrayAttr(split.axes),
                              b.builder.getI64IntegerAttr(0));
  }

  LogicalResult bindIota(IotaOp iota, LayoutAttr layout) {
    const auto dim = static_cast<int64_t>(iota.getDim());
    const Split split = splitOf(layout, mesh, dim);
    if (split.parts == 1)
      return success();
    OpBuilder builder(iota->getContext());
    builder.setInsertionPointAfter(iota);
    TensorBuilder b(builder, iota.getLoc());
    Value start = b.mul(number(b, split), static_cast<double>(iota.getType().getDimSize(dim)));
    start = b.cast(b.reshape(start, {}), iota.getType().getElementType());
    Value moved = b.add(iota, b.broadcastScalar(start, iota));
    iota.getResult().replaceAllUsesExcept(moved, moved.getDefiningOp());
    return success();
  }

  Value entry(TensorBuilder &b, Value rng, int64_t i) {
    return b.make<SliceOp>(rng, ArrayRef<int64_t>{i}, ArrayRef<int64_t>{i + 1}, ArrayRef<int64_t>{1});
  }

  LogicalResult bindRandom(RandomUniformOp op, LayoutAttr layout) {
    SmallVector<int64_t> whole(op.getType().getShape());
    SmallVector<Split> splits;
    for (auto [dim, size] : llvm::enumerate(whole)) {
      splits.push_back(splitOf(layout, mesh, static_cast<int64_t>(dim)));
      size *= splits.back().parts;
    }
    if (auto numbered = op->getAttrOfType<DenseI64ArrayAttr>(kNumberedShapeAttr))
      whole.assign(numbered.asArrayRef().begin(), numbered.asArrayRef().end());
    OpBuilder builder(op);
    TensorBuilder b(builder, op.getLoc());
    Value start;
    for (auto [dim, split] : llvm::enumerate(splits)) {
      if (split.parts == 1)
        continue;
      int64_t step = op.getType().getDimSize(static_cast<int64_t>(dim));
      for (size_t inner = dim + 1; inner < whole.size(); ++inner)
        step *= whole[inner];
      Value here = b.mul(number(b, split), static_cast<double>(step));
      start = start ? b.add(start, here) : here;
    }
    if (!start)
      return success();
    Value rng = op.getRng();
    SmallVector<Value> parts{entry(b, rng, 0), entry(b, rng, 1), start};
    op.getRngMutable().assign(b.make<ConcatOp>(ValueRange(parts), 0));
    op->setAttr(kWholeShapeAttr, builder.getDenseI64ArrayAttr(whole));
    return success();
  }

  /// The library counts through what it is given, so the part must be contiguous in [B,H,T,S]: split by sequences, or
  /// by heads of a single one. It is then what a tensor of its size would be for micro-batch m n + r, of n parts the
  /// r-th.
  template <typename OpTy> LogicalResult bindAttention(OpTy op, LayoutAttr layout) {
    const Split sequences = splitOf(layout, mesh, 0), heads = splitOf(layout, mesh, 2);
    if (sequences.parts == 1 && heads.parts == 1)
      return success();
    const bool one = sequences.parts == 1 && typeOf(op->getResult(0)).getDimSize(0) == 1;
    if (heads.parts > 1 && !one)
      return op.emitError() << "'" << op->getName() << "' drops weights of some heads of many sequences (" << layout
                            << "); such layouts are planned: choose another mesh, or no attention dropout";
    const Split &split = heads.parts > 1 ? heads : sequences;
    OpBuilder builder(op);
    TensorBuilder b(builder, op.getLoc());
    Value rng = op.getRng();
    Value micro = b.add(b.mul(entry(b, rng, 1), static_cast<double>(split.parts)), number(b, split));
    SmallVector<Value> parts{entry(b, rng, 0), micro};
    op.getRngMutable().assign(b.make<ConcatOp>(ValueRange(parts), 0));
    return success();
  }
};

} // namespace

LogicalResult bindPlaces(ModuleOp module) {
  MeshAttr mesh = MeshAttr::of(module);
  if (!mesh)
    return success();
  Binder binder(mesh);
  SmallVector<Operation *> placed;
  module.walk([&](Operation *op) {
    if (op->hasTrait<PlaceDependent>() && op->getAttrOfType<LayoutAttr>(kLayoutAttr))
      placed.push_back(op);
  });
  bool ok = true;
  for (Operation *op : placed)
    ok &= succeeded(binder.bind(op, op->getAttrOfType<LayoutAttr>(kLayoutAttr)));
  return success(ok);
}

} // namespace moe::ir
