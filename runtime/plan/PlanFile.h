//===- PlanFile.h - Reading and writing plan files
//-------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_PLANFILE_H
#define MOEC_RUNTIME_PLAN_PLANFILE_H

#include "runtime/core/Diagnostic.h"
#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace moe {

inline constexpr uint32_t kPlanFormatVersion = 1;

/// A plan message and its blobs (images), fully read and checked for damage.
struct PlanFile {
  plan::Plan plan;
  /// Image i's bytes.
  std::vector<std::string> blobs;

  /// Reads and checks magic, format version, lengths and digests. Never trusts a length field.
  static Expected<PlanFile> read(const std::filesystem::path &path);
  /// Writes to a temporary name in the same folder, fsyncs, renames. Sets blob offsets and digests in `plan.images`.
  Status write(const std::filesystem::path &path);
};

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_PLANFILE_H
