//===- Windows.h - Samples cut from a token stream ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_WINDOWS_H
#define MOEC_RUNTIME_DATA_WINDOWS_H

#include "runtime/data/ModelInputs.h"
#include "runtime/data/Sample.h"
#include "runtime/data/TokenFile.h"

#include <memory>

namespace moe {

/// What a stream of tokens needs to know of a model: the input of tokens whose successors are the labels, and how many
/// inputs there are. All other inputs must follow from that one.
class StreamColumns {
public:
  /// Errors: no labels, no tokens, inputs that a stream cannot fill (named).
  static Expected<StreamColumns> create(const ModelInputs &inputs);

  int64_t length() const { return sequence; }
  /// Vocabulary of the tokens.
  int64_t vocabulary() const { return size; }
  /// Makes all columns but that of the tokens absent; returns that one, of `tokens` elements.
  std::vector<int64_t> &prepare(Sample &sample, int64_t tokens) const;

private:
  size_t columns = 0, tokens = 0;
  int64_t sequence = 0, size = 0;
};

/// Consecutive samples of a range of a token stream: window i holds the length + 1 tokens from begin + i * length on
/// (the first `length` are the input, the last `length` the labels), so that every token but the first is a label once.
/// Windows do not end where documents do.
class Windows final : public SampleSource {
public:
  /// Windows of tokens [begin, end) of `tokens`. Errors: the range is shorter than one sample.
  static Expected<std::shared_ptr<const Windows>> create(std::shared_ptr<const TokenFile> tokens, int64_t begin,
                                                         int64_t end, const StreamColumns &columns);

  const std::filesystem::path &path() const override { return stream->path(); }
  int64_t count() const override { return windows; }
  int64_t length() const override { return columns.length(); }
  bool isBytes() const override { return stream->isBytes(); }
  Status read(int64_t index, Sample &sample) const override;

private:
  std::shared_ptr<const TokenFile> stream;
  StreamColumns columns;
  int64_t begin = 0;
  int64_t windows = 0;
};

/// Cuts one stream: its last `validFraction` (in [0, 1)) is held out; no token is in both parts. 0 holds out nothing.
Expected<DataSplit> splitTokens(const std::shared_ptr<const TokenFile> &tokens, double validFraction,
                                const StreamColumns &columns);

} // namespace moe

#endif // MOEC_RUNTIME_DATA_WINDOWS_H
