//===- Windows.h - Samples cut from a token stream ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_WINDOWS_H
#define MOEC_RUNTIME_DATA_WINDOWS_H

#include "runtime/data/TokenFile.h"

#include <memory>
#include <optional>

namespace moe {

/// Consecutive samples of a range of a token stream: window i holds the length + 1 tokens from begin + i * length on
/// (the first `length` are the input, the last `length` the labels), so that every token but the first is a label once.
class Windows {
public:
  /// Windows of tokens [begin, end) of `tokens`. Errors: the range is shorter than one sample.
  static Expected<Windows> create(std::shared_ptr<const TokenFile> tokens, int64_t begin, int64_t end, int64_t length);

  int64_t count() const { return windows; }
  int64_t length() const { return sequence; }
  const TokenFile &tokens() const { return *stream; }

  /// Reads window `index` in [0, count()) into length() + 1 tokens.
  Status read(int64_t index, std::span<int64_t> out) const;

private:
  std::shared_ptr<const TokenFile> stream;
  int64_t begin = 0;
  int64_t sequence = 0;
  int64_t windows = 0;
};

/// Training and held-out samples.
struct DataSplit {
  std::optional<Windows> train;
  std::optional<Windows> valid;
};

/// Cuts one stream: its last `validFraction` (in [0, 1)) is held out; no token is in both parts. 0 holds out nothing.
Expected<DataSplit> splitTokens(std::shared_ptr<const TokenFile> tokens, double validFraction, int64_t length);

/// An endless sequence of shuffled samples. Sample k belongs to epoch k / count and is window
/// Permutation(count, seed, epoch)(k mod count): the only state is k, and neither the batch size nor the rank count
/// changes the order.
class ShuffledSamples {
public:
  ShuffledSamples(Windows windows, uint64_t seed) : windows(std::move(windows)), seed(seed) {}

  /// Samples handed out so far.
  int64_t position() const { return next; }
  void seek(int64_t position) { next = position; }
  int64_t epoch() const { return next / windows.count(); }
  const Windows &source() const { return windows; }

  /// Window of sample `sample`.
  int64_t windowOf(int64_t sample) const;
  /// Reads the next sample into source().length() + 1 tokens.
  Status read(std::span<int64_t> out);

private:
  Windows windows;
  uint64_t seed;
  int64_t next = 0;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_WINDOWS_H
