//===- ModelFile.h - An ONNX model with external data, and how it is written --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_MODELS_MODELFILE_H
#define MOEC_FRONTEND_MODELS_MODELFILE_H

#include "onnx/onnx-ml.pb.h"
#include "runtime/core/Diagnostic.h"
#include <cstdint>
#include <string>
#include <vector>

namespace moe::models {

/// Tensors start at multiples of this many bytes, so that a reader can map each of them separately.
inline constexpr uint64_t kTensorAlignment = 4096;

/// A model whose initializers lie in one external data file. That file is zero except for `blocks`, and no memory is
/// spent on the zeros, here or on the disk.
struct ModelFile {
  struct Block {
    uint64_t offset;
    std::vector<float> values;
  };

  onnx::ModelProto proto;
  uint64_t dataSize = 0; ///< bytes
  std::vector<Block> blocks;

  /// Appends a float32 initializer of zeros, of shape `shape`, to the graph and reserves its place.
  void addWeight(const std::string &name, const std::vector<int64_t> &shape);
  /// The same with values; `values` has as many elements as `shape` says.
  void addTable(const std::string &name, const std::vector<int64_t> &shape, std::vector<float> values);
};

/// Writes `file.proto` to `path` and the data to `path`.data beside it, and sets the location in the initializers. Both
/// are written under temporary names, synced and renamed, the data first: a failure leaves what was there before.
/// Errors: a path that cannot be written, a full disk.
Status writeModel(ModelFile &file, const std::string &path);

} // namespace moe::models

#endif // MOEC_FRONTEND_MODELS_MODELFILE_H
