//===- Documents.cpp - Samples that end where documents do -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Documents.h"

#include <algorithm>

namespace moe {

Expected<std::shared_ptr<const Documents>> Documents::create(std::shared_ptr<const TokenFile> tokens,
                                                             const ModelInputs &inputs, const StreamColumns &columns) {
  const std::string file = tokens->path().string();
  if (tokens->documents().empty())
    return error("the data does not say where documents end", file, "--documents needs it",
                 "give a .bin file with its .idx, or leave --documents out");
  if (!inputs.ignored())
    return error("documents cannot be padded", file, "the model's loss ignores no label",
                 "leave --documents out, or give a loss with ignore_index in the recipe");
  auto result = std::make_shared<Documents>();
  result->columns = columns;
  const std::vector<int64_t> &begins = tokens->documents();
  result->pieces.reserve(begins.size());
  int64_t sum = 0;
  for (size_t d = 0; d < begins.size(); ++d) {
    result->pieces.push_back(sum);
    if (d + 1 == begins.size())
      break;
    if (int64_t size = begins[d + 1] - begins[d]; size >= 2)
      sum += (size - 1 + columns.length() - 1) / columns.length();
  }
  if (sum == 0)
    return error("no document has two tokens", file, {}, "give longer documents, or leave --documents out");
  result->stream = std::move(tokens);
  return result;
}

Status Documents::read(int64_t index, Sample &sample) const {
  // The last document before whose end the piece lies; documents without a piece share their number with the next.
  const size_t document = size_t(std::ranges::upper_bound(pieces, index) - pieces.begin()) - 1;
  const std::vector<int64_t> &begins = stream->documents();
  const int64_t begin = begins[document] + (index - pieces[document]) * length();
  const int64_t size = std::min(begins[document + 1] - begin, length() + 1);
  return stream->read(begin, columns.prepare(sample, size));
}

} // namespace moe
