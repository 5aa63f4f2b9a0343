//===- Axes.h - Which dimension of one tensor is which of another ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_AXES_H
#define MOEC_PASSES_RECOMPOSE_AXES_H

#include "ir/TensorBuilder.h"

namespace moe::ir::recompose {

/// Axes in row-major order, by number. A dimension of size one has none.
using AxisList = llvm::SmallVector<unsigned, 4>;

/// A tensor whose dimensions are named by axes.
struct View {
  mlir::Value value;
  llvm::SmallVector<AxisList, 4> dims;
};

/// The axes of one computation. Exports move the same dimension about by transposes, reshapes and broadcasts; here it
/// keeps its name on the way. An axis is split in two where a reshape cuts a dimension that had been whole, so lists
/// that were made before must be read through `expand`.
class AxisTable {
public:
  unsigned add(int64_t size);
  /// Axes for every dimension of `value`, all of them new.
  View fresh(mlir::Value value);
  int64_t size(unsigned axis) const { return axes[axis].size; }
  int64_t size(llvm::ArrayRef<unsigned> list) const;

  /// The finest axes that `list` consists of now.
  AxisList expand(llvm::ArrayRef<unsigned> list) const;
  /// All axes of a view, dimension by dimension.
  AxisList flat(const View &view) const;

  /// The operand of the reshape, transpose or broadcast that made the view's value. Nothing for other operations, and
  /// for reshapes that mix dimensions of sizes without a common division.
  std::optional<View> behind(const View &view);
  /// Goes through all of them; `throughBroadcast` false: stops where values are repeated.
  View source(View view, bool throughBroadcast = true);

  /// The elements of `view` as a tensor with the given axes in each dimension: reshapes, one transpose, and a broadcast
  /// along axes that the view lacks. Axes of the view must be in `dims`.
  mlir::Value arrange(TensorBuilder &b, const View &view, llvm::ArrayRef<AxisList> dims) const;

private:
  struct Axis {
    int64_t size;
    unsigned outer = 0, inner = 0; ///< what it was split into; 0: whole
  };
  void split(unsigned axis, int64_t innerSize);
  std::optional<llvm::SmallVector<AxisList, 4>> regroup(const View &view, llvm::ArrayRef<int64_t> shape);

  llvm::SmallVector<Axis> axes = {{0}}; ///< number 0 is no axis
};

} // namespace moe::ir::recompose

#endif // MOEC_PASSES_RECOMPOSE_AXES_H
