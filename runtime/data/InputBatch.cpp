//===- InputBatch.cpp - Writes samples where the plan wants them -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/InputBatch.h"

#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace moe {

using Kind = Sample::Column::Kind;

static int64_t widthOf(plan::DType type) {
  switch (type) {
  case plan::I64:
    return 8;
  case plan::F32:
  case plan::I32:
    return 4;
  case plan::F16:
  case plan::BF16:
    return 2;
  default:
    return 1;
  }
}

static Status checkElements(const ModelInputs &model, const ModelInput &input, const std::vector<int64_t> &values) {
  const bool isLabels = input.kind == InputKind::Labels;
  if (int64_t(values.size()) > input.rowElements)
    return error("a sequence is longer than the model reads", "input " + input.name,
                 std::to_string(values.size()) + " elements, the plan has room for " +
                     std::to_string(input.rowElements),
                 "cut it with --truncate, or compile the model for a longer sequence");
  if (input.vocabulary <= 0)
    return {};
  for (size_t i = 0; i < values.size(); ++i)
    if ((values[i] < 0 || values[i] >= input.vocabulary) && !(isLabels && values[i] == model.ignored()))
      return error("token outside the vocabulary", "input " + input.name + ", element " + std::to_string(i),
                   "the token is " + std::to_string(values[i]) + ", the model's vocabulary has " +
                       std::to_string(input.vocabulary) + " entries" +
                       (isLabels && model.ignored()
                            ? " and labels that do not count are " + std::to_string(*model.ignored())
                            : ""),
                   "use the vocabulary that the model was made for");
  return {};
}

/// Labels from tokens, or the tokens of a decoder from labels.
static Status completeShifted(const ModelInputs &model, Sample &sample) {
  const int to = model.labels(), from = model.labelSource();
  if (to < 0 || from < 0)
    return {};
  Sample::Column &labels = sample.columns[size_t(to)], &tokens = sample.columns[size_t(from)];
  if (labels.kind == Kind::Absent && tokens.kind == Kind::Tokens) {
    if (tokens.tokens.size() < 2)
      return error("a sequence is too short", "input " + model.list()[size_t(from)].name,
                   "the labels are its tokens from the second on, and it has " + std::to_string(tokens.tokens.size()),
                   "remove it from the data");
    labels.kind = Kind::Tokens;
    labels.tokens.assign(tokens.tokens.begin() + 1, tokens.tokens.end());
    tokens.tokens.pop_back();
  } else if (tokens.kind == Kind::Absent && labels.kind == Kind::Tokens && model.isDerivable(from)) {
    tokens.kind = Kind::Tokens;
    tokens.tokens.assign(1, *model.decoderStart());
    for (size_t i = 0; i + 1 < labels.tokens.size() && labels.tokens[i] != model.ignored(); ++i)
      tokens.tokens.push_back(labels.tokens[i]);
  }
  return {};
}

/// Tokens of a row before its padding, if the data say which token that is.
static int64_t lengthOf(const ModelInputs &model, const ModelInput &input, const Sample::Column &column) {
  if (column.kind != Kind::Tokens)
    return input.rowElements;
  auto length = int64_t(column.tokens.size());
  while (model.givenPadToken() && length > 1 && column.tokens[size_t(length) - 1] == *model.givenPadToken())
    --length;
  return length;
}

Status completeSample(const ModelInputs &model, Sample &sample) {
  if (Status status = completeShifted(model, sample); !status)
    return status;
  const std::vector<ModelInput> &inputs = model.list();
  std::vector<int64_t> &lengths = sample.lengths;
  lengths.resize(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    lengths[i] = lengthOf(model, inputs[i], sample.columns[i]);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ModelInput &input = inputs[i];
    Sample::Column &column = sample.columns[i];
    if (column.kind == Kind::Raw)
      continue;
    int64_t filler = 0;
    if (column.kind == Kind::Absent) {
      if (input.partner < 0 || input.kind == InputKind::Labels)
        return error("a sample has no values for an input", "input " + input.name, {},
                     "name the column that holds them with --columns");
      column.kind = Kind::Tokens;
      column.tokens.assign(size_t(input.rowElements), 0);
      if (input.kind == InputKind::Mask)
        std::fill_n(column.tokens.begin(), lengths[size_t(input.partner)], 1);
      if (input.kind == InputKind::Positions)
        std::iota(column.tokens.begin(), column.tokens.end(), 0);
      continue;
    }
    if (Status status = checkElements(model, input, column.tokens); !status)
      return status;
    const bool isShort = int64_t(column.tokens.size()) < input.rowElements;
    if (input.kind == InputKind::Tokens)
      filler = model.padToken(input);
    if (isShort && input.kind == InputKind::Labels) {
      if (!model.ignored())
        return error("a sequence of labels is too short", "input " + input.name,
                     std::to_string(column.tokens.size()) + " elements instead of " +
                         std::to_string(input.rowElements) + ", and the model's loss ignores no label",
                     "give sequences of the full length, or a loss with ignore_index in the recipe");
      filler = *model.ignored();
    }
    if (input.kind == InputKind::Other && (input.dtype == plan::F16 || input.dtype == plan::BF16))
      return error("an input has no whole numbers", "input " + input.name, "its type has 16 bits of floating point",
                   "give the data as safetensors");
    if (isShort && input.kind == InputKind::Other)
      return error("a sample has too few elements for an input", "input " + input.name,
                   std::to_string(column.tokens.size()) + " instead of " + std::to_string(input.rowElements));
    column.tokens.resize(size_t(input.rowElements), filler);
  }
  return {};
}

RowRange rowsOf(const plan::Plan &plan, const plan::Input &input, int64_t rank) {
  const int64_t rows = input.shape_size() > 0 ? input.shape(0) : 1;
  if (input.axes().empty())
    return {0, rows};
  const int64_t count = rows / static_cast<int64_t>(groupSize(plan, input.axes()));
  return {groupIndex(plan, input.axes(), coordinatesOf(plan, rank)) * count, count};
}

InputBatch::InputBatch(Session &session, ModelInputs inputs) : model(std::move(inputs)) {
  for (const plan::Input &input : session.plan().inputs()) {
    staging.push_back(session.bytes(input.staging()));
    ranges.push_back(rowsOf(session.plan(), input, session.rank()));
  }
  padding.columns.resize(model.list().size());
  for (size_t i = 0; i < model.list().size(); ++i) {
    const ModelInput &input = model.list()[i];
    int64_t filler = input.kind == InputKind::Tokens   ? model.padToken(input)
                     : input.kind == InputKind::Labels ? model.ignored().value_or(0)
                                                       : int64_t(input.kind == InputKind::Mask);
    padding.columns[i].set(std::vector<int64_t>(size_t(input.rowElements), filler));
    if (input.kind == InputKind::Positions)
      std::iota(padding.columns[i].tokens.begin(), padding.columns[i].tokens.end(), 0);
  }
}

template <typename T> static void copyAs(std::byte *target, const std::vector<int64_t> &values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const T value = static_cast<T>(values[i]);
    std::memcpy(target + i * sizeof(T), &value, sizeof(T));
  }
}

bool InputBatch::holds(int64_t row) const {
  return std::ranges::any_of(ranges, [&](const RowRange &range) { return range.contains(row); });
}

void InputBatch::store(size_t index, int64_t micro, int64_t row, const Sample::Column &column) {
  const ModelInput &input = model.list()[index];
  const RowRange &range = ranges[index];
  if (!range.contains(row))
    return;
  const int64_t bytes = input.rowElements * widthOf(input.dtype);
  std::byte *target = staging[index].data() + (micro * range.count + row - range.first) * bytes;
  if (column.kind == Kind::Raw) {
    std::memcpy(target, column.bytes.data(), std::min(size_t(bytes), column.bytes.size()));
    return;
  }
  switch (input.dtype) {
  case plan::I64:
    return copyAs<int64_t>(target, column.tokens);
  case plan::I32:
    return copyAs<int32_t>(target, column.tokens);
  case plan::F32:
    return copyAs<float>(target, column.tokens);
  case plan::BOOL:
    return copyAs<bool>(target, column.tokens);
  default: {
    // One is 0x3C00 in float16 and 0x3F80 in bfloat16; masks need no other number.
    std::vector<int64_t> halves(column.tokens.size());
    std::ranges::transform(column.tokens, halves.begin(), [&](int64_t value) {
      return value == 0 ? 0 : input.dtype == plan::F16 ? 0x3C00 : 0x3F80;
    });
    return copyAs<uint16_t>(target, halves);
  }
  }
}

Status InputBatch::write(int64_t micro, int64_t row, Sample &sample) {
  if (Status status = completeSample(model, sample); !status)
    return status;
  for (size_t i = 0; i < sample.columns.size(); ++i)
    store(i, micro, row, sample.columns[i]);
  return {};
}

void InputBatch::pad(int64_t micro, int64_t row) {
  for (size_t i = 0; i < padding.columns.size(); ++i)
    store(i, micro, row, padding.columns[i]);
}

} // namespace moe
