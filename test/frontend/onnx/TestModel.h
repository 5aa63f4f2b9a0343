//===- TestModel.h - Small ONNX models for tests ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FRONTEND_ONNX_TESTMODEL_H
#define MOEC_TEST_FRONTEND_ONNX_TESTMODEL_H

#include "frontend/models/NodeBuilder.h"
#include "frontend/onnx/Import.h"
#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include <filesystem>
#include <string>
#include <vector>

namespace moe::test {

using models::NodeBuilder;

/// A model under construction, its file in a folder of its own, and its import.
class TestModel {
public:
  explicit TestModel(int64_t opset = 20);
  ~TestModel();
  TestModel(const TestModel &) = delete;
  TestModel &operator=(const TestModel &) = delete;

  void input(const std::string &name, const std::vector<int64_t> &shape, int type = onnx::TensorProto::FLOAT);
  void symbolicInput(const std::string &name, const std::vector<std::string> &shape);
  void output(const std::string &name);
  onnx::TensorProto &weight(const std::string &name, const std::vector<int64_t> &shape,
                            const std::vector<float> &values);

  std::string path() const { return (folder / "model.onnx").string(); }
  void write() const;
  /// Writes and imports; on failure `diagnostics` says why.
  bool import();
  /// Runs `program` with float inputs of these elements; the results by their names.
  std::map<std::string, std::vector<double>> run(const std::vector<std::vector<double>> &inputs,
                                                 const std::string &program = "forward");
  /// Number of operations of one kind in `program`.
  template <typename Op> int count(const std::string &program = "forward") {
    int result = 0;
    function(program).walk([&](Op) { ++result; });
    return result;
  }
  mlir::func::FuncOp function(const std::string &program = "forward") {
    return module->lookupSymbol<mlir::func::FuncOp>(program);
  }
  mlir::RankedTensorType resultType(unsigned index) {
    return llvm::cast<mlir::RankedTensorType>(function().getResultTypes()[index]);
  }
  /// All messages in one text.
  std::string messages() const;

  std::filesystem::path folder;
  onnx::ModelProto proto;
  onnx::GraphProto &graph;
  NodeBuilder nodes;
  frontend::ImportOptions options;
  std::vector<Diagnostic> diagnostics;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// 0.1, -0.2, 0.3, … : distinct values of both signs.
std::vector<double> ramp(int64_t count);
std::vector<float> floatRamp(int64_t count);

} // namespace moe::test

#endif // MOEC_TEST_FRONTEND_ONNX_TESTMODEL_H
