//===- TensorMatch.h - Comparing the tensors of a file with those of a plan --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_TENSORMATCH_H
#define MOEC_RUNTIME_CHECKPOINT_TENSORMATCH_H

#include "runtime/checkpoint/Safetensors.h"
#include "runtime/plan/plan.pb.h"

#include <span>
#include <string>
#include <vector>

namespace moe {

/// How strictly a file has to match.
struct MatchRules {
  bool sameType = true;              ///< else floats may convert to floats
  std::vector<std::string> optional; ///< names that the file may have, without having to
};

/// Compares names, shapes and types. Returns one line per missing, unexpected and mis-shaped tensor ("  missing NAME
/// [2, 3]"), all of them (at most 50 of each kind are spelt out), or an empty string if the file matches.
std::string compareTensors(const SafetensorsFile &file, std::span<const plan::StateTensor *const> wanted,
                           const MatchRules &rules);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_TENSORMATCH_H
