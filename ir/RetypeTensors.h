//===- RetypeTensors.h - Other types for all tensors of a program -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_RETYPETENSORS_H
#define MOEC_IR_RETYPETENSORS_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Operation.h"

namespace moe::ir {

/// Gives every tensor below `root` the type that `map` makes of its type, which must keep shape and element type:
/// results, arguments of blocks, function types and the values of constants. States keep theirs.
void retypeTensors(mlir::Operation *root, llvm::function_ref<mlir::RankedTensorType(mlir::RankedTensorType)> map);

/// Attribute of arguments and results of functions without layouts, and of operations that depend on the place of their
/// part (there: of result 0): how the whole tensor lay on the mesh.
inline constexpr const char *kLayoutAttr = "moe.layout";

/// Attribute of `random_uniform` for a part of a tensor: shape of the whole. Its `rng` has a third number then, the
/// linear index of the part's first element in the whole.
inline constexpr const char *kWholeShapeAttr = "moe.whole_shape";

/// Attribute of `dropout` and `random_uniform` whose tensor was made longer than the model says: the shape of the whole
/// tensor before, by which elements are numbered. What was added has some numbers or other.
inline constexpr const char *kNumberedShapeAttr = "moe.numbered_shape";

/// Makes of programs on a mesh the program of one rank, whose tensors are its parts and have no layout. Every operation
/// obeys its layout rule, hence what it computes of the parts are the parts of what it computes of the whole. States
/// keep their layout; arguments and results of functions have it as the attribute `moe.layout`.
void dropLayouts(mlir::Operation *root);

} // namespace moe::ir

#endif // MOEC_IR_RETYPETENSORS_H
