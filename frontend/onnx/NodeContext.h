//===- NodeContext.h - One ONNX node in translation ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_NODECONTEXT_H
#define MOEC_FRONTEND_ONNX_NODECONTEXT_H

#include "frontend/onnx/Program.h"

namespace moe::frontend {

using Shape = llvm::SmallVector<int64_t>;

template <typename Op> inline constexpr size_t kResultCount = 1;
template <> inline constexpr size_t kResultCount<ir::LayerNormOp> = 3;
template <> inline constexpr size_t kResultCount<ir::SoftmaxCrossEntropyOp> = 2;
template <> inline constexpr size_t kResultCount<ir::AttentionOp> = 2;
template <> inline constexpr size_t kResultCount<ir::SortOp> = 2;
template <> inline constexpr size_t kResultCount<ir::RouteOp> = 8;

/// What a handler sees of its node. A handler emits operations with `make` and names the results with `output`. The
/// first thing that goes wrong (an operand that could not be computed, a type that does not fit, a call of `fail`)
/// marks the node as failed; from then on `make` emits nothing and returns null, so that handlers need few checks.
class NodeContext {
public:
  NodeContext(Program &program, Scope &scope, const onnx::NodeProto &node, int64_t opset);

  Program &program;
  Scope &scope;
  const onnx::NodeProto &node;
  const int64_t opset;
  mlir::OpBuilder &builder;
  mlir::Location loc;

  //===--- Operands and attributes ---===//

  bool hasInput(int index) const { return index < node.input_size() && !node.input(index).empty(); }
  /// Null (and failed) if the operand is absent or could not be computed.
  mlir::Value input(int index);
  bool isSequence(int index) const { return hasInput(index) && program.lookupSequence(scope, node.input(index)); }
  /// Empty (and failed) if the operand is no sequence or one of its tensors could not be computed.
  Sequence sequence(int index);
  /// Elements of an operand that must be a constant expression.
  std::optional<Shape> integers(int index);
  std::optional<double> scalar(int index);
  /// `axes` as an attribute (old opsets) or as operand `index` (new ones), normalised; nothing if neither is given.
  std::optional<Shape> axes(int index, int64_t rank, const char *name = "axes");

  const onnx::AttributeProto *attribute(llvm::StringRef name) const;
  int64_t integer(llvm::StringRef name, int64_t otherwise) const;
  /// The double that a float32 attribute stands for: the node's metadata `ai.moec.f64.NAME` if there is one, else the
  /// double of the same shortest decimal notation (1e-5 rather than 9.99999974737875e-6).
  double real(llvm::StringRef name, double otherwise) const;
  /// The node's metadata `ai.moec.f64.NAME`.
  std::optional<double> exact(llvm::StringRef name) const;
  std::string text(llvm::StringRef name, llvm::StringRef otherwise) const;
  std::optional<Shape> integerList(llvm::StringRef name) const;
  /// Attribute `name` (default `otherwise`) as a dimension of a tensor of `rank`; fails if out of range.
  int64_t axis(llvm::StringRef name, int64_t otherwise, int64_t rank);
  int64_t normalizeAxis(int64_t axis, int64_t rank);

  //===--- Results ---===//

  /// Records why the node has no translation.
  void fail(const llvm::Twine &why);
  bool failed() const { return hasFailed; }
  /// Adds to what the import has cost; false, and the node has failed, if that is too much.
  bool spend(double cost);
  void output(int index, mlir::Value value);
  void outputSequence(int index, Sequence values);
  bool wantsOutput(int index) const { return index < node.output_size() && !node.output(index).empty(); }

  //===--- Emission ---===//

  template <typename Op, typename... Args> mlir::Operation *create(Args &&...args) {
    if (hasFailed)
      return nullptr;
    mlir::OperationState state(loc, Op::getOperationName());
    if constexpr (Op::template hasTrait<mlir::InferTypeOpInterface::Trait>()) {
      llvm::SmallVector<mlir::Type> types(kResultCount<Op>, builder.getNoneType());
      Op::build(builder, state, mlir::TypeRange(types), std::forward<Args>(args)...);
      return finish(state, &Op::inferReturnTypes);
    } else {
      Op::build(builder, state, std::forward<Args>(args)...);
      return finish(state, nullptr);
    }
  }
  /// The first result, folded if it is a constant expression of integers.
  template <typename Op, typename... Args> mlir::Value make(Args &&...args) {
    mlir::Operation *op = create<Op>(std::forward<Args>(args)...);
    return op ? folded(op) : mlir::Value();
  }

  /// Locates the operations that follow at an inner value of the node: "NODE/suffix".
  void at(llvm::StringRef suffix);
  /// Locates the operations that follow at the node's own first output.
  void atOutput();
  /// 64-bit site of the random draw whose result is named like the current location.
  int64_t site() const;

  Shape shape(mlir::Value value) const;
  int64_t rank(mlir::Value value) const { return static_cast<int64_t>(shape(value).size()); }
  mlir::Type element(mlir::Value value) const;
  mlir::RankedTensorType type(llvm::ArrayRef<int64_t> shape, mlir::Type element);

  mlir::Value splat(mlir::RankedTensorType type, double value);
  /// A scalar repeated over the shape of `like`, of its element type.
  mlir::Value splatLike(mlir::Value like, double value);
  mlir::Value constant(llvm::ArrayRef<int64_t> values);
  /// A constant of the elements of `tensor`, which must lie in the ONNX message itself; fails if it cannot be read.
  mlir::Value constantOf(const onnx::TensorProto &tensor);
  mlir::Value reshape(mlir::Value value, llvm::ArrayRef<int64_t> shape);
  mlir::Value transpose(mlir::Value value, llvm::ArrayRef<int64_t> permutation);
  /// numpy's rule: dimensions are aligned at the end, extents of 1 are repeated.
  mlir::Value broadcastTo(mlir::Value value, llvm::ArrayRef<int64_t> shape);
  /// Dimension i of `value` becomes dimension dims[i] of `shape`.
  mlir::Value broadcast(mlir::Value value, llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> dims);
  /// The shape to which all `values` broadcast; fails if there is none.
  Shape commonShape(llvm::ArrayRef<mlir::Value> values);
  mlir::Value cast(mlir::Value value, mlir::Type element);
  mlir::Value reduce(mlir::Value value, ir::ReduceKind kind, llvm::ArrayRef<int64_t> dims, bool keepDims);
  /// `moe.dot`: result dimensions are the batch, the free ones of `a`, the free ones of `b`.
  mlir::Value dot(mlir::Value a, mlir::Value b, llvm::ArrayRef<int64_t> aBatch, llvm::ArrayRef<int64_t> bBatch,
                  llvm::ArrayRef<int64_t> aContract, llvm::ArrayRef<int64_t> bContract);
  /// Dropout in training, the identity in evaluation or for a rate of zero.
  mlir::Value dropout(mlir::Value value, double rate);

private:
  using Infer = llvm::LogicalResult (*)(mlir::MLIRContext *, std::optional<mlir::Location>, mlir::ValueRange,
                                        mlir::DictionaryAttr, mlir::OpaqueProperties, mlir::RegionRange,
                                        llvm::SmallVectorImpl<mlir::Type> &);
  mlir::Operation *finish(mlir::OperationState &state, Infer infer);
  mlir::Value folded(mlir::Operation *op);

  bool hasFailed = false;
  std::string position; ///< name of the current location
};

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_NODECONTEXT_H
