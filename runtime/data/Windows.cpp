//===- Windows.cpp - Samples cut from a token stream -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Windows.h"

#include <cmath>

namespace moe {

Expected<StreamColumns> StreamColumns::create(const ModelInputs &inputs) {
  const char *remedy = "give a .jsonl file or safetensors batches that name all inputs";
  if (inputs.labels() < 0)
    return error("the model has no label input", {}, "training on a stream of tokens needs labels",
                 "compile it with a recipe whose loss.cross_entropy names them");
  if (inputs.labelSource() < 0)
    return error("the model has no token input", {},
                 "training on a stream of tokens needs one input of token ids in the shape of the labels", remedy);
  StreamColumns result;
  result.columns = inputs.list().size();
  result.tokens = size_t(inputs.labelSource());
  const ModelInput &tokens = inputs.list()[result.tokens];
  result.sequence = tokens.rowElements;
  result.size = tokens.vocabulary;
  std::string others;
  for (size_t i = 0; i < inputs.list().size(); ++i)
    if (i != result.tokens && inputs.list()[i].partner < 0)
      others += (others.empty() ? "" : ", ") + inputs.list()[i].name;
  if (!others.empty())
    return error("the model has inputs that a stream of tokens cannot fill", others,
                 "only " + tokens.name + " and what follows from it come from a stream", remedy);
  return result;
}

std::vector<int64_t> &StreamColumns::prepare(Sample &sample, int64_t count) const {
  sample.columns.resize(columns);
  for (Sample::Column &column : sample.columns)
    column.kind = Sample::Column::Kind::Absent;
  sample.columns[tokens].kind = Sample::Column::Kind::Tokens;
  sample.columns[tokens].tokens.resize(size_t(count));
  return sample.columns[tokens].tokens;
}

Expected<std::shared_ptr<const Windows>> Windows::create(std::shared_ptr<const TokenFile> tokens, int64_t begin,
                                                         int64_t end, const StreamColumns &columns) {
  const int64_t length = columns.length();
  auto result = std::make_shared<Windows>();
  result->begin = begin;
  result->columns = columns;
  result->windows = end - begin < length + 1 ? 0 : (end - begin - 1) / length;
  if (result->windows == 0)
    return error("the data is shorter than one sample", tokens->path().string(),
                 "a sample takes " + std::to_string(length + 1) + " tokens, this part of the file has " +
                     std::to_string(std::max<int64_t>(end - begin, 0)),
                 "give a longer file, or compile the model for a shorter sequence");
  result->stream = std::move(tokens);
  return result;
}

Status Windows::read(int64_t index, Sample &sample) const {
  std::vector<int64_t> &tokens = columns.prepare(sample, length() + 1);
  return stream->read(begin + index * length(), tokens);
}

Expected<DataSplit> splitTokens(const std::shared_ptr<const TokenFile> &tokens, double validFraction,
                                const StreamColumns &columns) {
  const int64_t size = tokens->size();
  const int64_t held = static_cast<int64_t>(std::floor(double(size) * validFraction));
  DataSplit split;
  auto train = Windows::create(tokens, 0, size - held, columns);
  if (!train)
    return tl::unexpected(train.error());
  split.train = std::move(*train);
  if (validFraction > 0) {
    auto valid = Windows::create(tokens, size - held, size, columns);
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

} // namespace moe
