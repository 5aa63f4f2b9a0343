//===- BatchSamples.cpp - Training samples from safetensors ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/BatchSamples.h"

#include "runtime/checkpoint/Elements.h"
#include "runtime/data/InputBatch.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace moe {

constexpr int kReportedSamples = 20;

static bool isInteger(plan::DType type) {
  return type == plan::I64 || type == plan::I32;
}

/// Rows that a tensor of `shape` holds for an input of shape `row`, the micro-batch being its first dimension; -1 if it
/// is not one of the two shapes.
static int64_t rowsOf(const std::vector<int64_t> &shape, const plan::Input &input) {
  auto endsWith = [&](int from) {
    return shape.size() == 1 + size_t(input.shape_size() - from) &&
           std::equal(shape.begin() + 1, shape.end(), input.shape().begin() + from);
  };
  if (endsWith(0))
    return shape[0] * input.shape(0);
  return endsWith(1) ? shape[0] : -1;
}

static std::string misshaped(const TensorEntry &entry, const std::string &expected) {
  std::string text = "mis-shaped " + entry.name + ": ";
  text += shapeText(entry.shape);
  text += ", expected ";
  return text + expected;
}

Expected<std::shared_ptr<const BatchSamples>> BatchSamples::open(const std::filesystem::path &path,
                                                                 const plan::Plan &plan, const ModelInputs &inputs,
                                                                 const ColumnNames &columns, std::string &notice) {
  auto opened = SafetensorsFile::open(path);
  if (!opened)
    return tl::unexpected(opened.error());
  auto result = std::make_shared<BatchSamples>(std::move(*opened), inputs);
  std::string problems;
  auto complain = [&](const std::string &text) { problems += (problems.empty() ? "  " : "\n  ") + text; };
  std::set<std::string> used;
  result->samples = -1;
  for (int i = 0; i < plan.inputs_size(); ++i) {
    const plan::Input &input = plan.inputs(i);
    auto named = columns.find(input.name());
    const std::string name = named == columns.end() ? input.name() : named->second;
    const TensorEntry *entry = result->file.find(name);
    result->tensors.push_back(entry);
    used.insert(name);
    const std::vector<int64_t> shape(input.shape().begin(), input.shape().end());
    std::string expected = "[batches] + " + shapeText(shape);
    expected += " or [samples] + " + shapeText(std::span(shape).subspan(1));
    if (!entry) {
      if (!inputs.isDerivable(i))
        complain(("missing " + name).append(": ").append(expected));
      continue;
    }
    const int64_t rows = rowsOf(entry->shape, input);
    if (rows < 0)
      complain(misshaped(*entry, expected));
    else if (result->samples >= 0 && rows != result->samples)
      complain(name + " has " + std::to_string(rows) + " samples, others have " + std::to_string(result->samples));
    else
      result->samples = rows;
  }
  if (problems.empty() && result->samples < 1)
    complain("it holds no sample");
  const int64_t checked = problems.empty() ? result->samples : 0;
  Sample sample;
  for (int64_t i = 0, bad = 0; i < checked && bad < kReportedSamples; ++i)
    if (Status status = result->read(i, sample); !status) {
      const Diagnostic &problem = status.error();
      complain(problem.where + ": " + problem.what + (problem.why.empty() ? "" : ": " + problem.why));
      ++bad;
    }
  if (!problems.empty())
    return error("the data does not fit the model", path.string(), problems,
                 "store each input with one or two more leading dimensions; --columns INPUT=TENSOR names others");
  for (const TensorEntry &entry : result->file.tensors())
    if (!used.contains(entry.name))
      notice += (notice.empty() ? "" : ", ") + entry.name;
  return result;
}

Status BatchSamples::read(int64_t index, Sample &sample) const {
  sample.columns.resize(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ModelInput &input = inputs.list()[i];
    Sample::Column &column = sample.columns[i];
    column.kind = Sample::Column::Kind::Absent;
    if (!tensors[i])
      continue;
    const TensorEntry &entry = *tensors[i];
    const size_t rowBytes = size_t(input.rowElements) * elementSize(entry.type);
    std::span<const std::byte> row = file.bytes(entry).subspan(size_t(index) * rowBytes, rowBytes);
    const std::string where = "sample " + std::to_string(index) + ", input " + input.name;
    const bool asTokens = isInteger(input.dtype);
    const plan::DType type = asTokens ? plan::I64 : input.dtype;
    column.bytes.resize(size_t(input.rowElements) * elementSize(type));
    if (Status status = convertElements(entry.type, row, type, column.bytes, input.rowElements, where); !status)
      return status;
    column.kind = Sample::Column::Kind::Raw;
    if (asTokens) {
      column.kind = Sample::Column::Kind::Tokens;
      column.tokens.resize(size_t(input.rowElements));
      std::memcpy(column.tokens.data(), column.bytes.data(), column.bytes.size());
    }
  }
  Status status = completeSample(inputs, sample);
  if (status)
    return status;
  Diagnostic problem = status.error();
  problem.where = "sample " + std::to_string(index) + (problem.where.empty() ? "" : ", " + problem.where);
  return tl::unexpected(std::move(problem));
}

} // namespace moe
