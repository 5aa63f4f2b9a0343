//===- Buckets.cpp - Flat state: many small tensors as one ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Buckets.h"

#include "ir/Reshard.h"
#include "passes/Layers.h"
#include "passes/TrainingAttributes.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// Alignment of members, in elements of 4 bytes: one cache line.
constexpr int64_t kMemberAlignment = 16;

/// The layer that the name tells ("decoder.layers.3"), or nothing: layers make natural buckets. Tensors stacked over
/// experts are kept apart, since they are sharded over other ranks.
std::string bucketKey(StateOp parameter) {
  SmallVector<StringRef> components;
  parameter.getSymName().split(components, '.');
  bool isExpert = llvm::is_contained(components, "experts");
  // Whoever reads a bucket with stacks must know that they are stacks.
  return layerPrefix(parameter.getSymName()) + (isExpert ? "/experts" : "") + (parameter.getMembers() ? "/stacks" : "");
}

/// Members that are split on some axes make buckets of their own.
SmallVector<unsigned> splitAxes(RankedTensorType type) {
  SmallVector<unsigned> axes;
  auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
  for (unsigned axis = 0; layout && axis < layout.getAxes().size(); ++axis)
    if (layout.kind(axis) == AxisKind::Shard)
      axes.push_back(axis);
  return axes;
}

RankedTensorType bucketType(RankedTensorType member, int64_t elements) {
  SmallVector<unsigned> axes = splitAxes(member);
  if (axes.empty())
    return RankedTensorType::get(elements, member.getElementType(), member.getEncoding());
  auto layout = cast<LayoutAttr>(member.getEncoding());
  for (unsigned axis : axes)
    layout = layout.with(axis, AxisKind::Shard, 0);
  return RankedTensorType::get({1, elements}, member.getElementType(), layout);
}

} // namespace

std::vector<BucketMembers> groupParameters(ModuleOp module, bool split) {
  OpBuilder builder(module.getContext());
  llvm::MapVector<std::pair<StringAttr, Attribute>, BucketMembers> groups;
  llvm::DenseSet<StringRef> made;
  for (StateOp state : module.getOps<StateOp>())
    if (std::optional<StringRef> bucket = state.getBucket())
      made.insert(*bucket);
  for (StateOp state : module.getOps<StateOp>())
    if (state.getKind() == StateKind::Parameter && !made.contains(state.getSymName())) {
      SmallVector<int64_t> axes;
      for (unsigned axis : splitAxes(state.getTensorType()))
        axes.push_back(axis);
      groups[{builder.getStringAttr(bucketKey(state)), builder.getDenseI64ArrayAttr(axes)}].states.push_back(state);
    }
  MeshAttr mesh = MeshAttr::of(module);
  const int64_t unit = split && mesh ? kMemberAlignment * mesh.ranks() : kMemberAlignment;
  std::vector<BucketMembers> buckets;
  for (auto &[key, members] : groups) {
    int64_t size = 0;
    for (StateOp member : members.states) {
      members.offsets.push_back(size);
      size += llvm::alignTo(member.getTensorType().getNumElements(), kMemberAlignment);
    }
    members.type = bucketType(members.states.front().getTensorType(), llvm::alignTo(size, unit));
    buckets.push_back(std::move(members));
  }
  return buckets;
}

RankedTensorType splitBucket(RankedTensorType bucket, MeshAttr mesh) {
  auto layout = dyn_cast_if_present<LayoutAttr>(bucket.getEncoding());
  if (!layout || !mesh)
    return bucket;
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
    if (mesh.getSizes()[axis] > 1 && layout.kind(axis) == AxisKind::Replicate)
      layout = layout.with(axis, AxisKind::Shard, bucket.getRank() - 1);
  FailureOr<RankedTensorType> part = partType(std::nullopt, wholeType(bucket, mesh), layout, mesh);
  // Sizes are multiples of the number of ranks.
  return succeeded(part) ? *part : bucket;
}

void declareBucket(ModuleOp module, StringRef name, RankedTensorType type, StateKind kind, ArrayRef<StateOp> members,
                   ArrayRef<int64_t> offsets) {
  OpBuilder builder(module.getContext());
  StateWriter states(module, builder);
  states.declare(name, type, kind);
  for (auto [member, offset] : llvm::zip_equal(members, offsets)) {
    StateOp view = member;
    view.setBucketAttr(FlatSymbolRefAttr::get(module.getContext(), name));
    view.setOffsetAttr(builder.getI64IntegerAttr(offset));
  }
}

std::vector<Bucket> assignBuckets(ModuleOp module, ArrayRef<StringRef> slots) {
  OpBuilder builder(module.getContext());
  StateWriter states(module, builder);
  MeshAttr mesh = MeshAttr::of(module);
  auto fsdp = module->getAttrOfType<StringAttr>(kFsdpAttr);
  std::vector<Bucket> buckets;
  for (const BucketMembers &members : groupParameters(module, static_cast<bool>(fsdp))) {
    Bucket bucket;
    bucket.name = "bucket." + std::to_string(buckets.size());
    bucket.gradient = bucket.name + ".grad";
    bucket.work = fsdp ? splitBucket(members.type, mesh) : members.type;
    bucket.type = fsdp && fsdp.getValue() == "full" ? bucket.work : members.type;

    SmallVector<StateOp> gradients;
    for (StateOp member : members.states) {
      member.setCheckpointed(true);
      // What lies in parts has been summed over ranks.
      RankedTensorType type =
          isSplitBucket(bucket.type) ? member.getTensorType() : gradientType(member.getTensorType(), mesh);
      StateOp gradient = states.declare((member.getSymName() + ".grad").str(), type, StateKind::Gradient);
      gradient.setOfAttr(FlatSymbolRefAttr::get(member.getSymNameAttr()));
      gradients.push_back(gradient);
    }
    declareBucket(module, bucket.name, bucket.type, StateKind::Parameter, members.states, members.offsets);
    declareBucket(module, bucket.gradient, gradientType(bucket.type, mesh), StateKind::Gradient, gradients,
                  members.offsets);
    for (StringRef slot : slots) {
      SmallVector<StateOp> moments;
      for (StateOp member : members.states) {
        StateOp moment =
            states.declare((member.getSymName() + "." + slot).str(), member.getTensorType(), StateKind::Moment);
        moment.setOfAttr(FlatSymbolRefAttr::get(member.getSymNameAttr()));
        moment.setCheckpointed(true);
        moments.push_back(moment);
      }
      bucket.slots.push_back((bucket.name + "." + slot).str());
      declareBucket(module, bucket.slots.back(), bucket.work, StateKind::Moment, moments, members.offsets);
    }
    buckets.push_back(std::move(bucket));
  }
  return buckets;
}

} // namespace moe::ir
