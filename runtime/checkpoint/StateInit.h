//===- StateInit.h - First values of the state -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_STATEINIT_H
#define MOEC_RUNTIME_CHECKPOINT_STATEINIT_H

#include "runtime/core/Session.h"

#include <cstdint>
#include <filesystem>
#include <span>

namespace moe {

/// Where first values come from, beside the plan.
struct StateSources {
  uint64_t seed = 0;
  /// The model's ONNX file; empty = where it was when the plan was compiled.
  std::filesystem::path weights = {};
  /// A safetensors file that sets every parameter (see loadParameters); empty = as the plan says.
  std::filesystem::path parameters = {};
};

/// Gives every state tensor of the plan its first value: `StateTensor.initial`, zero for moments, gradients and control
/// without one. Errors: the ONNX file is not the one the plan was compiled from (size and digest), external data
/// missing or too short, tensors without a first value.
Status initialiseState(Session &session, const StateSources &sources);

/// Element i is drawn from Philox4x32-10 block (low half of i, high half of i, 0, 1) under philox::siteKey(seed,
/// XXH3-64 of the name); a fourth counter word of 1 keeps these numbers apart from those of dropout. With u = (words 0
/// and 1 as one 64-bit integer >> 11) * 2^-53 and v likewise of words 2 and 3:
///   uniform: low + (high - low) * u
///   normal:  mean + stddev * sqrt(-2 ln(u + 2^-54)) * cos(2 pi v)        (Box and Muller, 1958)
/// in double, rounded once to `type`. `target` holds a whole number of elements, of which the first is element `first`
/// of the tensor.
void drawUniform(std::span<std::byte> target, plan::DType type, uint64_t seed, std::string_view name, double low,
                 double high, uint64_t first = 0);
void drawNormal(std::span<std::byte> target, plan::DType type, uint64_t seed, std::string_view name, double mean,
                double stddev, uint64_t first = 0);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_STATEINIT_H
