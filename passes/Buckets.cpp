//===- Buckets.cpp - Flat state: many small tensors as one ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Buckets.h"

#include "passes/Layers.h"
#include "passes/TrainingAttributes.h"
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
  return layerPrefix(parameter.getSymName()) + (isExpert ? "/experts" : "");
}

void placeMembers(StateWriter &states, ModuleOp module, StringRef bucketName, ArrayRef<StateOp> members,
                  RankedTensorType type, StateKind kind) {
  states.declare(bucketName, type, kind);
  OpBuilder builder(module.getContext());
  int64_t offset = 0;
  for (StateOp member : members) {
    member.setBucketAttr(FlatSymbolRefAttr::get(module.getContext(), bucketName));
    member.setOffsetAttr(builder.getI64IntegerAttr(offset));
    offset += llvm::alignTo(member.getTensorType().getNumElements(), kMemberAlignment);
  }
}

} // namespace

std::vector<Bucket> assignBuckets(ModuleOp module, ArrayRef<StringRef> slots) {
  OpBuilder builder(module.getContext());
  StateWriter states(module, builder);
  llvm::MapVector<StringAttr, SmallVector<StateOp>> groups;
  for (StateOp state : module.getOps<StateOp>())
    if (state.getKind() == StateKind::Parameter)
      groups[builder.getStringAttr(bucketKey(state))].push_back(state);

  std::vector<Bucket> buckets;
  for (auto &[key, members] : groups) {
    Bucket bucket;
    bucket.name = "bucket." + std::to_string(buckets.size());
    bucket.gradient = bucket.name + ".grad";
    int64_t size = 0;
    for (StateOp member : members)
      size += llvm::alignTo(member.getTensorType().getNumElements(), kMemberAlignment);
    RankedTensorType like = members.front().getTensorType();
    bucket.type = RankedTensorType::get({size}, like.getElementType(), like.getEncoding());

    SmallVector<StateOp> gradients;
    for (StateOp member : members) {
      member.setCheckpointed(true);
      gradients.push_back(module.lookupSymbol<StateOp>((member.getSymName() + ".grad").str()));
    }
    placeMembers(states, module, bucket.name, members, bucket.type, StateKind::Parameter);
    placeMembers(states, module, bucket.gradient, gradients, bucket.type, StateKind::Gradient);
    for (StringRef slot : slots) {
      SmallVector<StateOp> moments;
      for (StateOp member : members) {
        StateOp moment =
            states.declare((member.getSymName() + "." + slot).str(), member.getTensorType(), StateKind::Moment);
        moment.setOfAttr(FlatSymbolRefAttr::get(member.getSymNameAttr()));
        moment.setCheckpointed(true);
        moments.push_back(moment);
      }
      bucket.slots.push_back((bucket.name + "." + slot).str());
      placeMembers(states, module, bucket.slots.back(), moments, bucket.type, StateKind::Moment);
    }
    buckets.push_back(std::move(bucket));
  }
  return buckets;
}

} // namespace moe::ir
