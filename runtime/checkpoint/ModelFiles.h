//===- ModelFiles.h - The weights in an ONNX file and beside it --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_MODELFILES_H
#define MOEC_RUNTIME_CHECKPOINT_MODELFILES_H

#include "runtime/data/MappedFile.h"
#include "runtime/plan/plan.pb.h"

#include <filesystem>
#include <map>
#include <string>

namespace moe {

/// Reads initial values from the ONNX file that a plan was compiled from, and from its external data. Files are opened
/// and checked when the first tensor asks for them.
class ModelFiles {
public:
  /// `weights` says where the ONNX file is now; if empty, it is where it was at compile time.
  ModelFiles(const plan::ModelFile &model, std::filesystem::path weights);

  /// Copies (converting the element type) the bytes that `tensor.initial().file()` names into `target`.
  Status read(const plan::StateTensor &tensor, std::span<std::byte> target);

private:
  Expected<const MappedFile *> open(const std::string &location);

  const plan::ModelFile &model;
  std::filesystem::path path;
  std::map<std::string, MappedFile> files;
};

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_MODELFILES_H
