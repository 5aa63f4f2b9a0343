//===- Interpreter.h - Runs a module of any phase, slowly and obviously -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// The oracle of the project: every operation states its semantics once more, in plain loops over float64 values, with no
// code shared with differentiation, fusion or code generation.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_REFERENCE_INTERPRETER_H
#define MOEC_IR_REFERENCE_INTERPRETER_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include <map>
#include <string>
#include <vector>

namespace moe::ir {

/// A tensor on the host: floats of every width as double, integers and booleans as int64 (row-major, one of the two
/// vectors is used).
struct HostTensor {
  llvm::SmallVector<int64_t> shape;
  bool isFloat = true;
  std::vector<double> floats;
  std::vector<int64_t> ints;

  HostTensor() = default;
  /// Zeros of the shape and element class of `type`.
  explicit HostTensor(mlir::RankedTensorType type);
  int64_t size() const;
  /// Element as a double, whatever the class.
  double at(int64_t i) const { return isFloat ? floats[i] : static_cast<double>(ints[i]); }
};

struct InterpreterOptions {
  /// Round every result to its element type (f32 runs); otherwise floats stay float64 throughout.
  bool roundToElementType = false;
};

/// Values of the state tensors; bucketed states are views of their bucket's storage.
class InterpreterState {
public:
  explicit InterpreterState(mlir::ModuleOp module);
  HostTensor read(llvm::StringRef name) const;
  void write(llvm::StringRef name, const HostTensor &value);
  bool contains(llvm::StringRef name) const { return entries.count(name.str()); }

private:
  struct Entry {
    mlir::RankedTensorType type;
    std::string storage;
    int64_t offset = 0;
  };
  std::map<std::string, Entry> entries;
  std::map<std::string, HostTensor> storages;
};

/// What `interpret` of an operation may ask for besides its operands.
class InterpreterContext {
public:
  InterpreterContext(InterpreterState &state, const InterpreterOptions &options) : state(state), options(options) {}
  InterpreterState &state;
  InterpreterOptions options;
};

/// Runs function `name` of `module` on `inputs` (one per argument). Fails with a diagnostic at the operation at fault.
mlir::FailureOr<std::vector<HostTensor>> interpret(mlir::ModuleOp module, llvm::StringRef name,
                                                   llvm::ArrayRef<HostTensor> inputs, InterpreterState &state,
                                                   const InterpreterOptions &options = {});

/// Runs the operations of one block (used by regions such as `moe.fused`); returns the terminator's operands.
mlir::FailureOr<std::vector<HostTensor>> interpretBlock(mlir::Block &block, llvm::ArrayRef<HostTensor> arguments,
                                                        InterpreterContext &context);

/// Converts an elements attribute.
HostTensor toHostTensor(mlir::ElementsAttr attr);

/// Rounds `value` to the nearest value of a float type (bf16, f16, f32, f64).
double roundToType(double value, mlir::Type type);

} // namespace moe::ir

#endif // MOEC_IR_REFERENCE_INTERPRETER_H
