//===- StateInit.cpp - First values of the state -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/StateInit.h"

#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/GlobalTensor.h"
#include "runtime/checkpoint/ModelFiles.h"
#include "runtime/checkpoint/ParameterFile.h"
#include "runtime/core/HostSlice.h"
#include "runtime/cpu/kernels/Philox.h"
#include "runtime/plan/Pieces.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace moe {

namespace {
/// Two numbers in [0, 1) for each element of a tensor.
class Draws {
public:
  Draws(uint64_t seed, std::string_view name) {
    Digest digest;
    digest.add(name);
    key = philox::siteKey(seed, digest.value());
  }

  std::pair<double, double> operator()(uint64_t index) const {
    auto words = philox::block({uint32_t(index), uint32_t(index >> 32), 0, 1}, key);
    return {unit(words[0], words[1]), unit(words[2], words[3])};
  }

private:
  static double unit(uint32_t low, uint32_t high) { return double((uint64_t(high) << 32 | low) >> 11) * 0x1p-53; }
  std::array<uint32_t, 2> key;
};
} // namespace

void drawUniform(std::span<std::byte> target, plan::DType type, uint64_t seed, std::string_view name, double low,
                 double high, uint64_t first) {
  Draws draws(seed, name);
  const size_t count = target.size() / elementSize(type);
  for (size_t i = 0; i < count; ++i)
    storeNumber(type, target, int64_t(i), low + (high - low) * draws(first + i).first);
}

void drawNormal(std::span<std::byte> target, plan::DType type, uint64_t seed, std::string_view name, double mean,
                double stddev, uint64_t first) {
  Draws draws(seed, name);
  const size_t count = target.size() / elementSize(type);
  for (size_t i = 0; i < count; ++i) {
    auto [u, v] = draws(first + i);
    double normal = std::sqrt(-2 * std::log(u + 0x1p-54)) * std::cos(2 * std::numbers::pi * v);
    storeNumber(type, target, int64_t(i), mean + stddev * normal);
  }
}

static Status copyInline(const plan::StateTensor &tensor, std::span<std::byte> target) {
  const std::string &data = tensor.initial().data().data();
  if (data.size() != target.size())
    return error("a first value of the plan has the wrong size", tensor.name(),
                 std::to_string(data.size()) + " bytes for " + std::to_string(target.size()), "compile the plan again");
  std::memcpy(target.data(), data.data(), data.size());
  return {};
}

/// Elements of a tensor from `first` on, if each of them has a value of its own.
static void fillDrawn(const plan::StateTensor &tensor, std::span<std::byte> target, uint64_t seed, uint64_t first) {
  const plan::Initial &initial = tensor.initial();
  if (initial.has_uniform())
    return drawUniform(target, tensor.dtype(), seed, tensor.name(), initial.uniform().low(), initial.uniform().high(),
                       first);
  if (initial.has_normal())
    return drawNormal(target, tensor.dtype(), seed, tensor.name(), initial.normal().mean(), initial.normal().stddev(),
                      first);
  for (size_t i = 0, count = target.size() / elementSize(tensor.dtype()); i < count; ++i)
    storeNumber(tensor.dtype(), target, int64_t(i), initial.constant().value());
}

static bool isDrawn(const plan::Initial &initial) {
  return initial.has_constant() || initial.has_uniform() || initial.has_normal();
}

static Status fillOne(const plan::StateTensor &tensor, std::span<std::byte> target, uint64_t seed,
                      ModelFiles &modelFiles) {
  const plan::Initial &initial = tensor.initial();
  switch (initial.value_case()) {
  case plan::Initial::kConstant:
  case plan::Initial::kUniform:
  case plan::Initial::kNormal:
    fillDrawn(tensor, target, seed, 0);
    return {};
  case plan::Initial::kFile:
    return modelFiles.read(tensor, target);
  case plan::Initial::kData:
    return copyInline(tensor, target);
  case plan::Initial::VALUE_NOT_SET:
    break;
  }
  if (tensor.kind() == plan::StateTensor::PARAMETER || tensor.kind() == plan::StateTensor::FROZEN)
    return error("the plan gives a tensor no first value", tensor.name(), {}, "compile the plan again");
  std::ranges::fill(target, std::byte(0));
  return {};
}

static Status zeroRows(const plan::StateTensor &tensor, std::span<std::byte> target) {
  const int64_t rows = tensor.shape_size() ? tensor.shape(0) : 0;
  for (int64_t row : tensor.initial().zero_rows()) {
    if (row < 0 || row >= rows)
      return error("the plan zeroes a row that a tensor does not have", tensor.name(),
                   "row " + std::to_string(row) + " of " + std::to_string(rows), "compile the plan again");
    size_t bytes = target.size() / size_t(rows);
    std::ranges::fill(target.subspan(size_t(row) * bytes, bytes), std::byte(0));
  }
  return {};
}

/// What this rank has of a tensor. What is drawn is drawn in its slice, what a file holds is read as a whole.
static Status fillPart(Session &session, const plan::StateTensor &tensor, uint64_t seed, ModelFiles &modelFiles) {
  std::span<const int64_t> shape(tensor.shape().data(), size_t(tensor.shape_size()));
  const size_t width = elementSize(tensor.dtype());
  std::span<std::byte> slice = session.bytes(tensor.slice());
  if (isDrawn(tensor.initial()) && tensor.initial().zero_rows().empty() && slice.size() == tensor.slice().bytes()) {
    for (const Piece &piece : piecesOf(session.plan(), tensor, session.rank()))
      fillDrawn(tensor, slice.subspan(piece.local * width, piece.count * width), seed, piece.global);
    return {};
  }
  std::vector<std::byte> whole(size_t(elementCount(shape)) * width);
  Status status = fillOne(tensor, whole, seed, modelFiles);
  if (status)
    status = zeroRows(tensor, whole);
  return status ? scatterTensor(session, tensor, whole) : status;
}

Status initialiseState(Session &session, const StateSources &sources) {
  const plan::Plan &plan = session.plan();
  ModelFiles modelFiles(plan.header().model(), sources.weights);
  for (const plan::StateTensor &tensor : plan.state()) {
    // Parameters that a file sets are not read from the model, which then need not be there.
    if (tensor.kind() == plan::StateTensor::PARAMETER && !sources.parameters.empty())
      continue;
    std::span<const int64_t> shape(tensor.shape().data(), size_t(tensor.shape_size()));
    if (!isWhole(plan, tensor)) {
      if (Status status = fillPart(session, tensor, sources.seed, modelFiles); !status)
        return status;
      continue;
    }
    HostSlice filled(session, tensor.slice());
    std::span<std::byte> target = filled.bytes();
    if (elementSize(tensor.dtype()) == 0 || elementCount(shape) < 0 ||
        target.size() != uint64_t(elementCount(shape)) * elementSize(tensor.dtype()))
      return error("a state tensor of the plan does not fill its slice", tensor.name(), {}, "compile the plan again");
    if (Status status = fillOne(tensor, target, sources.seed, modelFiles); !status)
      return status;
    if (Status status = zeroRows(tensor, target); !status)
      return status;
    if (Status status = filled.commit(); !status)
      return status;
  }
  return sources.parameters.empty() ? Status() : loadParameters(session, sources.parameters);
}

} // namespace moe
