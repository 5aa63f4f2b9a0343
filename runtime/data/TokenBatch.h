//===- TokenBatch.h - Writes samples where the plan wants them ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_TOKENBATCH_H
#define MOEC_RUNTIME_DATA_TOKENBATCH_H

#include "runtime/core/Session.h"

#include <cstdint>
#include <span>

namespace moe {

/// The token inputs of a plan: the ids a model reads and the labels it is scored on.
class TokenBatch {
public:
  /// Finds the inputs of a language model in the plan. Errors: no token or label input, or inputs that text cannot fill
  /// (named), shapes other than [micro-batch, sequence].
  static Expected<TokenBatch> create(Session &session);

  int64_t rows() const { return batch; }
  int64_t length() const { return sequence; }

  /// Writes one sample of length() + 1 tokens as row `row` of micro-batch `micro`.
  void write(int64_t micro, int64_t row, std::span<const int64_t> tokens);
  /// Fills a row with padding, whose labels are not counted.
  void pad(int64_t micro, int64_t row, int64_t padId);

private:
  struct Place {
    std::span<std::byte> staging;
    bool wide = true; ///< int64 (else int32)
  };
  void store(const Place &place, int64_t first, std::span<const int64_t> tokens);

  Place ids, labels;
  int64_t batch = 0;
  int64_t sequence = 0;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_TOKENBATCH_H
