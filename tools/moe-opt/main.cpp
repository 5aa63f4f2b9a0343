//===- main.cpp - moe-opt: passes and the interpreter on textual IR ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Dialect.h"
#include "ir/Status.h"
#include "ir/reference/InterpretCommand.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"
#include "passes/Passes.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<moe::ir::MoeDialect, mlir::func::FuncDialect>();
  for (int i = 1; i < argc; ++i) {
    if (llvm::StringRef(argv[i]) == "--emit-status") {
      mlir::MLIRContext context(registry);
      context.loadAllAvailableDialects();
      llvm::outs() << moe::ir::statusTable(context);
      return 0;
    }
    if (llvm::StringRef word = argv[i]; word == "--interpret" || word.starts_with("--interpret="))
      return moe::ir::runInterpretCommand(registry, argc, argv);
  }
  moe::ir::registerMoePasses();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  return mlir::asMainReturnCode(mlir::MlirOptMain(argc, argv, "moe-opt: the passes of moec on textual IR\n", registry));
}
