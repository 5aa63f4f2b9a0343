//===- LayoutRules.h - Rules that inference needs before the operation exists -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_LAYOUTRULES_H
#define MOEC_IR_LAYOUTRULES_H

#include "ir/LayoutRule.h"
#include "ir/Ops.h"

namespace moe::ir {

LayoutRule layoutRule(TransposeOp::Adaptor op);
LayoutRule layoutRule(SliceOp::Adaptor op);
LayoutRule layoutRule(PadOp::Adaptor op);
LayoutRule layoutRule(ConcatOp::Adaptor op);
LayoutRule layoutRule(ReduceOp::Adaptor op);
LayoutRule layoutRule(DotOp::Adaptor op);
LayoutRule layoutRule(GatherOp::Adaptor op);
LayoutRule layoutRule(LayerNormOp::Adaptor op);
LayoutRule layoutRule(RmsNormOp::Adaptor op);
LayoutRule layoutRule(SoftmaxCrossEntropyOp::Adaptor op);
LayoutRule layoutRule(AttentionOp::Adaptor op);
LayoutRule layoutRule(AttentionBackwardOp::Adaptor op);
LayoutRule layoutRule(RouteOp::Adaptor op);
LayoutRule layoutRule(RouteBackwardOp::Adaptor op);
LayoutRule layoutRule(DispatchOp::Adaptor op);
LayoutRule layoutRule(CombineOp::Adaptor op);
LayoutRule layoutRule(RoutedDotOp::Adaptor op);
LayoutRule layoutRule(GroupRowsOp::Adaptor op);
LayoutRule layoutRule(GroupedDotOp::Adaptor op);
LayoutRule layoutRule(GroupedDotWeightGradOp::Adaptor op);
LayoutRule layoutRule(AddNOp::Adaptor op);

/// Of scatter_add with an index and a table of these ranks.
LayoutRule scatterAddRule(int64_t indexRank, int64_t tableRank, bool hasInit);

/// Of an elementwise operation with two operands like `like`.
template <typename OpTy> LayoutRule binaryRule(mlir::Value like);

/// Linear in the operands of each set of `linear` together while the others are fixed.
LayoutRule elementwiseRule(mlir::Value like, unsigned operands, llvm::ArrayRef<llvm::SmallVector<unsigned, 2>> linear);

} // namespace moe::ir

#endif // MOEC_IR_LAYOUTRULES_H
