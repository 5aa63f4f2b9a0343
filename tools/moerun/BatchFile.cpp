//===- BatchFile.cpp - Model inputs from a safetensors file ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/BatchFile.h"

#include "runtime/checkpoint/Elements.h"
#include "runtime/data/InputBatch.h"

#include <algorithm>
#include <cstring>

namespace moe {

static std::span<const int64_t> shapeOf(const plan::Input &input) {
  return {input.shape().data(), size_t(input.shape_size())};
}

Expected<BatchFile> BatchFile::open(const std::filesystem::path &path, Session &session, std::string &notice) {
  auto file = SafetensorsFile::open(path);
  if (!file)
    return tl::unexpected(file.error());
  BatchFile result(std::move(*file), session);
  result.batches = INT64_MAX;
  std::string problems;
  auto complain = [&](const std::string &text) { problems += (problems.empty() ? "  " : "\n  ") + text; };
  for (const plan::Input &input : session.plan().inputs()) {
    std::span<const int64_t> shape = shapeOf(input);
    const TensorEntry *entry = result.file.find(input.name());
    if (!entry) {
      complain("missing " + input.name() + ": [batches] + " + shapeText(shape));
      continue;
    }
    if (entry->shape.size() != shape.size() + 1 || !std::equal(shape.begin(), shape.end(), entry->shape.begin() + 1)) {
      complain("mis-shaped " + input.name() + ": " + shapeText(entry->shape) + ", expected [batches] + " +
               shapeText(shape));
      continue;
    }
    result.batches = std::min(result.batches, entry->shape[0]);
  }
  if (!problems.empty())
    return error("the file does not hold the inputs of the model", path.string(), problems,
                 "store each input with one more leading dimension, the batch index");
  if (session.plan().inputs_size() == 0)
    result.batches = 0;
  for (const TensorEntry &entry : result.file.tensors())
    if (std::ranges::find(session.plan().inputs(), entry.name, &plan::Input::name) == session.plan().inputs().end())
      notice += (notice.empty() ? "" : ", ") + entry.name;
  return result;
}

Status BatchFile::checkTokens(const plan::Input &input, std::span<const std::byte> staged,
                              const std::string &where) const {
  if (input.vocabulary() <= 0 || (input.dtype() != plan::I64 && input.dtype() != plan::I32))
    return {};
  const int64_t padId = session.plan().training().pad_id();
  const size_t width = elementSize(input.dtype());
  for (size_t i = 0; i < staged.size() / width; ++i) {
    int64_t token = 0;
    if (width == 8)
      std::memcpy(&token, staged.data() + i * 8, 8);
    else {
      int32_t narrow = 0;
      std::memcpy(&narrow, staged.data() + i * 4, 4);
      token = narrow;
    }
    bool ignored = input.is_labels() && token == padId;
    if (uint64_t(token) >= uint64_t(input.vocabulary()) && !ignored)
      return error("token outside the vocabulary", where + ", element " + std::to_string(i),
                   "the token is " + std::to_string(token) + ", the vocabulary has " +
                       std::to_string(input.vocabulary()) + " entries" +
                       (input.is_labels() ? " and labels that do not count are " + std::to_string(padId) : ""));
  }
  return {};
}

Status BatchFile::stage(int64_t index, int64_t micro) {
  for (const plan::Input &input : session.plan().inputs()) {
    const TensorEntry &entry = *file.find(input.name());
    const std::string where = "input " + input.name() + ", batch " + std::to_string(index);
    // Of the batch, which is global, the rows of this rank.
    const RowRange range = rowsOf(session.plan(), input, session.rank());
    const size_t whole = size_t(elementCount(shapeOf(input)));
    const size_t row = input.shape_size() > 0 && input.shape(0) > 0 ? whole / size_t(input.shape(0)) : whole;
    const size_t count = row * size_t(range.count);
    const size_t first = (size_t(index) * whole + size_t(range.first) * row) * elementSize(entry.type);
    const size_t bytes = count * elementSize(input.dtype());
    std::span<std::byte> target = session.bytes(input.staging()).subspan(size_t(micro) * bytes, bytes);
    if (Status status = convertElements(entry.type, file.bytes(entry).subspan(first, count * elementSize(entry.type)),
                                        input.dtype(), target, int64_t(count), where);
        !status)
      return status;
    if (Status status = checkTokens(input, target, where); !status)
      return status;
  }
  return {};
}

} // namespace moe
