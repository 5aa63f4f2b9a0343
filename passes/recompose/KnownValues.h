//===- KnownValues.h - What a model computes from constants alone -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_RECOMPOSE_KNOWNVALUES_H
#define MOEC_PASSES_RECOMPOSE_KNOWNVALUES_H

#include "ir/Ops.h"
#include "ir/StateElements.h"
#include "ir/reference/Interpreter.h"

#include <memory>

namespace moe::ir::recompose {

/// Evaluates values that depend on no argument, no trained weight and no random number, by the reference semantics.
/// Exports compute causal masks from ranges by dozens of operations in ever new ways; what they come to is what counts.
class KnownValues {
public:
  /// Larger tensors are taken for unknown.
  static constexpr int64_t kMaxElements = int64_t(1) << 24;

  explicit KnownValues(mlir::ModuleOp module) : module(module) {}

  bool isKnown(mlir::Value value);
  /// The elements, or null. The pointer lives as long as this object.
  const HostTensor *get(mlir::Value value);
  /// The number that all elements of `value` are, whatever its shape.
  std::optional<double> scalar(mlir::Value value);

private:
  mlir::ElementsAttr frozenElements(ReadOp read);

  mlir::ModuleOp module;
  llvm::DenseMap<mlir::Value, bool> known;
  llvm::DenseMap<mlir::Value, std::unique_ptr<HostTensor>> values;
};

} // namespace moe::ir::recompose

#endif // MOEC_PASSES_RECOMPOSE_KNOWNVALUES_H
