//===- Checkpoint.h - One complete training state in a file ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_CHECKPOINT_H
#define MOEC_RUNTIME_CHECKPOINT_CHECKPOINT_H

#include "runtime/checkpoint/Safetensors.h"
#include "runtime/core/Session.h"

#include <cstdint>
#include <filesystem>

namespace moe {

/// What a checkpoint says beside its tensors. Nothing here depends on the plan's layout, and there is no clock time:
/// equal states give equal files.
struct CheckpointInfo {
  int64_t updates = 0;       ///< updates done
  int64_t samples = 0;       ///< training samples consumed: the position in the shuffled stream
  int64_t windows = 0;       ///< samples of one epoch of the training data
  int64_t sampleLength = 0;  ///< tokens of a sample's input
  uint64_t seed = 0;         ///< of the sample order
  bool inOrder = false;      ///< samples came as the file has them, not shuffled
  int64_t routingGroups = 0; ///< of the model
  uint64_t modelDigest = 0;  ///< XXH3-64 of the ONNX message
};

/// Writes the tensors that the plan marks as checkpointed, global and by name, with `info` and a digest over
/// everything. All ranks of a run call it, and each writes what it has.
Status saveCheckpoint(const std::filesystem::path &path, Session &session, const CheckpointInfo &info);

/// A checkpoint that is complete and undamaged.
class CheckpointFile {
public:
  /// Reads the whole file. Errors: not a checkpoint; truncated; altered (digest); a newer format.
  static Expected<CheckpointFile> open(const std::filesystem::path &path);

  const CheckpointInfo &info() const { return values; }
  const std::filesystem::path &path() const { return file.path(); }

  /// Whether the session's plan is of the same model. The error lists all tensors that differ.
  Status matches(const plan::Plan &plan) const;
  /// Copies this rank's part of every tensor into the session, after `matches`.
  Status restore(Session &session) const;

private:
  explicit CheckpointFile(SafetensorsFile file) : file(std::move(file)) {}

  SafetensorsFile file;
  CheckpointInfo values;
};

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_CHECKPOINT_H
