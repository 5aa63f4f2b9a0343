//===- Mesh.h - Ranks, their coordinates, and their parts of tensors ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// What `Plan.mesh` means (see MeshAxis in plan.proto): ranks are the points of the mesh, its last axis fastest. Axes
// that functions take are indexes into `Plan.mesh`, in range unless said otherwise.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_MESH_H
#define MOEC_RUNTIME_PLAN_MESH_H

#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moe {

using AxisList = google::protobuf::RepeatedField<uint32_t>;

/// Ranks that a plan is for: the product of its axes, 1 without a mesh. Sticks at UINT64_MAX.
uint64_t rankCount(const plan::Plan &plan);

/// Coordinate of a rank in [0, rankCount) on each axis of the mesh.
std::vector<int64_t> coordinatesOf(const plan::Plan &plan, int64_t rank);

/// Whether all axes exist and none is listed twice.
bool areAxes(const plan::Plan &plan, const AxisList &axes);

/// Ranks of a group that differs on `axes`; 1 without any.
uint64_t groupSize(const plan::Plan &plan, const AxisList &axes);

/// Number within its group of the rank with these coordinates: the first axis listed is the major one.
int64_t groupIndex(const plan::Plan &plan, const AxisList &axes, const std::vector<int64_t> &coordinates);

/// The ranks of the group that `rank` is in, in the order of the group.
std::vector<int> groupMembers(const plan::Plan &plan, const AxisList &axes, int64_t rank);

using LayoutList = google::protobuf::RepeatedPtrField<plan::AxisLayout>;

/// Elements of the part that a rank has of a tensor with this layout: the shape's product over the sizes of the axes
/// that shard it. Sticks at UINT64_MAX.
uint64_t shardElements(const plan::Plan &plan, const google::protobuf::RepeatedField<int64_t> &shape,
                       const LayoutList &layout);
/// The same of a state tensor, before a flat bucket is split.
uint64_t shardElements(const plan::Plan &plan, const plan::StateTensor &tensor);

/// Elements that the slice of a state tensor holds: those of its shard, or of the rank's share of its flat bucket.
uint64_t sliceElements(const plan::Plan &plan, const plan::StateTensor &tensor);

/// "data=2 expert=4", as people write a mesh; "one rank" without axes.
std::string meshText(const plan::Plan &plan);

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_MESH_H
