//===- Interpreter.h - Runs a module of any phase, slowly and obviously -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// The oracle of the project: every operation states its semantics once more, in plain loops over float64 values, with
// no code shared with differentiation, fusion or code generation.
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
  /// A float tensor with the given values; their number must fit the shape.
  HostTensor(llvm::ArrayRef<int64_t> shape, std::vector<double> values);
  /// An integer tensor with the given values; their number must fit the shape.
  static HostTensor ofInts(llvm::ArrayRef<int64_t> shape, std::vector<int64_t> values);
  int64_t size() const;
  /// Element as a double, whatever the class.
  double at(int64_t i) const { return isFloat ? floats[i] : static_cast<double>(ints[i]); }
};

struct InterpreterOptions {
  /// Round every result to its element type (f32 runs); otherwise floats stay float64 throughout.
  bool roundToElementType = false;
  /// Which rank of the module's mesh `interpret` is.
  int64_t rank = 0;
};

/// Values of the state tensors; bucketed states are views of their bucket's storage.
class InterpreterState {
public:
  /// Numbers and dense data of `initial` are set; what is drawn or lies in a file starts as zeros. The module
  /// must verify.
  explicit InterpreterState(mlir::ModuleOp module);
  /// `name` must be contained.
  HostTensor read(llvm::StringRef name) const;
  /// `name` must be contained, and `value` of its shape.
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
  /// `coordinates`: of the rank, one for each axis of the module's mesh; none without a mesh.
  InterpreterContext(InterpreterState &state, const InterpreterOptions &options,
                     llvm::ArrayRef<int64_t> coordinates = {})
      : state(state), options(options), coordinates(coordinates) {}
  InterpreterState &state;
  InterpreterOptions options;
  llvm::SmallVector<int64_t> coordinates;
  /// Functions that are being run, outermost first; a call to one of them would never end.
  std::vector<mlir::Operation *> activeFunctions;
};

/// Runs function `name` of `module` on `inputs` (one per argument). Fails with a diagnostic at the operation at fault.
mlir::FailureOr<std::vector<HostTensor>> interpret(mlir::ModuleOp module, llvm::StringRef name,
                                                   llvm::ArrayRef<HostTensor> inputs, InterpreterState &state,
                                                   const InterpreterOptions &options = {});

/// The same on all ranks of the module's mesh, in step: `inputs` and `states` have one entry for each rank, and so have
/// the results. Operations between ranks see the operands of their whole group.
mlir::FailureOr<std::vector<std::vector<HostTensor>>> interpretOnMesh(mlir::ModuleOp module, llvm::StringRef name,
                                                                      llvm::ArrayRef<std::vector<HostTensor>> inputs,
                                                                      llvm::MutableArrayRef<InterpreterState> states,
                                                                      const InterpreterOptions &options = {});

/// Where the part of a rank lies in the whole tensor.
struct Place {
  llvm::SmallVector<int64_t> whole;  ///< shape of the whole tensor
  llvm::SmallVector<int64_t> offset; ///< of the part's first element, by dimension
  int64_t elements() const;
  /// Linear index, in the whole tensor, of element `index` of the part, whose shape is `part`.
  int64_t index(llvm::ArrayRef<int64_t> part, int64_t index) const;
};
/// Of the result of `op` on the rank of `context`: by the layout of its type or, if that has none, by the attribute
/// `moe.layout` of the operation.
Place placeOf(const InterpreterContext &context, mlir::Operation *op, mlir::Value result);

/// Runs the operations of one block (used by regions such as `moe.fused`); returns the terminator's operands.
mlir::FailureOr<std::vector<HostTensor>> interpretBlock(mlir::Block &block, llvm::ArrayRef<HostTensor> arguments,
                                                        InterpreterContext &context);

/// Converts an elements attribute (dense, splat or resource); failure if its storage is of another kind.
mlir::FailureOr<HostTensor> toHostTensor(mlir::ElementsAttr attr);

/// Rounds `value` to the nearest value of a float type (bf16, f16, f32, f64), ties to even, overflow to infinity.
double roundToType(double value, mlir::Type type);

/// Wraps `value` to the width of an integer type; a boolean becomes 0 or 1.
int64_t wrapToType(int64_t value, mlir::Type type);

} // namespace moe::ir

#endif // MOEC_IR_REFERENCE_INTERPRETER_H
