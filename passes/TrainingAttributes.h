//===- TrainingAttributes.h - What passes read of the recipe, and the states they agree on ----------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_TRAININGATTRIBUTES_H
#define MOEC_PASSES_TRAININGATTRIBUTES_H

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

#include <optional>
#include <string>

namespace moe::ir {

inline constexpr llvm::StringLiteral kProgramAttr = "moe.program";
inline constexpr llvm::StringLiteral kNameAttr = "moe.name";
inline constexpr llvm::StringLiteral kTrainingAttr = "moe.training";
/// Attribute of a module on a mesh: `optimizer` or `full` (see `insert-fsdp`); absent if state is on all ranks.
inline constexpr llvm::StringLiteral kFsdpAttr = "moe.fsdp";
/// tensor<2xi64>: (num_updates, index of the micro-batch).
inline constexpr llvm::StringLiteral kProgressState = "control.progress";

/// The module attribute `moe.training` (ir/README.md), checked and with defaults filled in.
struct TrainingAttributes {
  struct Optimizer {
    std::string name = "adamw";
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01, momentum = 0.0;
  };
  struct Schedule {
    std::string name = "constant";
    int64_t warmupUpdates = 0, totalUpdates = 0;
    double power = 1.0, endLr = 0.0;
    int64_t decayUpdates = 0;
    std::string decay = "linear";
  };
  std::string loss = "loss";
  int64_t accumulate = 1, seed = 1;
  double clipNorm = 0.0;
  Optimizer optimizer;
  Schedule schedule;

  /// Emits an error at the module for a value of the wrong kind.
  static mlir::FailureOr<TrainingAttributes> read(mlir::ModuleOp module);
};

/// Index of the result of `function` whose `moe.name` is `name`.
std::optional<unsigned> findResult(mlir::func::FuncOp function, llvm::StringRef name);
/// Names of the results, for messages.
std::string resultNames(mlir::func::FuncOp function);

/// `"NAME.grad"` for a location named NAME; other locations are wrapped.
mlir::Location gradientLocation(mlir::Location loc);

/// Declares states at the start of a module and touches them by name.
class StateWriter {
public:
  StateWriter(mlir::ModuleOp module, mlir::OpBuilder &builder) : module(module), context(builder.getContext()) {}

  /// The state `name`; created if there is none. `initial` is a constant.
  StateOp declare(llvm::StringRef name, mlir::RankedTensorType type, StateKind kind, double initial = 0.0);
  mlir::Value read(mlir::OpBuilder &builder, mlir::Location loc, llvm::StringRef name);
  void write(mlir::OpBuilder &builder, mlir::Location loc, llvm::StringRef name, mlir::Value value);
  /// tensor<2xi64>, on the mesh of `like` the same on all ranks.
  mlir::RankedTensorType progressType(mlir::RankedTensorType like);

private:
  mlir::ModuleOp module;
  mlir::MLIRContext *context;
};

} // namespace moe::ir

#endif // MOEC_PASSES_TRAININGATTRIBUTES_H
