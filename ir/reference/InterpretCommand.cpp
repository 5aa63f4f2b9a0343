//===- InterpretCommand.cpp - moe-opt --interpret ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/InterpretCommand.h"

#include "ir/Dialect.h"
#include "ir/Ops.h"
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
    // + 0.0: the sign of a zero depends on the order of operations, which passes may change.
    if (tensor.isFloat)
      llvm::outs() << llvm::format("%.6g", tensor.floats[i] + 0.0);
    else
      llvm::outs() << tensor.ints[i];
  }
  llvm::outs() << '\n';
}

/// What would be drawn or lies in a file gets numbers like an argument, so that a program has something to compute
/// with.
void fillDrawnStates(ModuleOp module, InterpreterState &state) {
  for (auto [i, op] : llvm::enumerate(module.getOps<StateOp>())) {
    auto initial = dyn_cast_if_present<DictionaryAttr>(op.getInitialAttr());
    if (initial && !initial.contains("data"))
      state.write(op.getSymName(), argumentValue(op.getTensorType(), static_cast<unsigned>(i)));
  }
}

void printStates(ModuleOp module, const InterpreterState &state, ArrayRef<StringRef> prefixes) {
  for (StateOp op : module.getOps<StateOp>())
    if (llvm::any_of(prefixes, [&](StringRef prefix) { return op.getSymName().starts_with(prefix); })) {
      llvm::outs() << op.getSymName() << " = ";
      print(state.read(op.getSymName()));
    }
}

/// The functions that the command names, or the only one, or `main`.
FailureOr<SmallVector<func::FuncOp>> chosenFunctions(ModuleOp module, ArrayRef<StringRef> names, StringRef path) {
  SmallVector<func::FuncOp> chosen;
  for (StringRef name : names) {
    auto function = module.lookupSymbol<func::FuncOp>(name);
    if (!function) {
      llvm::errs() << "error: " << path << " has no function @" << name << " to interpret\n";
      return failure();
    }
    chosen.push_back(function);
  }
  if (!names.empty())
    return chosen;
  auto all = llvm::to_vector(module.getOps<func::FuncOp>());
  if (auto main = module.lookupSymbol<func::FuncOp>("main"); main || all.size() == 1)
    return SmallVector<func::FuncOp>{main ? main : all.front()};
  llvm::errs() << "error: " << path << " has " << all.size() << " functions and none named @main; choose with "
               << "--interpret=FUNCTION\n";
  return failure();
}

} // namespace

int runInterpretCommand(DialectRegistry &registry, int argc, char **argv) {
  MLIRContext context(registry);
  context.loadAllAvailableDialects();
  StringRef path = "-";
  SmallVector<StringRef> names, prefixes;
  InterpreterOptions options;
  options.roundToElementType = true;
  for (int i = 1; i < argc; ++i) {
    StringRef word = argv[i];
    if (word.consume_front("--interpret=")) {
      word.split(names, ',');
    } else if (word.consume_front("--states=")) {
      word.split(prefixes, ',');
    } else if (word == "--float64") {
      options.roundToElementType = false;
    } else if (word.starts_with("--") && word != "--interpret") {
      llvm::errs() << "error: --interpret knows --states=PREFIX,… and --float64, not " << word << "\n";
      return 2;
    } else if (word != "--interpret") {
      path = word;
    }
  }
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(path, &context);
  if (!module)
    return 1;
  FailureOr<SmallVector<func::FuncOp>> functions = chosenFunctions(*module, names, path);
  if (failed(functions))
    return 1;
  InterpreterState state(*module);
  fillDrawnStates(*module, state);
  for (func::FuncOp function : *functions) {
    std::vector<HostTensor> inputs;
    for (auto [i, type] : llvm::enumerate(function.getArgumentTypes()))
      inputs.push_back(argumentValue(cast<RankedTensorType>(type), static_cast<unsigned>(i)));
    FailureOr<std::vector<HostTensor>> results = interpret(*module, function.getSymName(), inputs, state, options);
    if (failed(results))
      return 1;
    for (const HostTensor &result : *results)
      print(result);
  }
  printStates(*module, state, prefixes);
  return 0;
}

} // namespace moe::ir
