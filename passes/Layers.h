//===- Layers.h - Which operations belong to which layer of a model -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_LAYERS_H
#define MOEC_PASSES_LAYERS_H

#include "ir/Ops.h"
#include "mlir/IR/BuiltinOps.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"

#include <optional>
#include <string>
#include <vector>

namespace moe::ir {

/// The name up to its first component that is a number, as "decoder.layers.3" of "decoder.layers.3.fc1.weight"; empty
/// if there is none. Components are separated by dots or slashes; the result has dots.
std::string layerPrefix(llvm::StringRef name);

/// The operations of a program by what computes: those of the block, and instead of a fused region those in it.
/// Values are named by who computes them: a result of a region is the value it yields, an argument of a region the
/// operand outside.
mlir::Value computedValue(mlir::Value value);

/// Layers of a forward program, found by the numbers in names of parameters: an operation belongs to the layer whose
/// parameters it reads or after whose parts it is named, others to the last layer that they depend on. What reads a
/// parameter of no layer and leads to no further part of any (the norm and the projection to the vocabulary at the end)
/// belongs to none, and neither does what depends on no layer.
class Layers {
public:
  /// `forward`: operations of `block`, closed under operands.
  Layers(mlir::Block &block, const llvm::DenseSet<mlir::Operation *> &forward);

  /// Number of the layer, in the order in which layers end; nothing for what belongs to none.
  std::optional<unsigned> layerOf(mlir::Value value) const;
  /// Names of the layers, in their order.
  const std::vector<std::string> &names() const { return layerNames; }

  /// Results of operations of `forward` that must be kept if nothing else of a layer is: all that belongs to no layer,
  /// and of each layer what the layers after it read. Values that are made of such ones alone, as a conversion of a
  /// layer's input, are not among them.
  llvm::DenseSet<mlir::Value> boundaries() const;

private:
  struct Node {
    mlir::Operation *op = nullptr;
    bool constant = false;         ///< depends on parameters and constants alone
    bool foreign = false;          ///< reads a parameter of no layer
    std::optional<unsigned> owner; ///< key of the layer that parameters or the name tell
    unsigned place = 0;            ///< 2n + 1: in layer n; even: in none
  };

  void collectKeys(mlir::ModuleOp module);
  std::optional<unsigned> keyOfLocation(mlir::Location loc) const;
  Node describe(mlir::Operation *op, mlir::ModuleOp module) const;
  void rankLayers();
  void findPlaces();
  const Node *nodeOf(mlir::Value value) const;

  mlir::Block &block;
  const llvm::DenseSet<mlir::Operation *> &forward;
  std::vector<std::string> keys;
  llvm::StringMap<std::optional<unsigned>> keyOfSuffix; ///< nothing where several keys end so
  llvm::DenseMap<mlir::Operation *, unsigned> keyOfRead;
  std::vector<Node> nodes;
  llvm::DenseMap<mlir::Operation *, unsigned> nodeIndex;
  std::vector<std::optional<unsigned>> rankOfKey;
  std::vector<std::string> layerNames;
};

} // namespace moe::ir

#endif // MOEC_PASSES_LAYERS_H
