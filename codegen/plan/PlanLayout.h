//===- PlanLayout.h - Shapes and layouts of whole tensors in plans ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_PLAN_PLANLAYOUT_H
#define MOEC_CODEGEN_PLAN_PLANLAYOUT_H

#include "ir/Reshard.h"
#include "runtime/plan/plan.pb.h"

namespace moe::codegen {

/// Fills `shape`, of the whole tensor, and `layout` of a message that has both. `part` is what a rank has of it under
/// `layout`, which may be null.
template <typename Message>
void setLayout(mlir::ModuleOp module, mlir::RankedTensorType part, ir::LayoutAttr layout, Message &message) {
  ir::MeshAttr mesh = ir::MeshAttr::of(module);
  llvm::SmallVector<int64_t> shape(part.getShape());
  for (unsigned axis = 0; layout && mesh && axis < layout.getAxes().size(); ++axis) {
    const ir::AxisKind kind = layout.kind(axis);
    if (kind == ir::AxisKind::Replicate || mesh.getSizes()[axis] == 1)
      continue;
    plan::AxisLayout *out = message.add_layout();
    out->set_axis(axis);
    out->set_kind(kind == ir::AxisKind::Shard ? plan::AxisLayout::SHARD : plan::AxisLayout::PARTIAL);
    if (kind == ir::AxisKind::Shard) {
      out->set_dim(static_cast<uint32_t>(layout.getDims()[axis]));
      shape[layout.getDims()[axis]] *= mesh.getSizes()[axis];
    }
  }
  for (int64_t extent : shape)
    message.add_shape(extent);
}

} // namespace moe::codegen

#endif // MOEC_CODEGEN_PLAN_PLANLAYOUT_H
