//===- PiecesTest.cpp - Where elements lie on ranks, against plain indexes ----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Pieces.h"
#include "runtime/plan/Structure.h"
#include "test/runtime/plan/MeshPlan.h"

#include <gtest/gtest.h>
#include <random>

using namespace moe;

namespace {

/// A state tensor on a mesh of three axes, and its layout drawn at random.
struct Draw {
  plan::Plan plan;
  plan::StateTensor tensor;

  explicit Draw(std::mt19937 &random) {
    auto below = [&](unsigned n) { return static_cast<int64_t>(random() % n); };
    for (int64_t size : {1 + below(3), 1 + below(2), 1 + below(3)})
      plan.add_mesh()->set_size(size);
    const auto dims = static_cast<uint32_t>(below(4));
    for (uint32_t d = 0; d < dims; ++d)
      tensor.add_shape(1 + below(3));
    tensor.set_dtype(plan::F32);
    AxisList left;
    for (uint32_t axis : {0u, 1u, 2u}) {
      const int64_t kind = below(4);
      if (kind == 0 || (kind == 1 && dims == 0)) {
        left.Add(axis);
        continue;
      }
      plan::AxisLayout &layout = *tensor.add_layout();
      layout.set_axis(axis);
      if (kind == 1) {
        layout.set_kind(plan::AxisLayout::SHARD);
        layout.set_dim(static_cast<uint32_t>(below(dims)));
        const auto dim = static_cast<int>(layout.dim());
        tensor.set_shape(dim, tensor.shape(dim) * plan.mesh(static_cast<int>(axis)).size());
      } else if (kind == 2) {
        layout.set_kind(plan::AxisLayout::PARTIAL);
        tensor.set_kind(plan::StateTensor::GRADIENT);
      }
    }
    if (below(2) == 0 || left.empty())
      return;
    plan::FlatPlace &flat = *tensor.mutable_flat();
    if (left.size() > 1 && below(2) == 0)
      left.SwapElements(0, 1);
    *flat.mutable_axes() = left;
    flat.set_position(below(20));
    const auto ranks = static_cast<int64_t>(groupSize(plan, left));
    const auto end = flat.position() + static_cast<int64_t>(shardElements(plan, tensor)) + below(5);
    flat.set_bucket((end + ranks - 1) / ranks * ranks);
  }
};

/// Where an element of the global tensor lies in the slice of a rank; -1: nowhere. From the definition in plan.proto.
int64_t localIndex(const Draw &draw, std::vector<int64_t> at, int64_t rank) {
  std::vector<int64_t> coordinates = coordinatesOf(draw.plan, rank);
  std::vector<int64_t> size(draw.tensor.shape().begin(), draw.tensor.shape().end());
  for (const plan::AxisLayout &layout : draw.tensor.layout()) {
    if (layout.kind() != plan::AxisLayout::SHARD)
      continue;
    size_t d = layout.dim();
    size[d] /= draw.plan.mesh(static_cast<int>(layout.axis())).size();
    if (at[d] / size[d] != coordinates[layout.axis()])
      return -1;
    at[d] %= size[d];
  }
  int64_t index = 0;
  for (size_t d = 0; d < size.size(); ++d)
    index = index * size[d] + at[d];
  if (!draw.tensor.has_flat())
    return index;
  const plan::FlatPlace &flat = draw.tensor.flat();
  int64_t member = 0, ranks = 1;
  for (uint32_t axis : flat.axes()) {
    member = member * draw.plan.mesh(static_cast<int>(axis)).size() + coordinates[axis];
    ranks *= draw.plan.mesh(static_cast<int>(axis)).size();
  }
  const int64_t share = flat.bucket() / ranks, place = flat.position() + index;
  return place / share == member ? place % share : -1;
}

TEST(Pieces, AreThoseOfTheDefinition) {
  std::mt19937 random(4);
  int flat = 0;
  for (int round = 0; round < 1500; ++round) {
    Draw draw(random);
    flat += draw.tensor.has_flat() ? 1 : 0;
    const auto elements = static_cast<int64_t>(elementCount(draw.tensor.shape()));
    for (int64_t rank = 0; rank < static_cast<int64_t>(rankCount(draw.plan)); ++rank) {
      std::vector<int64_t> found(static_cast<size_t>(elements), -1);
      uint64_t next = 0;
      for (const Piece &piece : piecesOf(draw.plan, draw.tensor, rank)) {
        ASSERT_GT(piece.count, 0u);
        ASSERT_GE(piece.local, next) << "in the order of the slice";
        next = piece.local + piece.count;
        ASSERT_LE(next, sliceElements(draw.plan, draw.tensor));
        for (uint64_t i = 0; i < piece.count; ++i)
          found[piece.global + i] = static_cast<int64_t>(piece.local + i);
      }
      for (int64_t element = 0; element < elements; ++element) {
        std::vector<int64_t> at(static_cast<size_t>(draw.tensor.shape_size()));
        int64_t rest = element;
        for (int d = draw.tensor.shape_size() - 1; d >= 0; --d) {
          at[static_cast<size_t>(d)] = rest % draw.tensor.shape(d);
          rest /= draw.tensor.shape(d);
        }
        ASSERT_EQ(found[static_cast<size_t>(element)], localIndex(draw, at, rank))
            << "element " << element << " on rank " << rank << " of\n"
            << draw.plan.DebugString() << draw.tensor.DebugString();
      }
    }
  }
  EXPECT_GT(flat, 200);
}

// Of ranks that hold the same values one counts, of those that hold summands each.
TEST(Pieces, EachElementCountsOncePerSummand) {
  std::mt19937 random(9);
  for (int round = 0; round < 500; ++round) {
    Draw draw(random);
    const auto elements = elementCount(draw.tensor.shape());
    std::vector<int> times(elements);
    int summands = 1;
    for (const plan::AxisLayout &layout : draw.tensor.layout())
      if (layout.kind() == plan::AxisLayout::PARTIAL)
        summands *= static_cast<int>(draw.plan.mesh(static_cast<int>(layout.axis())).size());
    EXPECT_EQ(isPartial(draw.tensor.layout()), std::ranges::any_of(draw.tensor.layout(), [](const auto &layout) {
                return layout.kind() == plan::AxisLayout::PARTIAL;
              }));
    for (int64_t rank = 0; rank < static_cast<int64_t>(rankCount(draw.plan)); ++rank)
      if (counts(draw.plan, draw.tensor, rank))
        for (const Piece &piece : piecesOf(draw.plan, draw.tensor, rank))
          for (uint64_t i = 0; i < piece.count; ++i)
            ++times[piece.global + i];
    EXPECT_EQ(times, std::vector<int>(elements, summands)) << draw.plan.DebugString() << draw.tensor.DebugString();
  }
}

TEST(Pieces, OutputsHaveLayouts) {
  plan::Plan plan = test::meshPlan().plan;
  const plan::Output &rows = plan.programs(0).outputs(0); // [4, 6], rows over data
  for (int64_t rank = 0; rank < 6; ++rank) {
    std::vector<Piece> pieces = piecesOf(plan, rows, rank);
    ASSERT_EQ(pieces.size(), 1u);
    EXPECT_EQ(pieces[0].global, rank < 3 ? 0u : 12u);
    EXPECT_EQ(pieces[0].local, 0u);
    EXPECT_EQ(pieces[0].count, 12u);
    EXPECT_EQ(counts(plan, rows, rank), rank % 3 == 0);
  }
}

} // namespace
