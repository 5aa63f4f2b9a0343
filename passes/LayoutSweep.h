//===- LayoutSweep.h - Layouts through a program, from its arguments and states on --------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_LAYOUTSWEEP_H
#define MOEC_PASSES_LAYOUTSWEEP_H

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <string>

namespace moe::ir {

/// Rewrites a program on a mesh, after arguments or states have got other layouts, so that types agree again.
///
/// Operations are visited in order. For each mesh axis by itself, the layout rule of an operation allows some ways to
/// lie on it: whole, split along one of its factors, partial in a set of operands in which it is linear. The way that
/// takes the fewest bytes between ranks from where the operands are is taken, and `reshard` brings the operands there.
/// What could be had in parts from the beginning (masks, repeated values) is made in parts instead of cut. Parameters
/// stay where they are: activations travel to them.
class LayoutSweep {
public:
  /// `insertedBy`: name of the pass, for the operations between ranks.
  LayoutSweep(mlir::ModuleOp module, MeshAttr mesh, llvm::StringRef insertedBy);

  /// `arguments`: new layouts. Types of states are as they shall be. Fails at the operation that cannot be laid out.
  llvm::LogicalResult run(mlir::func::FuncOp function, llvm::ArrayRef<LayoutAttr> arguments);

private:
  mlir::ModuleOp module;
  MeshAttr mesh;
  std::string insertedBy;
};

} // namespace moe::ir

#endif // MOEC_PASSES_LAYOUTSWEEP_H
