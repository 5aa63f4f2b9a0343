//===- Import.h - From an ONNX file to a module of the moe dialect ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// The phases `import` and `recompose` of a model that moec itself wrote: the result holds the coarse operations
// (attention, layer_norm, softmax_cross_entropy, route, dispatch, combine) and static global shapes. What the module
// looks like, attribute by attribute, is in README.md beside this file.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_IMPORT_H
#define MOEC_FRONTEND_ONNX_IMPORT_H

#include "frontend/recipe/Recipe.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "runtime/core/Diagnostic.h"
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moe::frontend {

/// Extents of symbolic dimensions by their ONNX name.
using Bindings = std::map<std::string, int64_t>;

struct ImportOptions {
  /// Extents in the training program (the global micro-batch).
  Bindings bindings;
  /// Extents in `@eval`; a dimension that is missing here has its extent of `bindings`.
  Bindings evalBindings;
  /// Number of routing groups G; 0 keeps what the file says (1 if it says nothing).
  int64_t routingGroups = 0;
  /// Which initializers are trained (design §6).
  ParameterPolicy parameters;
  /// Pairs of initializers that are one tensor.
  std::vector<Tie> ties;
  /// Names of the graph outputs (or inner values) that the programs return; empty: all graph outputs.
  std::vector<std::string> outputs;
  /// Seed of dropout and of the noise of gates.
  int64_t seed = 1;
  /// Build `@eval` too.
  bool evaluation = true;
};

/// Parses `batch=4` or `eval.batch=1` into `options`.
Status addBinding(const std::string &text, ImportOptions &options);

/// Reads the model at `path`. On failure the result is null and `diagnostics` says everything that is wrong at once:
/// the file (unreadable, truncated, cyclic, external data outside its folder), unbound dimensions, every node that has
/// no translation (name, operator, opset, why), tensors of which it is unknown whether they are trained. On success
/// `diagnostics` may hold warnings.
mlir::OwningOpRef<mlir::ModuleOp> importOnnx(mlir::MLIRContext &context, const std::string &path,
                                             const ImportOptions &options, std::vector<Diagnostic> &diagnostics);

/// Attribute of a float32 `moe.constant` whose model file says which double it rounds.
inline constexpr const char *kExactAttribute = "moe.exact";

/// Replaces constants that round a double by the cast of that double, so that an interpreter in float64 computes with
/// what was meant. Not for compilation: code generation has no float64.
void useExactConstants(mlir::ModuleOp module);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_IMPORT_H
