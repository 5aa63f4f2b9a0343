//===- TestSupport.h - Runs textual IR by the interpreter -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_IR_TESTSUPPORT_H
#define MOEC_TEST_IR_TESTSUPPORT_H

#include "ir/reference/Interpreter.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include <string>
#include <vector>

namespace moe::test {

/// A context with the dialects of the project, whose diagnostics are collected instead of printed.
class IrContext {
public:
  IrContext();
  /// Parses and verifies; null after an error.
  mlir::OwningOpRef<mlir::ModuleOp> parse(const std::string &text);
  /// Everything reported so far, one message per line.
  const std::string &messages() const { return diagnostics; }

  mlir::MLIRContext context;

private:
  std::string diagnostics;
};

/// A module with one function @f around one operation. `operation` is the operation as it stands in a block, with
/// operands %0, %1, … which become the arguments: "moe.add %0, %1 : (tensor<3xf64>, tensor<3xf64>) -> tensor<3xf64>".
std::string functionAround(const std::string &operation);

/// Runs @f around `operation`; empty after an error.
std::vector<ir::HostTensor> evaluate(IrContext &ir, const std::string &operation,
                                     const std::vector<ir::HostTensor> &inputs,
                                     const ir::InterpreterOptions &options = {});

/// Runs function `name`; empty after an error.
std::vector<ir::HostTensor> evaluate(mlir::ModuleOp module, const std::string &name,
                                     const std::vector<ir::HostTensor> &inputs,
                                     const ir::InterpreterOptions &options = {});

/// Deterministic numbers in [low, high) that are no round values.
std::vector<double> randomNumbers(int64_t count, double low, double high, uint64_t seed);

} // namespace moe::test

#endif // MOEC_TEST_IR_TESTSUPPORT_H
