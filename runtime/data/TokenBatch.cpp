//===- TokenBatch.cpp - Writes samples where the plan wants them -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/TokenBatch.h"

#include <cstring>
#include <vector>

namespace moe {

Expected<TokenBatch> TokenBatch::create(Session &session) {
  const plan::Plan &plan = session.plan();
  TokenBatch result;
  result.batch = plan.training().micro_batch();
  result.sequence = plan.training().sequence_length();
  const char *remedy = "feed such a model with `moerun run --inputs`";
  std::string others;
  bool hasIds = false, hasLabels = false;
  for (const plan::Input &input : plan.inputs()) {
    bool isToken = input.is_labels() || input.vocabulary() > 0;
    bool &seen = input.is_labels() ? hasLabels : hasIds;
    if (!isToken || seen) {
      others += (others.empty() ? "" : ", ") + input.name();
      continue;
    }
    seen = true;
    if (input.shape_size() != 2 || input.shape(0) != result.batch || input.shape(1) != result.sequence ||
        result.batch < 1 || result.sequence < 1 || (input.dtype() != plan::I64 && input.dtype() != plan::I32))
      return error("a token input does not have the shape [micro-batch, sequence]", "input " + input.name(), {},
                   remedy);
    (input.is_labels() ? result.labels : result.ids) = {session.bytes(input.staging()), input.dtype() == plan::I64};
  }
  if (!others.empty())
    return error("the model has inputs that text cannot fill", others, "only token ids and labels come from text",
                 remedy);
  if (!hasIds || !hasLabels)
    return error(hasIds ? "the model has no label input" : "the model has no token input", {},
                 "training on text needs one input of token ids and one of labels", remedy);
  return result;
}

void TokenBatch::store(const Place &place, int64_t first, std::span<const int64_t> tokens) {
  if (place.wide) {
    std::memcpy(place.staging.data() + first * 8, tokens.data(), tokens.size_bytes());
    return;
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    int32_t narrow = int32_t(tokens[i]);
    std::memcpy(place.staging.data() + (first + int64_t(i)) * 4, &narrow, 4);
  }
}

void TokenBatch::write(int64_t micro, int64_t row, std::span<const int64_t> tokens) {
  const int64_t first = (micro * batch + row) * sequence;
  store(ids, first, tokens.first(size_t(sequence)));
  store(labels, first, tokens.subspan(1, size_t(sequence)));
}

void TokenBatch::pad(int64_t micro, int64_t row, int64_t padId) {
  std::vector<int64_t> padding(size_t(sequence) + 1, padId);
  write(micro, row, padding);
}

} // namespace moe
