//===- LayoutCases.h - Operations cut into the parts of several ranks ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_IR_LAYOUTCASES_H
#define MOEC_TEST_IR_LAYOUTCASES_H

#include "ir/Ops.h"
#include "test/ir/GradientCases.h"

namespace moe::test {

/// Cases of operations without an adjoint.
const std::vector<OperationCase> &furtherLayoutCases();

/// One way to lay an operation on one axis of a mesh.
struct Distribution {
  /// Ranks on the axis.
  int64_t ranks = 2;
  /// The factor that the axis splits; none if operands are partial.
  std::optional<int> factor;
  /// Operands that are partial.
  llvm::SmallVector<unsigned, 2> partial;

  std::string name() const;
};

/// All that the rule of `op` allows: each factor cut into as many parts as its smallest prime divisor, each linear set.
std::vector<Distribution> distributions(mlir::Operation *op);

/// How an operation lies on a mesh, axis by axis.
using Mesh = llvm::ArrayRef<Distribution>;

/// Ranks of all axes.
int64_t ranksOf(Mesh mesh);
std::string nameOf(Mesh mesh);

/// @f around `op` on rank-local types. Verifies nothing.
mlir::OwningOpRef<mlir::ModuleOp> localModule(mlir::ModuleOp module, Mesh mesh);

/// What each rank holds of `value`, the ranks of the last axis side by side: slices, copies, or random summands, as the
/// layout of `type` says.
std::vector<ir::HostTensor> scatter(const ir::HostTensor &value, mlir::RankedTensorType type, Mesh mesh, uint64_t seed);
/// The whole tensor of the parts: joined, the first of equal ones, or summed. Absent if parts that should be equal are
/// not.
std::optional<ir::HostTensor> assemble(std::vector<ir::HostTensor> parts, mlir::RankedTensorType type, Mesh mesh);

} // namespace moe::test

#endif // MOEC_TEST_IR_LAYOUTCASES_H
