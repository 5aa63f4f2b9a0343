//===- Axes.cpp ---------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/Axes.h"

using namespace mlir;

namespace moe::ir::recompose {

unsigned AxisTable::add(int64_t size) {
  axes.push_back({size});
  return static_cast<unsigned>(axes.size() - 1);
}

View AxisTable::fresh(Value value) {
  View view{value, {}};
  for (int64_t size : typeOf(value).getShape())
    view.dims.push_back(size == 1 ? AxisList{} : AxisList{add(size)});
  return view;
}

int64_t AxisTable::size(ArrayRef<unsigned> list) const {
  int64_t product = 1;
  for (unsigned axis : list)
    product *= axes[axis].size;
  return product;
}

AxisList AxisTable::expand(ArrayRef<unsigned> list) const {
  AxisList result;
  for (unsigned axis : list) {
    if (axes[axis].inner == 0) {
      result.push_back(axis);
      continue;
    }
    llvm::append_range(result, expand({axes[axis].outer, axes[axis].inner}));
  }
  return result;
}

AxisList AxisTable::flat(const View &view) const {
  AxisList result;
  for (const AxisList &dim : view.dims)
    llvm::append_range(result, expand(dim));
  return result;
}

void AxisTable::split(unsigned axis, int64_t innerSize) {
  unsigned outer = add(axes[axis].size / innerSize), inner = add(innerSize);
  axes[axis].outer = outer;
  axes[axis].inner = inner;
}

/// Deals the axes of `view`, in order, to dimensions of the sizes `shape`, and splits axes that belong to two.
std::optional<SmallVector<AxisList, 4>> AxisTable::regroup(const View &view, ArrayRef<int64_t> shape) {
  AxisList pending = flat(view);
  std::reverse(pending.begin(), pending.end());
  SmallVector<AxisList, 4> dims;
  for (int64_t size : shape) {
    AxisList dim;
    int64_t rest = size;
    while (rest > 1) {
      if (pending.empty())
        return std::nullopt;
      unsigned axis = pending.pop_back_val();
      if (axes[axis].size > rest) {
        if (axes[axis].size % rest != 0)
          return std::nullopt;
        split(axis, axes[axis].size / rest);
        pending.push_back(axes[axis].inner);
        axis = axes[axis].outer;
      }
      if (rest % axes[axis].size != 0)
        return std::nullopt;
      rest /= axes[axis].size;
      dim.push_back(axis);
    }
    dims.push_back(dim);
  }
  return dims;
}

std::optional<View> AxisTable::behind(const View &view) {
  Operation *op = view.value.getDefiningOp();
  if (auto transpose = dyn_cast_or_null<TransposeOp>(op)) {
    View result{transpose.getInput(), {}};
    result.dims.resize(view.dims.size());
    for (auto [i, d] : llvm::enumerate(transpose.getPermutation()))
      result.dims[d] = view.dims[i];
    return result;
  }
  if (auto broadcast = dyn_cast_or_null<BroadcastOp>(op)) {
    View result{broadcast.getInput(), {}};
    for (int64_t d : broadcast.getDims())
      result.dims.push_back(view.dims[d]);
    return result;
  }
  if (auto reshape = dyn_cast_or_null<ReshapeOp>(op)) {
    if (typeOf(view.value).getNumElements() == 0)
      return std::nullopt;
    auto dims = regroup(view, typeOf(reshape.getInput()).getShape());
    if (dims)
      return View{reshape.getInput(), std::move(*dims)};
  }
  return std::nullopt;
}

View AxisTable::source(View view, bool throughBroadcast) {
  while (throughBroadcast || !view.value.getDefiningOp<BroadcastOp>()) {
    std::optional<View> next = behind(view);
    if (!next)
      break;
    view = std::move(*next);
  }
  return view;
}

Value AxisTable::arrange(TensorBuilder &b, const View &view, ArrayRef<AxisList> dims) const {
  AxisList have = flat(view), wanted, kept;
  SmallVector<int64_t> shape;
  for (const AxisList &dim : dims) {
    llvm::append_range(wanted, expand(dim));
    shape.push_back(size(dim));
  }
  for (unsigned axis : wanted)
    if (llvm::is_contained(have, axis))
      kept.push_back(axis);
  auto sizes = [&](ArrayRef<unsigned> list) {
    return llvm::map_to_vector(list, [&](unsigned axis) { return axes[axis].size; });
  };
  // Axes that stay neighbours move as one.
  auto follows = [&](unsigned axis, unsigned before) {
    const auto *at = llvm::find(have, axis);
    return at != have.begin() && *std::prev(at) == before;
  };
  auto joins = [&](ArrayRef<unsigned> list, size_t i) {
    const auto *at = llvm::find(kept, list[i]);
    return i > 0 && at != kept.begin() && *std::prev(at) == list[i - 1] && follows(list[i], list[i - 1]);
  };
  SmallVector<int64_t> blocks, permutation;
  SmallVector<unsigned> firsts;
  for (size_t i = 0; i < have.size(); ++i) {
    if (joins(have, i)) {
      blocks.back() *= axes[have[i]].size;
      continue;
    }
    blocks.push_back(axes[have[i]].size);
    firsts.push_back(have[i]);
  }
  for (unsigned axis : kept)
    if (const auto *at = llvm::find(firsts, axis); at != firsts.end())
      permutation.push_back(at - firsts.begin());
  Value value = b.transpose(b.reshape(view.value, blocks), permutation);
  if (kept.size() < wanted.size()) {
    SmallVector<int64_t> places;
    for (auto [i, axis] : llvm::enumerate(wanted))
      if (llvm::is_contained(kept, axis))
        places.push_back(static_cast<int64_t>(i));
    value = b.broadcast(b.reshape(value, sizes(kept)), sizes(wanted), places);
  }
  return b.reshape(value, shape);
}

} // namespace moe::ir::recompose
