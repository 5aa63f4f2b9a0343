//===- RegionBuilder.h - From a fused region to its kernel graph ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_ANALYSIS_REGIONBUILDER_H
#define MOEC_CODEGEN_ANALYSIS_REGIONBUILDER_H

#include "codegen/analysis/KernelGraph.h"

namespace moe::codegen {

/// How the iteration space of a region relates to its outputs (FusionRules.h says which regions have which form).
enum class RegionForm {
  Pointwise,   ///< the space is the shape of the outputs
  RowReduce,   ///< the space is the shape before reduction; outputs have it, or lack the reduced dimensions
  ColumnReduce ///< the space is the shape before reduction; all outputs lack the reduced dimensions
};

/// Form that the region's `emitter` names; none if there is no such emitter.
std::optional<RegionForm> formOf(llvm::StringRef emitter);

/// Builds the graph of `op`, with one dimension per dimension of the space (not collapsed). In a row reduction a result
/// of full shape varies with all dimensions, others with the dimensions that are not reduced. Fails with a diagnostic
/// at the operation that the form does not allow.
mlir::FailureOr<KernelGraph> buildKernelGraph(ir::FusedOp op);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_ANALYSIS_REGIONBUILDER_H
