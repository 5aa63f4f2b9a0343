//===- OnnxTarget.cpp - Fuzzes the importer of ONNX models --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Input: an ONNX file. Every symbolic dimension is bound, every weight trained; external data lie in `weights.bin`
// beside the model. What is imported must be a module of the phase `import`, and, if it is small, become one of
// `recompose`.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Import.h"
#include "ir/Dialect.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "onnx/onnx-ml.pb.h"
#include "passes/Pipeline.h"
#include "test/fuzz/Target.h"

#include <memory>
#include <string>

using namespace moe;

namespace {

constexpr uint64_t kWeightBytes = uint64_t(64) << 20; // a hole
constexpr size_t kRecomposedOperations = 20000;
constexpr int64_t kExtents[] = {2, 3, 4};

/// An MLIR context keeps every type and attribute it has seen, so it is replaced after some runs.
class Compiler {
public:
  mlir::MLIRContext &context() {
    if (!shared || ++runs > 100) {
      shared = std::make_unique<mlir::MLIRContext>(mlir::MLIRContext::Threading::DISABLED);
      shared->loadDialect<ir::MoeDialect, mlir::func::FuncDialect>();
      runs = 0;
    }
    return *shared;
  }

private:
  std::unique_ptr<mlir::MLIRContext> shared;
  int runs = 0;
};

/// Extents for the symbolic dimensions of the inputs, as --bind gives them.
frontend::Bindings bindDimensions(const onnx::ModelProto &model) {
  frontend::Bindings bindings;
  for (const onnx::ValueInfoProto &input : model.graph().input())
    for (const onnx::TensorShapeProto::Dimension &dim : input.type().tensor_type().shape().dim())
      if (!dim.dim_param().empty())
        bindings.emplace(dim.dim_param(), kExtents[bindings.size() % std::size(kExtents)]);
  return bindings;
}

void writeWeights() {
  static const bool written = [] {
    const std::filesystem::path path = fuzz::folder().write("weights.bin", "");
    std::filesystem::resize_file(path, kWeightBytes);
    return true;
  }();
  static_cast<void>(written);
}

void recompose(mlir::ModuleOp module) {
  size_t operations = 0;
  module.walk([&](mlir::Operation *) { ++operations; });
  ir::PipelineOptions pipeline;
  pipeline.last = operations > kRecomposedOperations ? ir::Phase::Import : ir::Phase::Recompose;
  std::string messages;
  mlir::ScopedDiagnosticHandler handler(module.getContext(), [&](mlir::Diagnostic &diagnostic) {
    messages += diagnostic.str() + "\n";
    return mlir::success();
  });
  if (mlir::failed(ir::runPhases(module, pipeline)))
    fuzz::finding("an imported model that is refused later: " + messages);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::TimeLimit limit;
  static Compiler compiler;
  writeWeights();
  const std::string path = fuzz::folder().write("model.onnx", fuzz::textOf(data, size)).string();
  frontend::ImportOptions options;
  options.parameters.standard = frontend::ParameterPolicy::Standard::Train;
  onnx::ModelProto model;
  if (model.ParseFromArray(data, int(size)))
    options.bindings = bindDimensions(model);
  std::vector<Diagnostic> diagnostics;
  std::string notes;
  mlir::MLIRContext &context = compiler.context();
  mlir::OwningOpRef<mlir::ModuleOp> module;
  {
    mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
      notes += diagnostic.str() + "\n";
      return mlir::success();
    });
    module = frontend::importOnnx(context, path, options, diagnostics);
  }
  bool refused = false;
  for (const Diagnostic &diagnostic : diagnostics) {
    if (diagnostic.code == ExitCode::Internal)
      fuzz::finding("an internal error: " + diagnostic.str() + "\n" + notes);
    fuzz::checkRefusal(diagnostic);
    refused |= diagnostic.code != ExitCode::Success;
  }
  if (refused == bool(module))
    fuzz::finding(module ? "a module in spite of errors" : "no module and no error");
  if (module)
    recompose(*module);
  return 0;
}
