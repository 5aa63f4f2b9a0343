//===- ExportFile.h - Parameters for other programs --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_EXPORTFILE_H
#define MOEC_RUNTIME_CHECKPOINT_EXPORTFILE_H

#include "runtime/core/Session.h"

#include <filesystem>
#include <string>

namespace moe {

struct ExportOptions {
  std::string stripPrefix; ///< removed from names that begin with it: "m." of a wrapper around the model
};

/// Writes the weights as safetensors that PyTorch's libraries load (metadata `format: pt`): every PARAMETER, and FROZEN
/// tensors of floating-point numbers that were part of a module (a dot in the name), under the names and in the order
/// of dimensions that the plan knows from before the model became ONNX (plan::StateTensor::exports), else as they are
/// in the ONNX file. Errors: two tensors that get one name by the prefix; the file cannot be written.
Status exportParameters(Session &session, const std::filesystem::path &path, const ExportOptions &options = {});

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_EXPORTFILE_H
