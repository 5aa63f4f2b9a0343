//===- Mesh.cpp - Ranks, their coordinates and groups
//---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Dialect.h"

using namespace mlir;

namespace moe::ir {

std::optional<unsigned> LayoutAttr::axis(StringRef name) const {
  for (auto [i, axis] : llvm::enumerate(getAxes()))
    if (axis.getValue() == name)
      return static_cast<unsigned>(i);
  return std::nullopt;
}

LayoutAttr LayoutAttr::with(unsigned axis, AxisKind kind, int64_t dim) const {
  SmallVector<int32_t> kinds(getKinds());
  SmallVector<int64_t> dims(getDims());
  kinds[axis] = static_cast<int32_t>(kind);
  dims[axis] = kind == AxisKind::Shard ? dim : 0;
  return get(getContext(), getAxes(), kinds, dims);
}

MeshAttr MeshAttr::of(Operation *module) {
  return module->getAttrOfType<MeshAttr>("moe.mesh");
}

int64_t MeshAttr::ranks() const {
  int64_t count = 1;
  for (int64_t size : getSizes())
    count *= size;
  return count;
}

std::optional<int64_t> MeshAttr::ranks(ArrayRef<StringAttr> axes) const {
  int64_t count = 1;
  for (StringAttr axis : axes) {
    const auto *found = llvm::find(getAxes(), axis);
    if (found == getAxes().end())
      return std::nullopt;
    count *= getSizes()[found - getAxes().begin()];
  }
  return count;
}

SmallVector<int64_t> MeshAttr::coordinates(int64_t rank) const {
  SmallVector<int64_t> result(getSizes().size());
  for (size_t axis = result.size(); axis-- > 0;) {
    result[axis] = rank % getSizes()[axis];
    rank /= getSizes()[axis];
  }
  return result;
}

std::vector<SmallVector<int64_t>> MeshAttr::groups(ArrayRef<StringAttr> axes) const {
  // Ranks are visited in their order, so groups are in the order of the mesh.
  std::vector<SmallVector<int64_t>> result;
  SmallVector<SmallVector<int64_t>> keys;
  for (int64_t rank = 0; rank < ranks(); ++rank) {
    SmallVector<int64_t> key = coordinates(rank);
    for (auto [axis, coordinate] : llvm::zip_equal(getAxes(), key))
      if (llvm::is_contained(axes, axis))
        coordinate = 0;
    auto *found = llvm::find(keys, key);
    if (found == keys.end()) {
      keys.push_back(key);
      result.emplace_back();
      found = keys.end() - 1;
    }
    result[found - keys.begin()].push_back(rank);
  }
  return result;
}

} // namespace moe::ir
