//===- CheckpointModel.h - The model whose checkpoints are fuzzed -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FUZZ_CHECKPOINTMODEL_H
#define MOEC_TEST_FUZZ_CHECKPOINTMODEL_H

#include "test/runtime/FakeSession.h"

namespace moe::fuzz {

/// Four parameters: a whole checkpoint has less than a kilobyte, of which the fuzzer changes what it means more often
/// than numbers.
inline test::FakeOptions checkpointModel() {
  test::FakeOptions options;
  options.vocabulary = 4;
  return options;
}

} // namespace moe::fuzz

#endif // MOEC_TEST_FUZZ_CHECKPOINTMODEL_H
