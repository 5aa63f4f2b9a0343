//===- GradientCases.h - One or more uses of every differentiable operation -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_IR_GRADIENTCASES_H
#define MOEC_TEST_IR_GRADIENTCASES_H

#include "test/ir/TestSupport.h"
#include <ostream>

namespace moe::test {

/// How an operand of a case is filled.
struct CaseInput {
  /// Range of random numbers; chosen to stay away from poles and kinks.
  double low = -2, high = 2;
  /// Values of an integer or boolean operand.
  std::vector<int64_t> ints = {};
};

/// An operation, as `functionAround` takes it, with its operands.
struct OperationCase {
  std::string operation;
  /// Operands without an entry are random in [-2, 2).
  std::vector<CaseInput> inputs = {};
  /// Results that gradients arrive at.
  std::vector<unsigned> results = {0};
  /// What the adjoint is a multiple of, by definition of the operation.
  double factor = 1;

  /// "moe.add"
  std::string name() const { return operation.substr(0, operation.find_first_of(" {")); }
};

/// How GoogleTest shows a case.
inline void PrintTo(const OperationCase &example, std::ostream *os) {
  *os << example.operation;
}

/// Every operation with an adjoint, attributes varied, odd shapes, float64.
const std::vector<OperationCase> &differentiableCases();

/// Operations that have a decomposition but no adjoint.
const std::vector<OperationCase> &furtherDecomposableCases();

/// Values of the arguments of @f of `module`, which stands around the operation of `example`.
std::vector<ir::HostTensor> inputsOf(const OperationCase &example, mlir::ModuleOp module);

} // namespace moe::test

#endif // MOEC_TEST_IR_GRADIENTCASES_H
