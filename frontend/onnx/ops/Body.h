//===- Body.h - An operator as a graph of others ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_OPS_BODY_H
#define MOEC_FRONTEND_ONNX_OPS_BODY_H

#include "frontend/onnx/NodeContext.h"
#include <string>
#include <variant>

namespace moe::frontend {

/// What a node means, written as nodes of the standard (opset 23), as the body of a model-local function would be. Each
/// is translated at once. Values have names; "" is an operand that is left out. Once something failed, nodes that read
/// it fail silently.
class Body {
public:
  struct Attribute {
    const char *name;
    std::variant<int64_t, double, std::string, Shape> value;
  };
  using Names = llvm::ArrayRef<std::string>;
  using Attributes = llvm::ArrayRef<Attribute>;

  explicit Body(NodeContext &n);

  /// Operand `index` of the node; "" if it has none.
  std::string operand(int index);
  std::string constant(llvm::ArrayRef<int64_t> values);
  /// A scalar of the element type of `like`.
  std::string number(double value, mlir::Value like);
  /// The names of the results of a new node; the first one of a node with a single result.
  std::vector<std::string> nodes(llvm::StringRef type, Names inputs, size_t results, Attributes attributes = {});
  std::string node(llvm::StringRef type, Names inputs, Attributes attributes = {});
  mlir::Value value(llvm::StringRef name);
  /// Lets output `index` of the node be the value of that name.
  void output(int index, llvm::StringRef name);

private:
  std::string add(mlir::Value value);

  NodeContext &n;
  Scope inner;
  size_t count = 0;
};

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_OPS_BODY_H
