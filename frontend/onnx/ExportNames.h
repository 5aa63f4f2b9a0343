//===- ExportNames.h - What the tensors of a model were called before it was exported -----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// PyTorch's exporters transpose the weight of a linear layer when they fold constants, and the result has no name of
// the module any more ("val_110", "onnx::MatMul_123"). Where it was is still said by the node that reads it.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_EXPORTNAMES_H
#define MOEC_FRONTEND_ONNX_EXPORTNAMES_H

#include "frontend/onnx/Import.h"
#include "frontend/onnx/Model.h"

#include <string>
#include <vector>

namespace moe::frontend {

/// One name of a tensor.
struct ExportName {
  std::string name;
  bool transposed = false; ///< there, its two dimensions had the other order

  bool operator==(const ExportName &other) const = default;
};

/// What `initializer` was called in PyTorch: its own name if that is one of a module ("a.b.weight") or if nothing tells
/// more. Else the name comes from the node that reads it:
///   - of torch.export: metadata `pkg.torch.onnx.fx_node` with the parameter as "%p_a_b_weight", and
///     `pkg.torch.onnx.name_scopes`, which says where its dots were;
///   - of the TorchScript exporter, for "onnx::MatMul_123": the name "/a/b/MatMul" of the product.
ExportName originalName(const Model &model, const std::string &initializer);

/// The module attribute `moe.exports`: for each state of `module` whose tensor had other names, or that stands for
/// several tensors by `ties`, a list of [name, permutation]. Names that would clash are left as they are in the file.
mlir::DictionaryAttr exportNames(const Model &model, mlir::ModuleOp module, llvm::ArrayRef<Tie> ties);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_EXPORTNAMES_H
