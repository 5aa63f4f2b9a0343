//===- Shape.cpp --------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;

namespace moe::frontend {
namespace {

void reshape(NodeContext &n) {
  Value x = n.input(0);
  std::optional<Shape> to = n.integers(1);
  if (n.failed() || !to)
    return n.output(0, {});
  Shape from = n.shape(x);
  const bool zeroIsExtent = n.integer("allowzero", 0) != 0;
  int64_t known = 1, unknown = -1;
  for (auto [i, extent] : llvm::enumerate(*to)) {
    if (extent == 0 && !zeroIsExtent) {
      if (i >= from.size()) {
        n.fail("extent " + llvm::Twine(i) + " copies a dimension that the operand does not have");
        return n.output(0, {});
      }
      extent = from[i];
    }
    if (extent < -1 || (extent == -1 && unknown >= 0) || (extent > 0 && known > kMaxElements / extent)) {
      n.fail("the requested shape is not valid");
      return n.output(0, {});
    }
    if (extent == -1)
      unknown = static_cast<int64_t>(i);
    else
      known *= extent;
  }
  if (unknown >= 0)
    (*to)[unknown] = known == 0 ? 0 : product(from) / known;
  n.output(0, n.reshape(x, *to));
}

void flatten(NodeContext &n) {
  Value x = n.input(0);
  Shape from = n.shape(x);
  auto rank = static_cast<int64_t>(from.size());
  int64_t axis = n.integer("axis", 1) == rank ? rank : n.axis("axis", 1, rank);
  if (n.failed())
    return n.output(0, {});
  llvm::ArrayRef<int64_t> all(from);
  n.output(0, n.reshape(x, {product(all.take_front(axis)), product(all.drop_front(axis))}));
}

void squeeze(NodeContext &n) {
  Value x = n.input(0);
  Shape from = n.shape(x), to;
  std::optional<Shape> axes = n.axes(1, n.rank(x));
  for (auto [i, extent] : llvm::enumerate(from)) {
    bool listed = axes && llvm::is_contained(*axes, static_cast<int64_t>(i));
    if (listed && extent != 1)
      n.fail("dimension " + llvm::Twine(i) + " has extent " + llvm::Twine(extent) + ", not 1");
    if (!listed && (axes || extent != 1))
      to.push_back(extent);
  }
  n.output(0, n.reshape(x, to));
}

void unsqueeze(NodeContext &n) {
  Value x = n.input(0);
  std::optional<Shape> given = n.integerList("axes");
  if (!given)
    given = n.integers(1);
  if (n.failed() || !given)
    return n.output(0, {});
  int64_t rank = n.rank(x) + static_cast<int64_t>(given->size());
  for (int64_t &axis : *given)
    axis = n.normalizeAxis(axis, rank);
  llvm::sort(*given);
  Shape to = n.shape(x);
  for (int64_t axis : *given) {
    if (n.failed() || axis > static_cast<int64_t>(to.size())) {
      n.fail("the axes name a dimension twice");
      return n.output(0, {});
    }
    to.insert(to.begin() + axis, 1);
  }
  n.output(0, n.reshape(x, to));
}

void transpose(NodeContext &n) {
  Value x = n.input(0);
  std::optional<Shape> permutation = n.integerList("perm");
  if (!permutation)
    permutation = llvm::to_vector(llvm::reverse(llvm::seq<int64_t>(0, n.rank(x))));
  if (!n.failed() && static_cast<int64_t>(permutation->size()) != n.rank(x))
    n.fail("the permutation has another length than the operand has dimensions");
  n.output(0, n.failed() ? Value() : n.transpose(x, *permutation));
}

void expand(NodeContext &n) {
  Value x = n.input(0);
  std::optional<Shape> to = n.integers(1);
  if (n.failed() || !to)
    return n.output(0, {});
  // Both directions: an extent of 1 in the request keeps the operand's.
  Shape from = n.shape(x);
  if (to->size() < from.size())
    to->insert(to->begin(), from.size() - to->size(), 1);
  for (size_t i = 0, shift = to->size() - from.size(); i < from.size(); ++i)
    if ((*to)[i + shift] == 1)
      (*to)[i + shift] = from[i];
  n.output(0, n.broadcastTo(x, *to));
}

void concat(NodeContext &n) {
  llvm::SmallVector<Value> values;
  for (int i = 0; i < n.node.input_size(); ++i)
    values.push_back(n.input(i));
  if (values.empty())
    n.fail("it has no operands");
  if (n.failed())
    return n.output(0, {});
  int64_t axis = n.axis("axis", 0, n.rank(values[0]));
  n.output(0, values.size() == 1 ? values[0] : n.make<ir::ConcatOp>(ValueRange(values), axis));
}

/// numpy slicing with positive steps; positions are clamped to the extents as ONNX says.
void slice(NodeContext &n) {
  Value x = n.input(0);
  std::optional<Shape> starts = n.opset < 10 ? n.integerList("starts") : n.integers(1);
  std::optional<Shape> ends = n.opset < 10 ? n.integerList("ends") : n.integers(2);
  if (n.failed() || !starts || !ends)
    return n.output(0, {});
  Shape axes = llvm::to_vector(llvm::seq<int64_t>(0, starts->size()));
  if (std::optional<Shape> given = n.opset < 10 ? n.integerList("axes") : n.hasInput(3) ? n.integers(3) : std::nullopt)
    axes = *given;
  Shape steps(starts->size(), 1);
  if (n.opset >= 10 && n.hasInput(4))
    steps = n.integers(4).value_or(steps);
  if (!n.failed() &&
      (ends->size() != starts->size() || axes.size() != starts->size() || steps.size() != starts->size()))
    n.fail("starts, ends, axes and steps differ in length");
  Shape extents = n.shape(x);
  Shape from(extents.size(), 0), to = extents, strides(extents.size(), 1);
  llvm::SmallVector<std::pair<int64_t, Shape>> backward;
  for (size_t i = 0; i < starts->size() && !n.failed(); ++i) {
    int64_t axis = n.normalizeAxis(axes[i], n.rank(x));
    if (steps[i] == 0 || steps[i] == INT64_MIN)
      n.fail("a step is zero or out of range");
    if (n.failed())
      break;
    int64_t extent = extents[axis];
    if (steps[i] < 0) {
      // moe.slice goes forward only: the positions are known, so they are gathered.
      auto place = [&](int64_t position) {
        return std::clamp<int64_t>(position < 0 ? position + extent : position, -1, extent - 1);
      };
      Shape positions;
      if (!mayList(n, extent / -steps[i]))
        break;
      for (int64_t at = place((*starts)[i]), end = place((*ends)[i]); at > end; at += steps[i])
        positions.push_back(at);
      backward.emplace_back(axis, std::move(positions));
      continue;
    }
    auto clamp = [&](int64_t position) {
      return std::clamp<int64_t>(position < 0 ? position + extent : position, 0, extent);
    };
    from[axis] = clamp((*starts)[i]);
    to[axis] = std::max(from[axis], clamp((*ends)[i]));
    strides[axis] = std::min(steps[i], std::max<int64_t>(extent, 1));
  }
  if (n.failed())
    return n.output(0, {});
  bool whole = to == extents && llvm::all_of(from, [](int64_t start) { return start == 0; }) &&
               llvm::all_of(strides, [](int64_t stride) { return stride == 1; });
  x = whole ? x : n.make<ir::SliceOp>(x, from, to, strides);
  for (auto &[axis, positions] : backward)
    x = pick(n, x, axis, positions);
  n.output(0, x);
}

void split(NodeContext &n) {
  Value x = n.input(0);
  int64_t axis = n.axis("axis", 0, n.rank(x));
  if (n.failed())
    return;
  Shape extents = n.shape(x), sizes;
  int64_t parts = n.node.output_size();
  std::optional<Shape> given = n.integerList("split");
  if (!given && n.hasInput(1))
    given = n.integers(1);
  if (given) {
    sizes = *given;
  } else {
    // The last part is smaller where the extent is not divisible (opset 18).
    int64_t part = (extents[axis] + parts - 1) / std::max<int64_t>(parts, 1);
    for (int64_t i = 0; i < parts; ++i)
      sizes.push_back(std::clamp<int64_t>(extents[axis] - i * part, 0, part));
  }
  int64_t total = 0;
  for (int64_t size : sizes)
    total += size < 0 || size > extents[axis] ? kMaxElements + 1 : size;
  if (static_cast<int64_t>(sizes.size()) != parts || total != extents[axis])
    n.fail("the parts do not add up to the extent of the dimension");
  int64_t start = 0;
  for (int64_t i = 0; i < parts; ++i) {
    Shape from(extents.size(), 0), to = extents, strides(extents.size(), 1);
    Value part;
    if (!n.failed()) {
      from[axis] = start;
      to[axis] = start += sizes[i];
      part = n.make<ir::SliceOp>(x, from, to, strides);
    }
    n.output(static_cast<int>(i), part);
  }
}

constexpr OpEntry kOps[] = {
    {"", "Reshape", 5, reshape},     {"", "Flatten", 1, flatten}, {"", "Squeeze", 1, squeeze},
    {"", "Unsqueeze", 1, unsqueeze}, {"", "Expand", 8, expand},   {"", "Transpose", 1, transpose},
    {"", "Concat", 4, concat},       {"", "Slice", 1, slice},     {"", "Split", 2, split},
};

} // namespace

llvm::ArrayRef<OpEntry> shapeOps() {
  return kOps;
}

} // namespace moe::frontend
