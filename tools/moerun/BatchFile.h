//===- BatchFile.h - Model inputs from a safetensors file --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_BATCHFILE_H
#define MOEC_TOOLS_MOERUN_BATCHFILE_H

#include "runtime/checkpoint/Safetensors.h"
#include "runtime/core/Session.h"

#include <filesystem>

namespace moe {

/// A file that holds each input of a model with one more leading dimension, the batch index.
class BatchFile {
public:
  /// Errors list all inputs that are missing or have the wrong shape. `notice` gets the tensors that are no inputs.
  static Expected<BatchFile> open(const std::filesystem::path &path, Session &session, std::string &notice);

  /// Batches in the file.
  int64_t count() const { return batches; }

  /// Copies this rank's rows of batch `index` to the staging place of micro-batch `micro`. Integers convert between
  /// int32 and int64 with a range check; token ids must be in [0, vocabulary), labels there or equal to the plan's
  /// padding id. Errors name the input, the batch and the element.
  Status stage(int64_t index, int64_t micro);

private:
  BatchFile(SafetensorsFile file, Session &session) : file(std::move(file)), session(session) {}

  Status checkTokens(const plan::Input &input, std::span<const std::byte> staged, const std::string &where) const;

  SafetensorsFile file;
  Session &session;
  int64_t batches = 0;
};

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_BATCHFILE_H
