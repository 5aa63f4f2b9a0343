//===- TieWarnings.h - Weights that an exporter may have tied or untied -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_TIEWARNINGS_H
#define MOEC_FRONTEND_ONNX_TIEWARNINGS_H

#include "frontend/onnx/Model.h"
#include "mlir/IR/BuiltinOps.h"
#include <vector>

namespace moe::frontend {

/// Appends warnings on the parameters of an imported `module`, which has one `moe.state` for each tensor that is
/// trained by itself:
///  * those that several nodes read. Exporters merge initializers of equal elements, as fresh norms are. A model that a
///    preset wrote shares what it was told to, and gets no such warning.
///  * pairs stored with equal elements, or the one as the transpose of the other, with the recipe's key that ties them.
///    Exporters that fold a transpose into the weight store a tied embedding twice. Tensors that are to be drawn, and
///    tensors whose elements are all the same number (fresh norms and biases), prove nothing and are left out.
void warnAboutTies(const Model &model, mlir::ModuleOp module, std::vector<Diagnostic> &diagnostics);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_TIEWARNINGS_H
