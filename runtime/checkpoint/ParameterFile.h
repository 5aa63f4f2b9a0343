//===- ParameterFile.h - Parameters by name ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_PARAMETERFILE_H
#define MOEC_RUNTIME_CHECKPOINT_PARAMETERFILE_H

#include "runtime/core/Session.h"

#include <filesystem>

namespace moe {

/// Sets every PARAMETER of the session from the tensors of a safetensors file, named as the ONNX initializers (a FROZEN
/// tensor may be there too). Floating-point types convert. Nothing is changed unless everything fits; the error lists
/// all missing, unexpected and mis-shaped tensors.
Status loadParameters(Session &session, const std::filesystem::path &path);

/// Writes all PARAMETER tensors, and nothing else.
Status saveParameters(Session &session, const std::filesystem::path &path);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_PARAMETERFILE_H
