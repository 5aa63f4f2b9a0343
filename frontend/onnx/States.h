//===- States.h - Initializers as state of the module -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_STATES_H
#define MOEC_FRONTEND_ONNX_STATES_H

#include "frontend/onnx/Import.h"
#include "frontend/onnx/Model.h"
#include "ir/Ops.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"

namespace moe::frontend {

/// Name of the state that keys all random draws: tensor<2xi64> with (num_updates, index of the micro-batch).
inline constexpr const char *kRngState = "control.progress";

/// How TrainingInfoProto says that initializers are drawn.
class Initialization {
public:
  explicit Initialization(const Model &model);
  /// An `initial` attribute, or null if the initializer is bound to a form that is not understood.
  mlir::Attribute initial(llvm::StringRef name, mlir::Builder &builder) const;
  bool isBound(llvm::StringRef name) const { return bindings.count(name); }
  bool empty() const { return bindings.empty(); }
  /// All bound initializers are zero in the file, hence to be drawn.
  bool draws() const { return allZero; }

private:
  const onnx::NodeProto *producer(llvm::StringRef value) const { return producers.lookup(value); }
  std::optional<std::vector<int64_t>> integers(llvm::StringRef value) const;
  llvm::StringMap<std::string> bindings;
  llvm::StringMap<const onnx::NodeProto *> producers;
  bool allZero = false;
};

/// Creates one `moe.state` for each initializer that a program reads.
class StateTable {
public:
  StateTable(const Model &model, const ImportOptions &options, mlir::ModuleOp module);

  /// A shape or a scalar: becomes a constant of the programs.
  bool isConstant(const onnx::TensorProto &tensor) const;
  /// `type` is the tensor's type in the dialect. The state of 16-bit floats is one of float32.
  ir::StateOp get(const onnx::TensorProto &tensor, mlir::RankedTensorType type);
  /// Whether nothing says if a tensor that `get` was asked for is trained.
  bool isAmbiguous(const onnx::TensorProto &tensor) const { return llvm::is_contained(ambiguous, &tensor); }
  ir::StateOp rng();
  /// The tensor that `name` is tied to, and whether it is its transpose; null also if the two do not fit.
  const Tie *tie(llvm::StringRef name) const;
  /// Reports float tensors of which nothing says whether they are trained or how they are drawn, patterns that match
  /// nothing, ties between tensors that do not exist or do not fit.
  void report(std::vector<Diagnostic> &diagnostics) const;

private:
  bool fits(const Tie &tie) const;
  void reportTies(std::vector<Diagnostic> &diagnostics) const;
  std::optional<ir::StateKind> kind(const onnx::TensorProto &tensor);
  mlir::Attribute initial(const onnx::TensorProto &tensor, mlir::RankedTensorType type);
  mlir::ElementsAttr maskElements(const onnx::TensorProto &tensor, mlir::RankedTensorType type);
  bool counts(const onnx::TensorProto &tensor, mlir::RankedTensorType type) const;

  const Model &model;
  const ImportOptions &options;
  mlir::OpBuilder builder;
  Initialization initialization;
  llvm::StringMap<ir::StateOp> states;
  std::vector<const onnx::TensorProto *> ambiguous, undrawable, unreadable;
};

/// Shell-style pattern: `*` stands for any characters, `?` for one.
bool matchesGlob(llvm::StringRef pattern, llvm::StringRef name);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_STATES_H
