//===- ShuffledSamples.h - Samples in the order of training ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_SHUFFLEDSAMPLES_H
#define MOEC_RUNTIME_DATA_SHUFFLEDSAMPLES_H

#include "runtime/data/Sample.h"

#include <memory>

namespace moe {

/// An endless sequence of samples. Sample k belongs to epoch k / count and is the one at Permutation(count, seed,
/// epoch)(k mod count), or at k mod count if `inOrder`: the only state is k, and neither the batch size nor the rank
/// count changes the order.
class ShuffledSamples {
public:
  ShuffledSamples(std::shared_ptr<const SampleSource> samples, uint64_t seed, bool inOrder = false)
      : samples(std::move(samples)), seed(seed), inOrder(inOrder) {}

  /// Samples handed out so far.
  int64_t position() const { return next; }
  void seek(int64_t position) { next = position; }
  int64_t epoch() const { return next / samples->count(); }
  const SampleSource &source() const { return *samples; }

  /// Where in the source sample `sample` of the sequence lies.
  int64_t indexOf(int64_t sample) const;
  /// Reads the next sample.
  Status read(Sample &sample);
  /// Passes over the next sample, which another rank reads.
  void skip() { ++next; }

private:
  std::shared_ptr<const SampleSource> samples;
  uint64_t seed;
  bool inOrder;
  int64_t next = 0;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_SHUFFLEDSAMPLES_H
