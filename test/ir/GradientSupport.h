//===- GradientSupport.h - Functions that compute gradients of one operation ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_IR_GRADIENTSUPPORT_H
#define MOEC_TEST_IR_GRADIENTSUPPORT_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "test/ir/GradientCases.h"
#include "llvm/ADT/SmallBitVector.h"

namespace moe::test {

/// The operation that @f of `module` stands around.
mlir::Operation *subject(mlir::ModuleOp module);

/// Operands of floating point.
llvm::SmallBitVector floatOperands(mlir::Operation *op);

/// One value per operand or result: absent where an adjoint or decomposition emitted none.
using OptionalTensors = std::vector<std::optional<ir::HostTensor>>;

/// Gradients with respect to the operands, by the operation's own `buildAdjoint`, for the cotangents of
/// `example.results`, on one rank of the module's mesh. Empty after an error.
OptionalTensors adjointGradients(mlir::ModuleOp module, const OperationCase &example,
                                 const std::vector<ir::HostTensor> &inputs,
                                 const std::vector<ir::HostTensor> &cotangents, const llvm::SmallBitVector &needed,
                                 int64_t rank = 0);

/// The same, but of the operation's decomposition: a plain reverse sweep over the finer operations, one after the
/// other.
OptionalTensors decomposedGradients(mlir::ModuleOp module, const OperationCase &example,
                                    const std::vector<ir::HostTensor> &inputs,
                                    const std::vector<ir::HostTensor> &cotangents);

/// Results of the operation's decomposition. Empty after an error.
OptionalTensors decomposedResults(mlir::ModuleOp module, const std::vector<ir::HostTensor> &inputs);

/// Random cotangents of `example.results`.
std::vector<ir::HostTensor> cotangentsOf(const OperationCase &example, mlir::ModuleOp module);

} // namespace moe::test

#endif // MOEC_TEST_IR_GRADIENTSUPPORT_H
