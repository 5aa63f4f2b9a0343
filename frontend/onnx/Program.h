//===- Program.h - Translates one ONNX graph into one function ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_PROGRAM_H
#define MOEC_FRONTEND_ONNX_PROGRAM_H

#include "frontend/onnx/Import.h"
#include "frontend/onnx/Model.h"
#include "frontend/onnx/States.h"
#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringSet.h"
#include <map>
#include <optional>

namespace moe::frontend {

class NodeContext;

/// Element type of the dialect for an ONNX one; null if there is none.
mlir::Type elementType(int32_t dataType, mlir::Builder &builder);

enum class Mode { Training, Evaluation };

/// A node that could not be translated.
struct Gap {
  std::string node; ///< call path and name
  std::string op;   ///< "Add", "ai.moec.MoE"
  int64_t opset;
  std::string why;
};

/// What the programs of one module share.
struct ImportSession {
  const Model &model;
  const ImportOptions &options;
  mlir::ModuleOp module;
  StateTable &states;
  /// By node and reason, so that a node that fails in both programs is reported once.
  std::map<std::pair<std::string, std::string>, Gap> gaps;
  std::vector<Diagnostic> &diagnostics;
};

/// A sequence of ONNX: a list of tensors whose length is known at compile time.
using Sequence = std::vector<mlir::Value>;

/// The names that are visible in a graph or in a function body.
struct Scope {
  std::string path; ///< "node/inner/" for values of function bodies
  llvm::StringMap<mlir::Value> values;
  llvm::StringMap<Sequence> sequences;
  llvm::StringSet<> absent; ///< optional values that hold nothing; others are what they hold
  Scope *outer = nullptr;   ///< what a branch or the body of a loop sees beside its own names
  bool isGraph = false;     ///< initializers are visible
  int64_t opset = 0;        ///< of the default domain
  size_t depth = 0;         ///< function calls, branches and loops around it
};

class Program {
public:
  Program(ImportSession &session, Mode mode, const Bindings &bindings);

  /// Builds `func.func @name`. False if anything was reported.
  bool import(llvm::StringRef name);

  ImportSession &session;
  const Mode mode;
  mlir::OpBuilder builder;

  /// As the function of that name.
  mlir::Type elementType(int32_t dataType) { return frontend::elementType(dataType, builder); }
  mlir::Location location(const Scope &scope, llvm::StringRef name);
  /// The value of that name, read from its state if it is an initializer; null if its computation failed.
  mlir::Value lookup(Scope &scope, llvm::StringRef name);
  /// The sequence of that name; null if there is none.
  const Sequence *lookupSequence(const Scope &scope, llvm::StringRef name) const;
  /// True for an optional value that holds nothing.
  bool isAbsent(const Scope &scope, llvm::StringRef name) const;
  /// Lets `alias` mean in `to` what `name` means in `from`, tensor, sequence or optional.
  void share(Scope &from, llvm::StringRef name, Scope &to, llvm::StringRef alias);
  /// Translates nodes in order; nodes behind a failed one are skipped silently.
  void importNodes(Scope &scope, const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes);
  /// Translates the body of the model-local function that the node calls.
  void importCall(NodeContext &call);
  void reportGap(const Scope &scope, const onnx::NodeProto &node, const std::string &why);
  /// Adds to what the import has cost, in units of `Work`. False once that is more than `Work::kLimit`: nothing is
  /// translated any more.
  bool spend(double cost);
  /// Says, once, that the program costs too much.
  void reportLimit(const Scope &scope, const onnx::NodeProto &node);

  /// num_updates and micro-batch, tensor<2xi64>: the key of all draws.
  mlir::Value rng();
  /// The number of routing groups G.
  int64_t routingGroups() const { return groups; }
  /// Metrics [G, 9] of one MoE layer and the number of its choices that were dropped, a scalar.
  void addMoeMetrics(mlir::Value metrics, mlir::Value dropped) { moeMetrics.emplace_back(metrics, dropped); }

  /// The value of a constant expression, in float64; nothing if it depends on inputs or state or is too large.
  std::optional<ir::HostTensor> evaluate(mlir::Value value);
  /// Replaces integers that are a small constant expression by a constant. Floats stay as they are, at full precision
  /// for `evaluate`. Tensors without elements become constants, so that no operation reads or computes one behind the
  /// importer; null if an operation on one has a result that is not known.
  mlir::Value fold(mlir::Value value);

private:
  bool addArguments(llvm::SmallVectorImpl<mlir::Type> &types, llvm::SmallVectorImpl<std::string> &names);
  std::optional<llvm::SmallVector<int64_t>> bindShape(const onnx::ValueInfoProto &value);
  bool returnOutputs(mlir::func::FuncOp function, Scope &scope);
  mlir::Value meanMoeMetrics();
  mlir::Value sumDropped();
  void eraseDead(mlir::Block &block);
  /// The constant of a type with an extent of 0.
  mlir::Value withoutElements(mlir::RankedTensorType type, mlir::Location loc);
  /// A constant of the elements of `result` in place of `op`, which is erased.
  mlir::Value replaceByConstant(mlir::Operation *op, ir::HostTensor result);
  mlir::Value readInitializer(const onnx::TensorProto &tensor);

  const Bindings &bindings;
  int64_t groups = 1;
  mlir::func::FuncOp function;
  llvm::StringMap<mlir::Value> initializers;
  mlir::Value rngValue;
  double work = 0;
  bool limitReported = false;
  std::vector<std::pair<mlir::Value, mlir::Value>> moeMetrics; ///< per layer: metrics, dropped
  llvm::DenseMap<mlir::Value, ir::HostTensor> constants;       ///< values of small constant expressions
  mlir::OwningOpRef<mlir::ModuleOp> empty;
  ir::InterpreterState noState;
};

/// Metadata of nodes that give the double which a float attribute rounds: this prefix, then the attribute's name.
inline constexpr const char *kExactPrefix = "ai.moec.f64.";

/// Name for messages and call paths: the node's own, or its first output's.
std::string nodeName(const onnx::NodeProto &node);

/// The elements attribute of `elements` (little endian), or null.
mlir::DenseElementsAttr toAttribute(mlir::RankedTensorType type, const std::string &elements);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_PROGRAM_H
