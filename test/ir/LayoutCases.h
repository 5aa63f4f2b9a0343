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

/// One way to lay an operation on a mesh with one axis.
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

/// Type of rank-local part of a value whose dimensions have the factors `dims`. `partial`: what it is if it has not the
/// factor (results), or by itself (operands).
mlir::RankedTensorType localType(mlir::RankedTensorType type, const ir::LayoutRule::Dims &dims, const Distribution &how,
                                 bool partial);

/// @f around `op` on rank-local types. Verifies nothing.
mlir::OwningOpRef<mlir::ModuleOp> localModule(mlir::ModuleOp module, const Distribution &how);

/// What each rank holds of `value`: slices, copies, or random summands, as the layout of `type` says.
std::vector<ir::HostTensor> scatter(const ir::HostTensor &value, mlir::RankedTensorType type, int64_t ranks,
                                    uint64_t seed);
/// The whole tensor of the parts: joined, the first of equal ones, or summed. Absent if parts that should be equal are
/// not.
std::optional<ir::HostTensor> assemble(const std::vector<ir::HostTensor> &parts, mlir::RankedTensorType type);

} // namespace moe::test

#endif // MOEC_TEST_IR_LAYOUTCASES_H
