//===- InterpretCommand.cpp - moe-opt --interpret ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/InterpretCommand.h"

#include "ir/Dialect.h"
#include "ir/reference/Interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Parser/Parser.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace moe::ir {

namespace {

HostTensor argumentValue(RankedTensorType type, unsigned argument) {
  HostTensor tensor(type);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    if (tensor.isFloat)
      tensor.floats[i] = static_cast<double>(((i + 31 * argument) * 37) % 101 - 50) / 50.0;
    else
      tensor.ints[i] = (i + argument) % (type.getElementType().isInteger(1) ? 2 : 5);
  }
  return tensor;
}

void print(const HostTensor &tensor) {
  for (int64_t i = 0; i < tensor.size(); ++i) {
    llvm::outs() << (i ? ", " : "");
    if (tensor.isFloat)
      llvm::outs() << llvm::format("%.6g", tensor.floats[i]);
    else
      llvm::outs() << tensor.ints[i];
  }
  llvm::outs() << '\n';
}

} // namespace

int runInterpretCommand(DialectRegistry &registry, int argc, char **argv) {
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  std::string path = "-", name;
  InterpreterOptions options;
  options.roundToElementType = true;
  for (int i = 1; i < argc; ++i) {
    StringRef word = argv[i];
    if (word.consume_front("--interpret"))
      name = word.consume_front("=") ? word.str() : "";
    else if (word == "--float64")
      options.roundToElementType = false;
    else
      path = word.str();
  }
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(path, &context);
  if (!module)
    return 1;
  func::FuncOp function;
  for (auto candidate : module->getOps<func::FuncOp>())
    if (candidate.getSymName() == (name.empty() ? "main" : name) || (name.empty() && !function))
      function = candidate;
  if (!function) {
    llvm::errs() << "error: " << path << " has no function " << (name.empty() ? "" : "@" + name) << " to interpret\n";
    return 1;
  }
  std::vector<HostTensor> inputs;
  for (auto [i, type] : llvm::enumerate(function.getArgumentTypes()))
    inputs.push_back(argumentValue(cast<RankedTensorType>(type), i));
  InterpreterState state(*module);
  FailureOr<std::vector<HostTensor>> results = interpret(*module, function.getSymName(), inputs, state, options);
  if (failed(results))
    return 1;
  for (const HostTensor &result : *results)
    print(result);
  return 0;
}

} // namespace moe::ir
