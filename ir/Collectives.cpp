//===- Collectives.cpp - Types, costs and adjoints of operations between ranks
//--------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Infer.h"
#include "ir/LayoutPicture.h"
#include "ir/Ops.h"
#include "ir/Reshard.h"
#include "ir/TensorBuilder.h"
#include "mlir/IR/BuiltinOps.h"

using namespace mlir;

namespace moe::ir {

namespace {

SmallVector<StringAttr> names(ArrayAttr axes) {
  return llvm::map_to_vector(axes.getAsRange<StringAttr>(), [](StringAttr axis) { return axis; });
}

/// How an axis of the group lies before or after.
struct Side {
  AxisKind kind;
  int64_t dim = 0;
};

Side replicate() {
  return {AxisKind::Replicate};
}
Side partial() {
  return {AxisKind::Partial};
}
Side shard(int64_t dim) {
  return {AxisKind::Shard, dim};
}

std::string draw(const Side &side) {
  std::string text = stringifyAxisKind(side.kind).str();
  return side.kind == AxisKind::Shard ? text + "(" + std::to_string(side.dim) + ")" : text;
}

/// Ranks of the group over `axes` at `op`. Without a mesh there is one rank.
FailureOr<int64_t> groupSize(Operation *op, ArrayRef<StringAttr> axes) {
  auto module = op->getParentOfType<ModuleOp>();
  MeshAttr mesh = module ? MeshAttr::of(module) : MeshAttr();
  if (!mesh)
    return 1;
  std::optional<int64_t> ranks = mesh.ranks(axes);
  if (!ranks)
    return op->emitOpError() << "names an axis that the mesh " << mesh << " does not have";
  return *ranks;
}

LogicalResult checkDim(Operation *op, RankedTensorType type, const Side &side) {
  if (side.kind == AxisKind::Shard && (side.dim < 0 || side.dim >= type.getRank()))
    return op->emitOpError() << "speaks of dimension " << side.dim << " of " << type;
  return success();
}

/// Axes outside of the group that split the same dimension must be major to it: parts of it are not contiguous else.
LogicalResult checkMinorMost(Operation *op, LayoutAttr layout, const llvm::SmallBitVector &group, const Side &side) {
  if (side.kind != AxisKind::Shard)
    return success();
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
    if (!group.test(axis) && layout.kind(axis) == AxisKind::Shard && layout.getDims()[axis] == side.dim &&
        static_cast<int>(axis) > group.find_first())
      return op->emitOpError() << "takes away the split of dimension " << side.dim << " over '"
                               << layout.getAxes()[group.find_first()].getValue() << "' under that over '"
                               << layout.getAxes()[axis].getValue() << "' in " << layout;
  return success();
}

LogicalResult verifyTransition(Operation *op, ArrayAttr axesAttr, Side before, Side after) {
  SmallVector<StringAttr> axes = names(axesAttr);
  RankedTensorType from = typeOf(op->getOperand(0)), to = typeOf(op->getResult(0));
  if (axes.empty())
    return op->emitOpError("needs an axis");
  FailureOr<int64_t> ranks = groupSize(op, axes);
  if (failed(ranks) || failed(checkDim(op, from, before)) || failed(checkDim(op, to, after)))
    return failure();
  if (from.getElementType() != to.getElementType())
    return op->emitOpError() << "changes the element type: " << from << " and " << to;
  SmallVector<int64_t> shape(from.getShape());
  if (before.kind == AxisKind::Shard)
    shape[before.dim] *= *ranks;
  if (after.kind == AxisKind::Shard) {
    if (shape[after.dim] % *ranks != 0)
      return op->emitOpError() << "splits dimension " << after.dim << " of " << from << " into " << *ranks
                               << " parts, which are not equal";
    shape[after.dim] /= *ranks;
  }
  if (ArrayRef<int64_t>(shape) != to.getShape())
    return op->emitOpError() << "over " << *ranks << " ranks does not make " << to << " of " << from;

  auto layout = dyn_cast_if_present<LayoutAttr>(from.getEncoding());
  auto result = dyn_cast_if_present<LayoutAttr>(to.getEncoding());
  if (!layout && !result)
    return success();
  if (!layout || !result || layout.getAxes() != result.getAxes())
    return op->emitOpError() << "changes the mesh: " << from << " and " << to;
  llvm::SmallBitVector group(layout.getAxes().size());
  for (StringAttr axis : axes) {
    std::optional<unsigned> index = layout.axis(axis);
    if (!index)
      return op->emitOpError() << "names axis '" << axis.getValue() << "', which " << layout << " does not have";
    group.set(*index);
  }
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis) {
    Side was{layout.kind(axis), layout.getDims()[axis]}, is{result.kind(axis), result.getDims()[axis]};
    Side mustBe = group.test(axis) ? before : was, mustBecome = group.test(axis) ? after : was;
    auto differ = [](const Side &a, const Side &b) {
      return a.kind != b.kind || (a.kind == AxisKind::Shard && a.dim != b.dim);
    };
    if (differ(was, mustBe) || differ(is, mustBecome)) {
      InFlightDiagnostic error = op->emitOpError();
      error << "on mesh axis '" << layout.getAxes()[axis].getValue() << "' makes " << draw(mustBecome) << " of "
            << draw(mustBe) << ", but its types say " << from << " and " << to;
      if (std::string origin = describeOrigin(op->getOperand(0), axis); !origin.empty())
        error.attachNote() << "its operand is " << draw(was) << origin;
      drawLayout(error, "its operand", from, op->getParentRegion());
      drawLayout(error, "its result", to, op->getParentRegion());
      return error;
    }
  }
  return success(succeeded(checkMinorMost(op, layout, group, before)) &&
                 succeeded(checkMinorMost(op, result, group, after)));
}

LayoutRule anyLayout() {
  LayoutRule rule;
  rule.free = true;
  return rule;
}

/// Bytes that a rank sends to others of `ranks`: of the larger of operand and result all but its own part, once.
Cost sendingOnce(Operation *op, ArrayAttr axes, double times) {
  FailureOr<int64_t> ranks = groupSize(op, names(axes));
  Cost cost;
  cost.bytes = bytesMoved(op);
  if (failed(ranks))
    return cost;
  auto whole =
      static_cast<double>(std::max(tensorBytes(typeOf(op->getOperand(0))), tensorBytes(typeOf(op->getResult(0)))));
  cost.sent = times * whole * static_cast<double>(*ranks - 1) / static_cast<double>(*ranks);
  return cost;
}

} // namespace

#define MOE_COLLECTIVE(OP, BEFORE, AFTER, TIMES)                                                                       \
  LogicalResult OP::verify() {                                                                                         \
    return verifyTransition(*this, getAxes(), BEFORE, AFTER);                                                          \
  }                                                                                                                    \
  LayoutRule OP::getLayoutRule() {                                                                                     \
    return anyLayout();                                                                                                \
  }                                                                                                                    \
  Cost OP::getCost() {                                                                                                 \
    return sendingOnce(*this, getAxes(), TIMES);                                                                       \
  }                                                                                                                    \
  SmallVector<StringAttr> OP::groupAxes() {                                                                            \
    return names(getAxes());                                                                                           \
  }                                                                                                                    \
  bool OP::communicates() {                                                                                            \
    return (TIMES) > 0;                                                                                                \
  }

MOE_COLLECTIVE(AllReduceOp, partial(), replicate(), 2)
MOE_COLLECTIVE(AllGatherOp, shard(getDim()), replicate(), 1)
MOE_COLLECTIVE(ReduceScatterOp, partial(), shard(getDim()), 1)
MOE_COLLECTIVE(AllToAllOp, shard(getFrom()), shard(getTo()), 1)
MOE_COLLECTIVE(AllSliceOp, replicate(), shard(getDim()), 0)
MOE_COLLECTIVE(PadSliceOp, shard(getDim()), partial(), 0)
MOE_COLLECTIVE(AsPartialOp, replicate(), partial(), 0)

//===----------------------------------------------------------------------------------------------------------------===//
// Adjoints: duals go to duals, so each is one of the same operations.
//===----------------------------------------------------------------------------------------------------------------===//

/// Type of the gradient of `input`, given that of the result: on the axes of the group the dual, elsewhere as it came.
static RankedTensorType leavingType(RankedTensorType input, RankedTensorType arriving, ArrayAttr axes) {
  auto layout = dyn_cast_if_present<LayoutAttr>(arriving.getEncoding());
  auto dual = dyn_cast_if_present<LayoutAttr>(dualType(input).getEncoding());
  for (StringAttr name : axes.getAsRange<StringAttr>())
    if (layout && dual)
      if (std::optional<unsigned> axis = dual.axis(name))
        layout = layout.with(*axis, dual.kind(*axis), dual.getDims()[*axis]);
  return RankedTensorType::get(input.getShape(), arriving.getElementType(), layout);
}

#define MOE_COLLECTIVE_ADJOINT(OP, ADJOINT, ...)                                                                       \
  LogicalResult OP::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &,             \
                                 MutableArrayRef<Value> grads) {                                                       \
    RankedTensorType type = leavingType(typeOf(getInput()), typeOf(resultGrads[0]), getAxes());                        \
    grads[0] = ADJOINT::create(builder, getLoc(), type, resultGrads[0], getAxes() __VA_OPT__(, ) __VA_ARGS__);         \
    return success();                                                                                                  \
  }

MOE_COLLECTIVE_ADJOINT(AllReduceOp, AllReduceOp)
MOE_COLLECTIVE_ADJOINT(AllGatherOp, ReduceScatterOp, getDim())
MOE_COLLECTIVE_ADJOINT(ReduceScatterOp, AllGatherOp, getDim())
MOE_COLLECTIVE_ADJOINT(AllToAllOp, AllToAllOp, getTo(), getFrom())
MOE_COLLECTIVE_ADJOINT(AllSliceOp, PadSliceOp, getDim())
MOE_COLLECTIVE_ADJOINT(PadSliceOp, AllSliceOp, getDim())
MOE_COLLECTIVE_ADJOINT(AsPartialOp, AsPartialOp)

//===----------------------------------------------------------------------------------------------------------------===//
// own_slots
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult OwnSlotsOp::verify() {
  if (getDim() != 0 && getDim() != 2)
    return emitOpError() << "cuts dimension " << getDim() << "; experts are dimension 0 of the rows, slots dimension 2";
  RankedTensorType expert = typeOf(getExpert()), slot = typeOf(getSlot()), token = typeOf(getToken());
  if (expert.getRank() != 3 || slot.getShape() != expert.getShape() || token.getRank() != 3)
    return emitOpError() << "needs expert and slot [G,S,K] and token [E,G,C], got " << expert << ", " << slot << " and "
                         << token;
  FailureOr<int64_t> ranks = groupSize(*this, getAxisAttr());
  if (failed(ranks))
    return failure();
  FailureOr<OwnSlotsTypes> types = ownSlotsTypes(getLoc(), expert, token, getAxis(), *ranks, getDim());
  if (failed(types))
    return failure();
  if (getOwnExpert().getType() != types->choice || getOwnSlot().getType() != types->choice ||
      getOwnToken().getType() != types->token)
    return emitOpError() << "makes " << types->choice << " (twice) and " << types->token << ", but its types are "
                         << getResultTypes();
  return success();
}

LayoutRule OwnSlotsOp::getLayoutRule() {
  return anyLayout();
}
SmallVector<StringAttr> OwnSlotsOp::groupAxes() {
  return {getAxisAttr()};
}
bool OwnSlotsOp::communicates() {
  return false;
}

FailureOr<OwnSlotsTypes> ownSlotsTypes(std::optional<Location> loc, RankedTensorType choice, RankedTensorType token,
                                       StringRef axis, int64_t ranks, int64_t dim) {
  SmallVector<int64_t> shape(token.getShape());
  if (shape[dim] % ranks != 0)
    return emitOptionalError(loc, shape[dim], dim == 0 ? " experts" : " slots", " do not divide among the ", ranks,
                             " ranks of axis '", axis, "'");
  shape[dim] /= ranks;
  auto ofChoice = dyn_cast_if_present<LayoutAttr>(choice.getEncoding());
  auto ofToken = dyn_cast_if_present<LayoutAttr>(token.getEncoding());
  if (!ofChoice && !ofToken)
    return OwnSlotsTypes{choice, withShape(token, shape)};
  std::optional<unsigned> index = ofChoice ? ofChoice.axis(axis) : std::nullopt;
  if (!index || !ofToken || ofToken.getAxes() != ofChoice.getAxes())
    return emitOptionalError(loc, "own_slots needs operands on a mesh with axis '", axis, "', got ", choice, " and ",
                             token);
  if (ofChoice.kind(*index) != AxisKind::Replicate || ofToken.kind(*index) != AxisKind::Replicate)
    return emitOptionalError(loc, "own_slots needs what is equal on all ranks of '", axis, "', got ", choice, " and ",
                             token);
  return OwnSlotsTypes{
      RankedTensorType::get(choice.getShape(), choice.getElementType(), ofChoice.with(*index, AxisKind::Partial)),
      RankedTensorType::get(shape, token.getElementType(), ofToken.with(*index, AxisKind::Shard, dim))};
}

/// The first row of the part is that number in the list of all first rows which belongs to this rank.
FailureOr<SmallVector<Value>> OwnSlotsOp::decompose(OpBuilder &builder) {
  TensorBuilder b(builder, getLoc());
  RankedTensorType choice = typeOf(getExpert()), token = typeOf(getOwnToken());
  FailureOr<int64_t> ranks = groupSize(*this, getAxisAttr());
  if (failed(ranks))
    return failure();
  const auto dim = static_cast<int64_t>(getDim());
  const int64_t own = token.getDimSize(dim);
  ArrayAttr axes = builder.getArrayAttr(getAxisAttr());
  auto index = RankedTensorType::get({*ranks}, choice.getElementType());
  Value starts = b.mul(b.iota(index, 0), static_cast<double>(own));
  Value mine = AllSliceOp::create(builder, getLoc(), withShape(index, {1}), starts, axes, builder.getI64IntegerAttr(0));
  Value start = b.broadcastScalar(b.reshape(mine, {}), getExpert());
  Value at = dim == 0 ? getExpert() : getSlot(), zero = b.splatLike(getSlot(), 0), none = b.splatLike(getSlot(), -1);
  Value isOwn = b.conj(b.compare(ComparePredicate::GE, at, start),
                       b.compare(ComparePredicate::LT, at, b.add(start, static_cast<double>(own))));
  isOwn = b.conj(isOwn, b.compare(ComparePredicate::GE, getSlot(), zero));
  Value within = b.sub(at, start);
  Value part = AllSliceOp::create(builder, getLoc(), token, getToken(), axes, builder.getI64IntegerAttr(dim));
  return SmallVector<Value>{b.select(isOwn, dim == 0 ? within : getExpert(), zero),
                            b.select(isOwn, dim == 0 ? getSlot() : within, none), part};
}

//===----------------------------------------------------------------------------------------------------------------===//
// Buckets
//===----------------------------------------------------------------------------------------------------------------===//

namespace {

LogicalResult verifyBucket(Operation *op, RankedTensorType bucket, TypeRange members, ArrayRef<int64_t> offsets) {
  if (bucket.getRank() == 0 || llvm::any_of(bucket.getShape().drop_back(), [](int64_t size) { return size != 1; }))
    return op->emitOpError() << "needs a flat bucket, got " << bucket;
  if (members.size() != offsets.size())
    return op->emitOpError() << "has " << members.size() << " members and " << offsets.size() << " offsets";
  int64_t end = 0;
  for (auto [type, offset] : llvm::zip_equal(members, offsets)) {
    auto member = cast<RankedTensorType>(type);
    if (offset < end || offset + member.getNumElements() > bucket.getNumElements())
      return op->emitOpError() << "has no room for " << member << " at " << offset << " of " << bucket
                               << ": members are in order, apart from each other and within the bucket";
    if (member.getElementType() != bucket.getElementType())
      return op->emitOpError() << "has a member of another element type: " << member << " in " << bucket;
    end = offset + member.getNumElements();
    auto whole = dyn_cast_if_present<LayoutAttr>(bucket.getEncoding());
    auto part = dyn_cast_if_present<LayoutAttr>(member.getEncoding());
    if (!whole && !part)
      continue;
    if (!whole || !part || whole.getAxes() != part.getAxes())
      return op->emitOpError() << "has a member on another mesh: " << member << " in " << bucket;
    for (unsigned axis = 0; axis < whole.getAxes().size(); ++axis) {
      // Split buckets are those of split members, one beside the other.
      bool beside = whole.kind(axis) == AxisKind::Shard && whole.getDims()[axis] + 1 < bucket.getRank();
      if (whole.kind(axis) != part.kind(axis) || (whole.kind(axis) == AxisKind::Shard && !beside))
        return op->emitOpError() << "on mesh axis '" << whole.getAxes()[axis].getValue() << "' has the member "
                                 << member << " in " << bucket << "; gather the bucket first";
    }
  }
  return success();
}

} // namespace

LogicalResult BucketSplitOp::verify() {
  return verifyBucket(*this, typeOf(getBucket()), getResultTypes(), getOffsets());
}
LogicalResult BucketJoinOp::verify() {
  return verifyBucket(*this, typeOf(getBucket()), getMembers().getTypes(), getOffsets());
}
BufferUse BucketSplitOp::getBufferUse() {
  BufferUse use{BufferUse::Kind::View, {}};
  use.offsets.assign(getOffsets().begin(), getOffsets().end());
  return use;
}
LayoutRule BucketSplitOp::getLayoutRule() {
  return anyLayout();
}
LayoutRule BucketJoinOp::getLayoutRule() {
  return anyLayout();
}

LogicalResult BucketSplitOp::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &,
                                          MutableArrayRef<Value> grads) {
  SmallVector<Value> members;
  SmallVector<int64_t> offsets;
  for (auto [grad, offset] : llvm::zip_equal(resultGrads, getOffsets()))
    if (grad) {
      members.push_back(grad);
      offsets.push_back(offset);
    }
  // Buckets lie as their members do, but for what splits the members beside each other.
  auto layout = dyn_cast_if_present<LayoutAttr>(typeOf(getBucket()).getEncoding());
  auto arriving = dyn_cast_if_present<LayoutAttr>(typeOf(members.front()).getEncoding());
  for (unsigned axis = 0; layout && arriving && axis < layout.getAxes().size(); ++axis)
    if (arriving.kind(axis) != AxisKind::Shard)
      layout = layout.with(axis, arriving.kind(axis));
  auto type = RankedTensorType::get(typeOf(getBucket()).getShape(), typeOf(members.front()).getElementType(), layout);
  grads[0] = BucketJoinOp::create(builder, getLoc(), type, members, offsets);
  return success();
}

LogicalResult BucketJoinOp::buildAdjoint(OpBuilder &builder, ValueRange resultGrads, const llvm::SmallBitVector &needed,
                                         MutableArrayRef<Value> grads) {
  auto arriving = dyn_cast_if_present<LayoutAttr>(typeOf(resultGrads[0]).getEncoding());
  SmallVector<Type> types;
  SmallVector<int64_t> offsets;
  for (unsigned i : needed.set_bits()) {
    RankedTensorType member = typeOf(getMembers()[i]);
    auto layout = dyn_cast_if_present<LayoutAttr>(member.getEncoding());
    for (unsigned axis = 0; layout && arriving && axis < layout.getAxes().size(); ++axis)
      if (arriving.kind(axis) != AxisKind::Shard)
        layout = layout.with(axis, arriving.kind(axis));
    types.push_back(RankedTensorType::get(member.getShape(), typeOf(resultGrads[0]).getElementType(), layout));
    offsets.push_back(getOffsets()[i]);
  }
  auto split = BucketSplitOp::create(builder, getLoc(), types, resultGrads[0], offsets);
  for (auto [i, member] : llvm::zip_equal(needed.set_bits(), split.getMembers()))
    grads[i] = member;
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Start and done
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult DoneOp::verify() {
  auto start = getStarted().getDefiningOp<CollectiveOpInterface>();
  if (!start || !start.communicates())
    return emitOpError("waits for what no collective has started");
  if (!llvm::equal(start->getOperands(), getHeld()))
    return emitOpError() << "must hold the operands of '" << start->getName() << "', which it waits for";
  if (getStarted().getType() != getType())
    return emitOpError() << "makes " << getType() << " of a " << getStarted().getType();
  return success();
}
BufferUse DoneOp::getBufferUse() {
  return {BufferUse::Kind::View, {}};
}
LayoutRule DoneOp::getLayoutRule() {
  return anyLayout();
}

} // namespace moe::ir
