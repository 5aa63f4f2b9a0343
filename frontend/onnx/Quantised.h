//===- Quantised.h - Models of rounded integers -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_QUANTISED_H
#define MOEC_FRONTEND_ONNX_QUANTISED_H

#include "frontend/onnx/Model.h"

#include <string>

namespace moe::frontend {

/// Error: the model has operators that quantise, or compute with what is quantised, in its graph, a graph within it or
/// a function. Their derivatives are zero almost everywhere, so that nothing could be trained.
Status checkNotQuantised(const onnx::ModelProto &model, const std::string &path);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_QUANTISED_H
