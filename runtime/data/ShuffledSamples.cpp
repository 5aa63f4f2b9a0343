//===- ShuffledSamples.cpp - Samples in the order of training ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/ShuffledSamples.h"

#include "runtime/data/Permutation.h"

namespace moe {

int64_t ShuffledSamples::indexOf(int64_t sample) const {
  const uint64_t count = uint64_t(samples->count()), place = uint64_t(sample) % count;
  return int64_t(inOrder ? place : Permutation(count, seed, uint64_t(sample) / count)(place));
}

Status ShuffledSamples::read(Sample &sample) {
  Status status = samples->read(indexOf(next), sample);
  if (status)
    ++next;
  return status;
}

} // namespace moe
