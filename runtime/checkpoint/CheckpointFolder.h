//===- CheckpointFolder.h - The checkpoints of a run -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_CHECKPOINTFOLDER_H
#define MOEC_RUNTIME_CHECKPOINT_CHECKPOINTFOLDER_H

#include "runtime/checkpoint/Checkpoint.h"

#include <functional>
#include <optional>
#include <vector>

namespace moe {

/// A folder of files `checkpoint_NNNNNNNN.safetensors`, numbered by updates. The folder is locked while this object
/// lives, so that two runs cannot mix their checkpoints.
class CheckpointFolder {
public:
  /// Creates the folder if it is missing, checks that it can be written to, and removes what a killed save has left.
  /// Errors: not a folder, not writable, in use by another run.
  static Expected<CheckpointFolder> open(const std::filesystem::path &folder);

  /// The folder of a run's checkpoints on all ranks but the first, which has opened it: takes part in saves.
  static CheckpointFolder follow(const std::filesystem::path &folder);

  CheckpointFolder(CheckpointFolder &&other) noexcept;
  CheckpointFolder &operator=(CheckpointFolder &&) = delete;
  ~CheckpointFolder();

  const std::filesystem::path &path() const { return folder; }
  std::filesystem::path fileOf(int64_t updates) const;
  /// The complete checkpoints, newest first.
  std::vector<std::filesystem::path> list() const { return listCheckpoints(folder); }
  static std::vector<std::filesystem::path> listCheckpoints(const std::filesystem::path &folder);

  /// Saves, all ranks of a run together; after success deletes all but the newest `keepLast` checkpoints (0 keeps all).
  Status save(Session &session, const CheckpointInfo &info, int64_t keepLast);

  /// The newest checkpoint that is not damaged; nothing if there is no checkpoint at all. Each damaged one is reported
  /// to `notice`. Errors: all are damaged.
  static Expected<std::optional<CheckpointFile>> newest(const std::filesystem::path &folder,
                                                        const std::function<void(const std::string &)> &notice);

private:
  CheckpointFolder() = default;

  std::filesystem::path folder;
  int lock = -1;
};

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_CHECKPOINTFOLDER_H
