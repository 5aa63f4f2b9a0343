//===- LayoutPicture.cpp - Which ranks have which part of a tensor, drawn ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/LayoutPicture.h"

#include "ir/Reshard.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/StringExtras.h"

#include <algorithm>
#include <map>

using namespace mlir;

namespace moe::ir {

namespace {

/// Boxes of a row or column, summands of a box and ranks of a summand that are shown.
constexpr size_t kShown = 4;

/// One box: the ranks that have each summand, the summands in the order of their coordinates.
using Box = std::map<SmallVector<int64_t>, SmallVector<int64_t>>;

/// The texts of the first items of a list and, of a longer one, dots.
template <typename Range, typename Text> std::string listed(const Range &range, StringRef separator, Text text) {
  std::string result;
  size_t count = 0;
  for (const auto &item : range) {
    if (count == kShown)
      return result + separator.str() + "...";
    result += (count++ == 0 ? "" : separator.str()) + text(item);
  }
  return result;
}

std::string textOf(const Box &box) {
  return listed(box, " + ", [](const auto &summand) {
    return listed(summand.second, ",", [](int64_t rank) { return std::to_string(rank); });
  });
}

/// Number of the part along `dim` that a rank has, the first axis that splits it being the major one.
int64_t partOf(LayoutAttr layout, MeshAttr mesh, ArrayRef<int64_t> coordinates, int64_t dim) {
  int64_t part = 0;
  for (auto [axis, coordinate] : llvm::enumerate(coordinates))
    if (layout.kind(axis) == AxisKind::Shard && layout.getDims()[axis] == dim)
      part = part * mesh.getSizes()[axis] + coordinate;
  return part;
}

} // namespace

std::string layoutPicture(RankedTensorType type, MeshAttr mesh) {
  auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
  if (!layout || !mesh || layout.getAxes() != mesh.getAxes())
    return "";
  llvm::SmallBitVector isSplit(type.getRank());
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
    if (layout.kind(axis) == AxisKind::Shard) {
      if (layout.getDims()[axis] >= type.getRank())
        return "";
      isSplit.set(layout.getDims()[axis]);
    }
  if (isSplit.count() > 2)
    return "";
  // A vector that is split lies as the rows of a matrix do; the last of several dimensions goes across.
  int down = isSplit.find_first(), across = down < 0 ? -1 : isSplit.find_next(down);
  if (down > 0 && across < 0)
    std::swap(down, across);

  std::map<int64_t, std::map<int64_t, Box>> rows;
  for (int64_t rank = 0; rank < mesh.ranks(); ++rank) {
    SmallVector<int64_t> coordinates = mesh.coordinates(rank), summand;
    for (unsigned axis = 0; axis < coordinates.size(); ++axis)
      if (layout.kind(axis) == AxisKind::Partial)
        summand.push_back(coordinates[axis]);
    rows[partOf(layout, mesh, coordinates, down)][partOf(layout, mesh, coordinates, across)][summand].push_back(rank);
  }
  size_t width = 0;
  for (const auto &[row, boxes] : rows)
    for (const auto &[column, box] : boxes)
      width = std::max(width, textOf(box).size());
  auto sizes = llvm::map_to_vector(wholeType(type, mesh).getShape(), [](int64_t size) { return std::to_string(size); });
  return (sizes.empty() ? "scalar" : llvm::join(sizes, "x")) + "\n" + listed(rows, "\n", [&](const auto &row) {
           return "  | " +
                  listed(row.second, " | ",
                         [&](const auto &column) {
                           std::string text = textOf(column.second);
                           return text + std::string(width - text.size(), ' ');
                         }) +
                  " |";
         });
}

void drawLayout(InFlightDiagnostic &error, const Twine &what, RankedTensorType type, Region *region) {
  auto module = region ? region->getParentOfType<ModuleOp>() : ModuleOp();
  MeshAttr mesh = module ? MeshAttr::of(module) : MeshAttr();
  if (std::string picture = layoutPicture(type, mesh); !picture.empty())
    error.attachNote() << what << " by ranks, " << picture;
}

} // namespace moe::ir
