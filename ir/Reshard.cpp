//===- Reshard.cpp - From one layout to another
//--------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Reshard.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// How a value lies on one axis, and should.
struct Transition {
  AxisKind from, to;
  int64_t fromDim, toDim;

  bool operator==(const Transition &other) const {
    return from == other.from && to == other.to && fromDim == other.fromDim && toDim == other.toDim;
  }
  bool isIdentity() const { return from == to && (from != AxisKind::Shard || fromDim == toDim); }
};

Transition transition(LayoutAttr from, LayoutAttr to, unsigned axis) {
  auto dim = [&](LayoutAttr layout) { return layout.kind(axis) == AxisKind::Shard ? layout.getDims()[axis] : 0; };
  return {from.kind(axis), to.kind(axis), dim(from), dim(to)};
}

/// Bytes of `part` before axis `axis` cut it.
double bytesOnAxis(RankedTensorType part, LayoutAttr layout, unsigned axis, int64_t ranks) {
  auto bytes = static_cast<double>(tensorBytes(part));
  return layout.kind(axis) == AxisKind::Shard ? bytes * static_cast<double>(ranks) : bytes;
}

class Resharder {
public:
  Resharder(OpBuilder &builder, MeshAttr mesh, StringRef insertedBy)
      : builder(builder), mesh(mesh), insertedBy(insertedBy) {}

  /// Moves the axes of `group` of `value` by `how`.
  FailureOr<Value> apply(Value value, ArrayRef<unsigned> group, const Transition &how) {
    auto layout = cast<LayoutAttr>(typeOf(value).getEncoding());
    SmallVector<Attribute> axes;
    LayoutAttr to = layout;
    for (unsigned axis : group) {
      axes.push_back(layout.getAxes()[axis]);
      to = to.with(axis, how.to, how.toDim);
    }
    FailureOr<RankedTensorType> type = partType(value.getLoc(), wholeType(typeOf(value), mesh), to, mesh);
    if (failed(type))
      return failure();
    ArrayAttr names = builder.getArrayAttr(axes);
    Operation *op = make(value, *type, names, how);
    if (!op)
      return emitError(value.getLoc()) << "no operation makes " << *type << " of " << value.getType();
    op->setAttr(kInsertedByAttr, builder.getStringAttr(insertedBy));
    return op->getResult(0);
  }

private:
  OpBuilder &builder;
  MeshAttr mesh;
  StringRef insertedBy;

  Operation *make(Value value, RankedTensorType type, ArrayAttr axes, const Transition &how) {
    Location loc = value.getLoc();
    switch (how.from) {
    case AxisKind::Replicate:
      return how.to == AxisKind::Shard ? AllSliceOp::create(builder, loc, type, value, axes, how.toDim).getOperation()
                                       : AsPartialOp::create(builder, loc, type, value, axes).getOperation();
    case AxisKind::Partial:
      return how.to == AxisKind::Shard
                 ? ReduceScatterOp::create(builder, loc, type, value, axes, how.toDim).getOperation()
                 : AllReduceOp::create(builder, loc, type, value, axes).getOperation();
    case AxisKind::Shard:
      if (how.to == AxisKind::Replicate)
        return AllGatherOp::create(builder, loc, type, value, axes, how.fromDim);
      if (how.to == AxisKind::Partial)
        return PadSliceOp::create(builder, loc, type, value, axes, how.fromDim);
      return AllToAllOp::create(builder, loc, type, value, axes, how.fromDim, how.toDim);
    }
    return nullptr;
  }
};

} // namespace

FailureOr<RankedTensorType> partType(std::optional<Location> loc, RankedTensorType whole, LayoutAttr layout,
                                     MeshAttr mesh) {
  SmallVector<int64_t> shape(whole.getShape());
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis) {
    if (layout.kind(axis) != AxisKind::Shard)
      continue;
    int64_t &size = shape[layout.getDims()[axis]];
    if (size % mesh.getSizes()[axis] != 0)
      return emitOptionalError(loc, "dimension ", layout.getDims()[axis], " of ", whole,
                               " does not divide into equal parts as ", layout, " on ", mesh, " says");
    size /= mesh.getSizes()[axis];
  }
  return RankedTensorType::get(shape, whole.getElementType(), layout);
}

RankedTensorType wholeType(RankedTensorType part, MeshAttr mesh) {
  auto layout = dyn_cast_if_present<LayoutAttr>(part.getEncoding());
  SmallVector<int64_t> shape(part.getShape());
  for (unsigned axis = 0; layout && axis < layout.getAxes().size(); ++axis)
    if (layout.kind(axis) == AxisKind::Shard)
      shape[layout.getDims()[axis]] *= mesh.getSizes()[axis];
  return RankedTensorType::get(shape, part.getElementType());
}

double reshardCost(RankedTensorType part, LayoutAttr to, MeshAttr mesh) {
  // What needs no message costs memory traffic; zeros between parts make others work on them.
  constexpr double kCopy = 1e-3;
  auto from = cast<LayoutAttr>(part.getEncoding());
  double cost = 0;
  for (unsigned axis = 0; axis < from.getAxes().size(); ++axis) {
    Transition how = transition(from, to, axis);
    if (how.isIdentity())
      continue;
    auto ranks = static_cast<double>(mesh.getSizes()[axis]);
    double bytes = bytesOnAxis(part, from, axis, mesh.getSizes()[axis]), others = (ranks - 1) / ranks;
    if (how.from == AxisKind::Replicate)
      cost += kCopy * bytes;
    else if (how.from == AxisKind::Partial)
      cost += (how.to == AxisKind::Shard ? 1 : 2) * bytes * others;
    else if (how.to == AxisKind::Replicate)
      cost += bytes * others;
    else
      // An exchange sends less than a gather, but what follows it works on other dimensions than the batch.
      cost += how.to == AxisKind::Partial ? bytes : bytes * others;
  }
  return cost;
}

FailureOr<Value> reshard(OpBuilder &builder, Value value, LayoutAttr to, MeshAttr mesh, StringRef insertedBy) {
  Resharder resharder(builder, mesh, insertedBy);
  FailureOr<Value> current = value;
  // What can be cut is cut first, then less is summed, exchanged and gathered; minor axes first, since a dimension is
  // gathered from its minor axis on and cut from its major axis on.
  auto layoutOf = [&] { return cast<LayoutAttr>(typeOf(*current).getEncoding()); };
  llvm::SmallBitVector returns(layoutOf().getAxes().size());
  // A minor split stands in the way of a major axis that leaves its dimension or joins it: it is taken away first and
  // cut again at the end.
  for (unsigned axis = layoutOf().getAxes().size(); axis-- > 0;) {
    const Transition stays = transition(layoutOf(), to, axis);
    if (stays.from != AxisKind::Shard || (!stays.isIdentity() && stays.to != AxisKind::Replicate))
      continue;
    bool inTheWay = false;
    for (unsigned major = 0; major < axis; ++major) {
      const Transition moves = transition(layoutOf(), to, major);
      inTheWay |= !moves.isIdentity() && !(moves == stays) &&
                  ((moves.from == AxisKind::Shard && moves.fromDim == stays.fromDim) ||
                   (moves.to == AxisKind::Shard && moves.toDim == stays.fromDim));
    }
    if (!inTheWay)
      continue;
    returns.set(axis);
    current = resharder.apply(*current, axis, {AxisKind::Shard, AxisKind::Replicate, stays.fromDim, 0});
    if (failed(current))
      return failure();
  }
  enum Stage { FirstCut, Reduce, Exchange, Gather, Cut, Last };
  auto isCutByMinor = [&](unsigned axis, int64_t dim) {
    for (unsigned minor = axis + 1; minor < layoutOf().getAxes().size(); ++minor)
      if (layoutOf().kind(minor) == AxisKind::Shard && layoutOf().getDims()[minor] == dim)
        return true;
    return false;
  };
  auto stageOf = [&](unsigned axis, const Transition &how) {
    if (how.from == AxisKind::Partial)
      return Reduce;
    if (how.from == AxisKind::Replicate)
      return returns.test(axis) || isCutByMinor(axis, how.toDim) ? Cut : FirstCut;
    return how.to == AxisKind::Shard ? Exchange : Gather;
  };
  for (int stage = FirstCut; stage != Last; ++stage) {
    const unsigned count = layoutOf().getAxes().size();
    llvm::SmallBitVector done(count);
    for (unsigned i = 0; i < count; ++i) {
      unsigned axis = stage == Cut || stage == FirstCut ? i : count - 1 - i;
      Transition how = transition(layoutOf(), to, axis);
      if (done.test(axis) || how.isIdentity() ||
          (stageOf(axis, how) != stage && !(stage == Cut && stageOf(axis, how) == FirstCut)))
        continue;
      SmallVector<unsigned> group;
      for (unsigned other = 0; other < count; ++other)
        if (transition(layoutOf(), to, other) == how) {
          group.push_back(other);
          done.set(other);
        }
      current = resharder.apply(*current, group, how);
      if (failed(current))
        return failure();
    }
  }
  return current;
}

FailureOr<Value> everywhere(OpBuilder &builder, Value value, MeshAttr mesh, StringRef insertedBy) {
  auto layout = dyn_cast_if_present<LayoutAttr>(typeOf(value).getEncoding());
  if (!layout || !mesh)
    return value;
  return reshard(builder, value, LayoutAttr::replicated(value.getContext(), layout.getAxes()), mesh, insertedBy);
}

bool isSplit(RankedTensorType type, int64_t dim) {
  auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
  for (unsigned axis = 0; layout && axis < layout.getAxes().size(); ++axis)
    if (layout.kind(axis) == AxisKind::Shard && layout.getDims()[axis] == dim)
      return true;
  return false;
}

bool isSplitBucket(RankedTensorType bucket) {
  return isSplit(bucket, bucket.getRank() - 1);
}

RankedTensorType gradientType(RankedTensorType type, MeshAttr mesh) {
  auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
  auto dual = dyn_cast_if_present<LayoutAttr>(dualType(type).getEncoding());
  if (!layout || !mesh)
    return type;
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
    if (mesh.getSizes()[axis] > 1)
      layout = layout.with(axis, dual.kind(axis), dual.getDims()[axis]);
  return RankedTensorType::get(type.getShape(), type.getElementType(), layout);
}

} // namespace moe::ir
