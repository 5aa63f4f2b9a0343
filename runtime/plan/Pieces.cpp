//===- Pieces.cpp - Where the elements of a global tensor lie on a rank -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Pieces.h"

#include <algorithm>

namespace moe {
namespace {

/// The box that a rank has of a tensor: per dimension where it begins and how long it is.
struct Box {
  std::vector<uint64_t> begin, size;
};

template <typename Shape>
Box boxOf(const plan::Plan &plan, const Shape &shape, const LayoutList &layouts,
          const std::vector<int64_t> &coordinates) {
  Box box{std::vector<uint64_t>(static_cast<size_t>(shape.size())), {shape.begin(), shape.end()}};
  for (const plan::AxisLayout &layout : layouts)
    if (layout.kind() == plan::AxisLayout::SHARD) {
      // Axes that are listed later split what earlier ones have left.
      box.size[layout.dim()] /= static_cast<uint64_t>(plan.mesh(static_cast<int>(layout.axis())).size());
      box.begin[layout.dim()] += static_cast<uint64_t>(coordinates[layout.axis()]) * box.size[layout.dim()];
    }
  return box;
}

/// The box as pieces, in row-major order.
template <typename Shape> std::vector<Piece> piecesOfBox(const Shape &shape, const Box &box) {
  const auto rank = static_cast<size_t>(shape.size());
  // Dimensions from `whole` on are not cut: one piece spans them and what there is of the dimension before.
  size_t whole = rank;
  uint64_t row = 1;
  while (whole > 0 && box.size[whole - 1] == static_cast<uint64_t>(shape.Get(static_cast<int>(whole - 1))))
    row *= box.size[--whole];
  const uint64_t stride = row; // of the dimension before
  size_t outer = whole;
  if (outer > 0)
    row *= box.size[--outer];
  uint64_t pieces = 1;
  for (size_t d = 0; d < outer; ++d)
    pieces *= box.size[d];
  std::vector<Piece> result;
  if (row == 0)
    return result;
  std::vector<uint64_t> at(outer);
  for (uint64_t piece = 0; piece < pieces; ++piece) {
    uint64_t global = 0;
    for (size_t d = 0; d < outer; ++d)
      global = global * static_cast<uint64_t>(shape.Get(static_cast<int>(d))) + box.begin[d] + at[d];
    if (whole > 0)
      global = global * static_cast<uint64_t>(shape.Get(static_cast<int>(outer))) + box.begin[outer];
    result.push_back({global * stride, piece * row, row});
    for (size_t d = outer; d-- > 0;) {
      if (++at[d] < box.size[d])
        break;
      at[d] = 0;
    }
  }
  return result;
}

/// Keeps of the pieces what lies in the part [begin, begin + size) of what they are laid out in; that part is the
/// slice.
void clip(std::vector<Piece> &pieces, uint64_t begin, uint64_t size) {
  std::vector<Piece> kept;
  for (const Piece &piece : pieces) {
    uint64_t from = std::max(piece.local, begin), to = std::min(piece.local + piece.count, begin + size);
    if (from < to)
      kept.push_back({piece.global + (from - piece.local), from - begin, to - from});
  }
  pieces = std::move(kept);
}

bool isFirst(const plan::Plan &plan, const LayoutList &layouts, const AxisList &more, int64_t rank) {
  std::vector<int64_t> coordinates = coordinatesOf(plan, rank);
  for (const plan::AxisLayout &layout : layouts)
    if (layout.kind() != plan::AxisLayout::REPLICATE)
      coordinates[layout.axis()] = 0;
  for (uint32_t axis : more)
    coordinates[axis] = 0;
  return std::ranges::all_of(coordinates, [](int64_t coordinate) { return coordinate == 0; });
}

} // namespace

std::vector<Piece> piecesOf(const plan::Plan &plan, const plan::StateTensor &tensor, int64_t rank) {
  const std::vector<int64_t> coordinates = coordinatesOf(plan, rank);
  std::vector<Piece> pieces = piecesOfBox(tensor.shape(), boxOf(plan, tensor.shape(), tensor.layout(), coordinates));
  if (!tensor.has_flat())
    return pieces;
  const plan::FlatPlace &flat = tensor.flat();
  for (Piece &piece : pieces)
    piece.local += static_cast<uint64_t>(flat.position());
  const uint64_t share = sliceElements(plan, tensor);
  clip(pieces, static_cast<uint64_t>(groupIndex(plan, flat.axes(), coordinates)) * share, share);
  return pieces;
}

std::vector<Piece> piecesOf(const plan::Plan &plan, const plan::Output &output, int64_t rank) {
  return piecesOfBox(output.shape(), boxOf(plan, output.shape(), output.layout(), coordinatesOf(plan, rank)));
}

bool counts(const plan::Plan &plan, const plan::StateTensor &tensor, int64_t rank) {
  return isFirst(plan, tensor.layout(), tensor.flat().axes(), rank);
}

bool counts(const plan::Plan &plan, const plan::Output &output, int64_t rank) {
  return isFirst(plan, output.layout(), {}, rank);
}

bool isPartial(const LayoutList &layouts) {
  return std::ranges::any_of(layouts,
                             [](const plan::AxisLayout &layout) { return layout.kind() == plan::AxisLayout::PARTIAL; });
}

} // namespace moe
