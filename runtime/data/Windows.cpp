//===- Windows.cpp - Samples cut from a token stream -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Windows.h"

#include "runtime/data/Permutation.h"

#include <cmath>

namespace moe {

Expected<Windows> Windows::create(std::shared_ptr<const TokenFile> tokens, int64_t begin, int64_t end, int64_t length) {
  if (length < 1)
    return error("the model has no token input of a fixed length", {}, "the plan's sequence length is 0",
                 "use `moerun run` for models that are not language models");
  Windows result;
  result.begin = begin;
  result.sequence = length;
  result.windows = end - begin < length + 1 ? 0 : (end - begin - 1) / length;
  if (result.windows == 0)
    return error("the data is shorter than one sample", tokens->path().string(),
                 "a sample takes " + std::to_string(length + 1) + " tokens, this part of the file has " +
                     std::to_string(std::max<int64_t>(end - begin, 0)),
                 "give a longer file, or compile the model for a shorter sequence");
  result.stream = std::move(tokens);
  return result;
}

Status Windows::read(int64_t index, std::span<int64_t> out) const {
  return stream->read(begin + index * sequence, out.first(size_t(sequence) + 1));
}

Expected<DataSplit> splitTokens(std::shared_ptr<const TokenFile> tokens, double validFraction, int64_t length) {
  const int64_t size = tokens->size();
  const int64_t held = static_cast<int64_t>(std::floor(double(size) * validFraction));
  DataSplit split;
  auto train = Windows::create(tokens, 0, size - held, length);
  if (!train)
    return tl::unexpected(train.error());
  split.train = std::move(*train);
  if (validFraction > 0) {
    auto valid = Windows::create(tokens, size - held, size, length);
    if (!valid) {
      Diagnostic problem = valid.error();
      problem.what = "the held-out part of the data is shorter than one sample";
      problem.remedy = "hold out a larger fraction with --valid-split, or give a validation file with --valid";
      return tl::unexpected(std::move(problem));
    }
    split.valid = std::move(*valid);
  }
  return split;
}

int64_t ShuffledSamples::windowOf(int64_t sample) const {
  const uint64_t count = uint64_t(windows.count());
  return int64_t(Permutation(count, seed, uint64_t(sample) / count)(uint64_t(sample) % count));
}

Status ShuffledSamples::read(std::span<int64_t> out) {
  Status status = windows.read(windowOf(next), out);
  if (status)
    ++next;
  return status;
}

} // namespace moe
