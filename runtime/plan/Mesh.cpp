//===- Mesh.cpp - Ranks, their coordinates, and their parts of tensors --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Mesh.h"

#include "runtime/plan/Structure.h"

#include <algorithm>

namespace moe {

static int64_t axisSize(const plan::Plan &plan, uint32_t axis) {
  return plan.mesh(static_cast<int>(axis)).size();
}

uint64_t rankCount(const plan::Plan &plan) {
  uint64_t count = 1;
  for (const plan::MeshAxis &axis : plan.mesh())
    count = saturatingProduct(count, static_cast<uint64_t>(axis.size()));
  return count;
}

std::vector<int64_t> coordinatesOf(const plan::Plan &plan, int64_t rank) {
  std::vector<int64_t> coordinates(static_cast<size_t>(plan.mesh_size()));
  for (int axis = plan.mesh_size() - 1; axis >= 0; --axis) {
    coordinates[static_cast<size_t>(axis)] = rank % plan.mesh(axis).size();
    rank /= plan.mesh(axis).size();
  }
  return coordinates;
}

bool areAxes(const plan::Plan &plan, const AxisList &axes) {
  for (auto axis = axes.begin(); axis != axes.end(); ++axis)
    if (*axis >= static_cast<uint32_t>(plan.mesh_size()) || std::find(axes.begin(), axis, *axis) != axis)
      return false;
  return true;
}

uint64_t groupSize(const plan::Plan &plan, const AxisList &axes) {
  uint64_t size = 1;
  for (uint32_t axis : axes)
    size = saturatingProduct(size, static_cast<uint64_t>(axisSize(plan, axis)));
  return size;
}

int64_t groupIndex(const plan::Plan &plan, const AxisList &axes, const std::vector<int64_t> &coordinates) {
  int64_t index = 0;
  for (uint32_t axis : axes)
    index = index * axisSize(plan, axis) + coordinates[axis];
  return index;
}

std::vector<int> groupMembers(const plan::Plan &plan, const AxisList &axes, int64_t rank) {
  std::vector<int64_t> coordinates = coordinatesOf(plan, rank);
  std::vector<int> members;
  auto size = static_cast<int64_t>(groupSize(plan, axes));
  for (int64_t index = 0; index < size; ++index) {
    int64_t rest = index;
    for (int i = axes.size() - 1; i >= 0; --i) {
      coordinates[axes.Get(i)] = rest % axisSize(plan, axes.Get(i));
      rest /= axisSize(plan, axes.Get(i));
    }
    int64_t member = 0;
    for (int axis = 0; axis < plan.mesh_size(); ++axis)
      member = member * plan.mesh(axis).size() + coordinates[static_cast<size_t>(axis)];
    members.push_back(static_cast<int>(member));
  }
  return members;
}

uint64_t shardElements(const plan::Plan &plan, const google::protobuf::RepeatedField<int64_t> &shape,
                       const LayoutList &layout) {
  uint64_t elements = elementCount(shape);
  if (elements == UINT64_MAX)
    return elements;
  for (const plan::AxisLayout &entry : layout)
    if (entry.kind() == plan::AxisLayout::SHARD)
      elements /= static_cast<uint64_t>(axisSize(plan, entry.axis()));
  return elements;
}

uint64_t shardElements(const plan::Plan &plan, const plan::StateTensor &tensor) {
  return shardElements(plan, tensor.shape(), tensor.layout());
}

uint64_t sliceElements(const plan::Plan &plan, const plan::StateTensor &tensor) {
  if (!tensor.has_flat())
    return shardElements(plan, tensor);
  return static_cast<uint64_t>(tensor.flat().bucket()) / groupSize(plan, tensor.flat().axes());
}

std::string meshText(const plan::Plan &plan) {
  std::string text;
  for (const plan::MeshAxis &axis : plan.mesh())
    text += (text.empty() ? "" : " ") + axis.name() + "=" + std::to_string(axis.size());
  return text.empty() ? "one rank" : text;
}

} // namespace moe
