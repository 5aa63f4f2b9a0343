//===- DataTarget.cpp - Fuzzes the readers of training data -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Input: one byte that chooses format (its low four bits) and model (the others), then the file. A .bin file and its
// .idx share the input: two bytes say how long the .idx is.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/Documents.h"
#include "runtime/data/InputBatch.h"
#include "runtime/data/JsonLines.h"
#include "runtime/data/Windows.h"
#include "test/fuzz/DataInput.h"
#include "test/fuzz/Target.h"
#include "tools/moerun/BatchSamples.h"

#include <array>

using namespace moe;

namespace {

constexpr int64_t kRows = 2, kLength = 4, kVocabulary = 300;

void addInput(plan::Plan &plan, const char *name, int64_t vocabulary, plan::DType dtype, bool labels = false) {
  plan::Input &input = *plan.add_inputs();
  input.set_name(name);
  input.set_dtype(dtype);
  input.add_shape(kRows);
  input.add_shape(kLength);
  input.set_vocabulary(vocabulary);
  input.set_is_labels(labels);
}

struct Model {
  plan::Plan plan;
  ModelInputs inputs;
};

/// A decoder, a decoder with everything that can be derived, an encoder with a decoder, a model without labels.
Model makeModel(int number) {
  plan::Plan plan;
  plan.mutable_training()->set_pad_id(number == 3 ? -1 : -100);
  addInput(plan, "input_ids", kVocabulary, number == 1 ? plan::I32 : plan::I64);
  if (number == 1 || number == 2)
    addInput(plan, "attention_mask", 0, plan::F32);
  if (number == 1)
    addInput(plan, "position_ids", 0, plan::I64);
  if (number == 2)
    addInput(plan, "decoder_input_ids", kVocabulary, plan::I64);
  if (number != 3)
    addInput(plan, "labels", kVocabulary, plan::I64, true);
  if (number == 3)
    addInput(plan, "pixels", 0, plan::F32);
  InputOptions options;
  if (number == 2)
    options.decoderStart = 2;
  Expected<ModelInputs> inputs = ModelInputs::describe(plan, options);
  if (!inputs)
    fuzz::finding(inputs.error().str());
  return {plan, *inputs};
}

const Model &model(int number) {
  static const std::array<Model, fuzz::kDataModels> models = {makeModel(0), makeModel(1), makeModel(2), makeModel(3)};
  return models[size_t(number)];
}

void readAll(const SampleSource &source) {
  Sample sample;
  for (int64_t i = 0; i < source.count(); ++i)
    if (Status status = source.read(i, sample); !status)
      fuzz::finding("a sample that was read once cannot be read again: " + status.error().str());
}

/// All tokens, and the samples that they give cut as a stream and by documents.
void readTokens(const std::filesystem::path &path, const Model &model) {
  Expected<TokenFile> opened = TokenFile::open(path, kVocabulary);
  if (!fuzz::taken(opened))
    return;
  auto file = std::make_shared<const TokenFile>(std::move(*opened));
  std::vector<int64_t> tokens(static_cast<size_t>(file->size()));
  if (!file->read(0, tokens))
    fuzz::finding("tokens that were looked at cannot be read");
  for (int64_t token : tokens)
    if (token < 0 || token >= kVocabulary)
      fuzz::finding("a token outside the vocabulary");
  Expected<StreamColumns> columns = StreamColumns::create(model.inputs);
  if (!fuzz::taken(columns))
    return;
  auto windows = Windows::create(file, 0, file->size(), *columns);
  if (fuzz::taken(windows))
    readAll(**windows);
  auto documents = Documents::create(file, model.inputs, *columns);
  if (fuzz::taken(documents))
    readAll(**documents);
}

void readPair(std::string_view contents, const Model &model) {
  if (contents.size() < 2)
    return;
  const size_t length = uint8_t(contents[0]) | size_t(uint8_t(contents[1])) << 8;
  contents.remove_prefix(2);
  fuzz::folder().write("pair.idx", contents.substr(0, length));
  readTokens(fuzz::folder().write("pair.bin", contents.size() < length ? "" : contents.substr(length)), model);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::TimeLimit limit;
  if (size == 0)
    return 0;
  std::string_view contents = fuzz::textOf(data + 1, size - 1);
  const Model &model = ::model((data[0] >> 4) % fuzz::kDataModels);
  std::string notice;
  switch (static_cast<fuzz::DataFormat>(data[0] & 15)) {
  case fuzz::DataFormat::Npy:
    readTokens(fuzz::folder().write("tokens.npy", contents), model);
    break;
  case fuzz::DataFormat::Pair:
    readPair(contents, model);
    break;
  case fuzz::DataFormat::Text:
    readTokens(fuzz::folder().write("text", contents), model);
    break;
  case fuzz::DataFormat::JsonLine:
    fuzz::taken(parseJsonLine(contents, {"input_ids", "labels"}));
    break;
  case fuzz::DataFormat::JsonLines: {
    JsonOptions options;
    options.truncate = (data[0] & 64) != 0;
    auto lines = JsonLines::open(fuzz::folder().write("lines.jsonl", contents), model.inputs, options, notice);
    if (fuzz::taken(lines))
      readAll(**lines);
    break;
  }
  case fuzz::DataFormat::Batches: {
    auto batches =
        BatchSamples::open(fuzz::folder().write("batches.safetensors", contents), model.plan, model.inputs, {}, notice);
    if (fuzz::taken(batches))
      readAll(**batches);
    break;
  }
  default:
    break;
  }
  return 0;
}
