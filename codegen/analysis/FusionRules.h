//===- FusionRules.h - Which operations and regions the emitters can compute ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// The body of a `moe.fused` is legal if every operation has a role below and the region has the form of its emitter:
//
//   loop, gather_scatter, multi_tensor
//       no reductions (of more than one element); all outputs have the same number of elements. The space is the shape
//       of the output of highest rank. gather_scatter and multi_tensor are names for the cost model and for people.
//   row_reduce
//       Let D be the operand shape of the largest reduction, R its dimensions that stay, C those that vanish. Every
//       reduction combines |C| elements; its result may be read at indices that depend on R only (so a reduction over
//       the results of another one, across rows, is another region). Outputs have |R| |C| or |R| elements. Reductions
//       may depend on each other: each level is one pass over the row, and what lies between is computed again in each
//       pass. C should be the trailing dimensions of D: other reductions are computed, slowly.
//   column_reduce
//       D, R and C as above; no reduction depends on another; all outputs have |R| elements and read the reductions at
//       their own index. The last dimension of R should be the last of D.
//
// Everything is computed once per point of the space that reads it, so a producer that is read through a broadcast is
// computed as often as it is repeated: cheap producers only.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_ANALYSIS_FUSIONRULES_H
#define MOEC_CODEGEN_ANALYSIS_FUSIONRULES_H

#include "mlir/IR/Operation.h"

namespace moe::codegen {

/// What an operation is inside a fused region.
enum class FusionRole {
  None,      ///< not computable by an emitter
  Source,    ///< constant, iota, random_uniform
  Pointwise, ///< any operation with ElementwiseOpInterface
  Access,    ///< broadcast, transpose, reshape, slice, pad, concat: another index of the operand
  Indirect,  ///< gather: rows found through an index
  Reduction  ///< reduce
};

/// Role of `op`; None too where an element type of an operand or result is not supported by kernels. float64 is: no
/// emitter computes it, but the interpreter runs fused modules in it.
FusionRole classifyFusible(mlir::Operation *op);

/// Element types that kernels load, store and compute: f32, f16 and bf16 (computed in f32), i1, i8, i32, i64.
bool isKernelElementType(mlir::Type type);

} // namespace moe::codegen

#endif // MOEC_CODEGEN_ANALYSIS_FUSIONRULES_H
