//===- TestSupport.cpp - Runs textual IR by the interpreter -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/ir/TestSupport.h"
#include "ir/Dialect.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include <random>

using namespace mlir;

namespace moe::test {

IrContext::IrContext() : context(MLIRContext::Threading::DISABLED) {
  context.loadDialect<ir::MoeDialect, func::FuncDialect>();
  context.getDiagEngine().registerHandler([this](Diagnostic &diagnostic) {
    diagnostics += diagnostic.str() + "\n";
    return success();
  });
}

OwningOpRef<ModuleOp> IrContext::parse(const std::string &text) {
  return parseSourceString<ModuleOp>(text, ParserConfig(&context));
}

std::string functionAround(const std::string &operation) {
  size_t colon = operation.rfind(" : (");
  size_t arrow = operation.rfind(" -> ");
  std::string operands = operation.substr(colon + 4, arrow - colon - 5);
  std::string results = operation.substr(arrow + 4);
  if (results.front() == '(')
    results = results.substr(1, results.size() - 2);
  // Types of tensors hold no commas, except inside a layout, which these tests do without.
  auto split = [](const std::string &list) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin < list.size();) {
      size_t end = std::min(list.find(", ", begin), list.size());
      parts.push_back(list.substr(begin, end - begin));
      begin = end + 2;
    }
    return parts;
  };
  std::string arguments, values;
  size_t index = 0;
  for (const std::string &type : split(operands)) {
    arguments += (index ? ", %" : "%") + std::to_string(index) + ": " + type;
    ++index;
  }
  size_t count = split(results).size();
  for (size_t i = 0; i < count; ++i)
    values += (i ? ", %r#" : "%r#") + std::to_string(i);
  return "func.func @f(" + arguments + ") -> (" + results + ") {\n  %r:" + std::to_string(count) + " = " + operation +
         "\n  return " + values + " : " + results + "\n}\n";
}

std::vector<ir::HostTensor> evaluate(ModuleOp module, const std::string &name,
                                     const std::vector<ir::HostTensor> &inputs, const ir::InterpreterOptions &options) {
  ir::InterpreterState state(module);
  FailureOr<std::vector<ir::HostTensor>> results = ir::interpret(module, name, inputs, state, options);
  return succeeded(results) ? *results : std::vector<ir::HostTensor>();
}

std::vector<ir::HostTensor> evaluate(IrContext &ir, const std::string &operation,
                                     const std::vector<ir::HostTensor> &inputs, const ir::InterpreterOptions &options) {
  OwningOpRef<ModuleOp> module = ir.parse(functionAround(operation));
  return module ? evaluate(*module, "f", inputs, options) : std::vector<ir::HostTensor>();
}

std::vector<double> randomNumbers(int64_t count, double low, double high, uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<double> numbers(count);
  for (double &number : numbers)
    number = low + (high - low) * (static_cast<double>(engine() >> 11) * 0x1p-53);
  return numbers;
}

} // namespace moe::test
