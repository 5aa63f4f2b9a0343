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
        .Case<RandomUniformOp, DropoutOp>([&](auto random) { return bindRandom(random, layout); })
        .Case<AttentionOp, AttentionBackwardOp>(
            [&](auto attention) { return attention.getRng() ? bindRandom(attention, layout) : success(); })
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

  template <typename OpTy> LogicalResult bindRandom(OpTy op, LayoutAttr layout) {
    RankedTensorType type = typeOf(op->getResult(0));
    Split split;
    bool outermost = true;
    for (int64_t dim = 0; dim < type.getRank(); ++dim) {
      Split here = splitOf(layout, mesh, dim);
      if (here.parts > 1 && !outermost)
        return op.emitError() << "'" << op->getName() << "' draws numbers for a part that is not contiguous in the "
                              << "whole tensor (" << layout
                              << "); such layouts are planned: choose another mesh, or no "
                              << "dropout there";
      if (here.parts > 1)
        split = here;
      outermost &= here.parts == 1 && type.getDimSize(dim) == 1;
    }
    if (split.parts == 1)
      return success();
    OpBuilder builder(op);
    TensorBuilder b(builder, op.getLoc());
    Value rng = op.getRng();
    auto entry = [&](int64_t i) {
      return b.make<SliceOp>(rng, ArrayRef<int64_t>{i}, ArrayRef<int64_t>{i + 1}, ArrayRef<int64_t>{1});
    };
    Value micro = b.add(b.mul(entry(1), static_cast<double>(split.parts)), number(b, split));
    SmallVector<Value> parts{entry(0), micro};
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
