//===- DataSetup.cpp - The data of a run from its flags ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/DataSetup.h"

#include "runtime/data/Documents.h"
#include "runtime/data/JsonLines.h"
#include "runtime/data/Windows.h"
#include "tools/moerun/BatchSamples.h"

#include <cmath>

namespace moe {

std::vector<Flag> dataFlags() {
  return {
      {"data", "FILE",
       "token ids (.npy; .bin with .idx of Megatron-LM or fairseq), samples (.jsonl, .safetensors), or text (bytes "
       "become tokens 4 to 259)",
       true},
      {"columns", "INPUT=NAME,...", "fields of .jsonl or tensors that are not called as the model's inputs"},
      {"documents", "", "cut .bin files where documents end, and pad; default: one stream of tokens"},
      {"truncate", "", "cut sequences of .jsonl that are longer than the model reads; default: an error"},
      {"pad-token", "ID", "fills sequences that are too short; default: the model's, else 0"},
      {"decoder-start", "ID", "a decoder without data reads this token and then the labels"},
  };
}

Expected<ModelInputs> readModelInputs(const Arguments &arguments, const plan::Plan &plan) {
  InputOptions options;
  for (auto [flag, value] :
       {std::pair{"pad-token", &options.padToken}, std::pair{"decoder-start", &options.decoderStart}}) {
    if (!arguments.has(flag))
      continue;
    auto number = arguments.integer(flag, 0, 0);
    if (!number)
      return tl::unexpected(number.error());
    *value = *number;
  }
  return ModelInputs::describe(plan, options);
}

static Expected<ColumnNames> readColumns(const Arguments &arguments, const ModelInputs &inputs) {
  ColumnNames columns;
  std::string text = arguments.text("columns");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string entry = text.substr(begin, end - begin);
    const size_t equals = entry.find('=');
    begin = end + 1;
    const std::string input = entry.substr(0, equals);
    std::vector<std::string_view> names;
    for (const ModelInput &known : inputs.list())
      names.push_back(known.name);
    if (equals == std::string::npos || equals + 1 == entry.size())
      return error("cannot read '" + entry + "'", "--columns", {}, "the form is INPUT=NAME,INPUT=NAME",
                   ExitCode::Usage);
    if (std::find(names.begin(), names.end(), input) == names.end()) {
      std::string nearest = nearestName(input, names), all;
      for (std::string_view name : names)
        all += (all.empty() ? "" : ", ") + std::string(name);
      return error("the model has no input '" + input + "'", "--columns", "its inputs are " + all,
                   nearest.empty() ? "" : "did you mean " + nearest + "?", ExitCode::Usage);
    }
    columns[input] = entry.substr(equals + 1);
  }
  return columns;
}

/// The last part of the samples is held out.
static Expected<DataSplit> splitSamples(const std::shared_ptr<const SampleSource> &samples, double validFraction) {
  const int64_t count = samples->count();
  const auto held = static_cast<int64_t>(std::floor(double(count) * validFraction));
  if (validFraction > 0 && (held == 0 || held == count))
    return error("the data cannot be split", samples->path().string(),
                 "it has " + std::to_string(count) + " samples, of which " + std::to_string(held) + " are held out",
                 "choose another --valid-split, or give a validation file with --valid");
  DataSplit split;
  split.train = std::make_shared<SampleRange>(samples, 0, count - held);
  if (held > 0)
    split.valid = std::make_shared<SampleRange>(samples, count - held, count);
  return split;
}

Expected<DataSplit> openData(const std::string &path, double validFraction, const Arguments &arguments,
                             const plan::Plan &plan, const ModelInputs &inputs, TrainLog &log) {
  auto columns = readColumns(arguments, inputs);
  if (!columns)
    return tl::unexpected(columns.error());
  const std::string extension = std::filesystem::path(path).extension().string();
  const bool isJson = extension == ".jsonl", isBatches = extension == ".safetensors";
  for (auto [flag, fits] : {std::pair{"columns", isJson || isBatches}, std::pair{"truncate", isJson},
                            std::pair{"documents", !isJson && !isBatches}})
    if (arguments.has(flag) && !fits)
      return error("--" + std::string(flag) + " does not apply to this kind of file", path, {}, "leave it out",
                   ExitCode::Usage);
  std::string notice;
  std::shared_ptr<const SampleSource> samples;
  if (isJson) {
    auto file = JsonLines::open(path, inputs, {.columns = *columns, .truncate = arguments.has("truncate")}, notice);
    if (!file)
      return tl::unexpected(file.error());
    samples = *file;
  } else if (isBatches) {
    auto file = BatchSamples::open(path, plan, inputs, *columns, notice);
    if (!file)
      return tl::unexpected(file.error());
    samples = *file;
  }
  if (!notice.empty())
    log.message("note: " + path + " also holds what is no input of the model: " + notice);
  if (samples)
    return splitSamples(samples, validFraction);

  auto stream = StreamColumns::create(inputs);
  if (!stream)
    return tl::unexpected(stream.error());
  auto file = TokenFile::open(path, stream->vocabulary() > 0 ? stream->vocabulary() : plan.training().vocabulary());
  if (!file)
    return tl::unexpected(file.error());
  auto tokens = std::make_shared<const TokenFile>(std::move(*file));
  if (!arguments.has("documents"))
    return splitTokens(tokens, validFraction, *stream);
  auto documents = Documents::create(std::move(tokens), inputs, *stream);
  if (!documents)
    return tl::unexpected(documents.error());
  return splitSamples(*documents, validFraction);
}

} // namespace moe
