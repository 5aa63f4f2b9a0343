//===- CollectiveChecks.cpp - Collectives against plain loops -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/comm/CollectiveChecks.h"

#include "runtime/cpu/Collective.h"
#include "runtime/plan/Collectives.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace moe::test {
namespace {

using Kind = plan::Collective::Kind;
using Bytes = std::vector<std::byte>;

/// The bfloat16 nearest to a number, by comparing the two neighbours.
uint16_t nearestBf16(float value) {
  auto bits = std::bit_cast<uint32_t>(value);
  uint32_t low = bits & 0xffff0000, high = low + 0x10000;
  double below = std::abs(double(value) - double(std::bit_cast<float>(low)));
  double above = std::abs(double(std::bit_cast<float>(high)) - double(value));
  bool isEven = (low & 0x10000) == 0;
  return static_cast<uint16_t>((below < above || (below == above && isEven) ? low : high) >> 16);
}

/// An element of the tensor of one rank. Numbers of mixed size and sign, so that another order gives other sums.
void store(plan::DType dtype, std::byte *target, uint64_t seed, int rank, uint64_t index) {
  std::mt19937_64 random(seed * 1000003 + static_cast<uint64_t>(rank) * 10007 + index);
  random.discard(3);
  const auto word = random();
  const float number = std::ldexp(static_cast<float>(static_cast<int32_t>(word)), static_cast<int>(word >> 60) - 38);
  auto put = [&](auto value) { std::memcpy(target, &value, sizeof(value)); };
  switch (dtype) {
  case plan::F32:
    return put(number);
  case plan::BF16:
  case plan::F16:
    return put(nearestBf16(number));
  case plan::I32:
    return put(static_cast<int32_t>(word));
  case plan::I64:
    return put(word);
  default:
    return put(static_cast<uint8_t>(word % 3 == 0));
  }
}

Bytes tensorOf(plan::DType dtype, uint64_t seed, int rank, int64_t count) {
  const size_t width = elementBytes(dtype);
  Bytes bytes(static_cast<size_t>(count) * width);
  for (size_t i = 0; i < static_cast<size_t>(count); ++i)
    store(dtype, bytes.data() + i * width, seed, rank, i);
  return bytes;
}

template <typename T> T load(const Bytes &bytes, int64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

/// Element `index` of the sum (or maximum) over the tensors of a group.
void reduceInto(plan::DType dtype, bool maximum, const std::vector<Bytes> &tensors, int64_t index, std::byte *target) {
  auto put = [&](auto value) { std::memcpy(target, &value, sizeof(value)); };
  auto widen = [&](const Bytes &tensor) {
    return dtype == plan::F32 ? load<float>(tensor, index)
                              : std::bit_cast<float>(uint32_t(load<uint16_t>(tensor, index)) << 16);
  };
  if (dtype == plan::F32 || dtype == plan::BF16) {
    float sum = widen(tensors[0]);
    for (size_t rank = 1; rank < tensors.size(); ++rank)
      sum = maximum ? std::max<float>(sum, widen(tensors[rank])) : sum + widen(tensors[rank]);
    return dtype == plan::F32 ? put(sum) : put(nearestBf16(sum));
  }
  if (dtype == plan::BOOL) {
    uint8_t any = 0;
    for (const Bytes &tensor : tensors)
      any |= load<uint8_t>(tensor, index);
    return put(any);
  }
  auto integer = [&](auto sample) {
    using T = decltype(sample);
    T result = load<T>(tensors[0], index);
    for (size_t rank = 1; rank < tensors.size(); ++rank) {
      T other = load<T>(tensors[rank], index);
      result = maximum ? std::max(result, other) : T(std::make_unsigned_t<T>(result) + std::make_unsigned_t<T>(other));
    }
    put(result);
  };
  dtype == plan::I32 ? integer(int32_t()) : integer(int64_t());
}

/// A tensor of three dimensions and what becomes of it.
struct Case {
  Kind kind = plan::Collective::KIND_UNSPECIFIED;
  plan::DType dtype = plan::F32;
  bool maximum = false;
  std::array<int64_t, 3> input{}; ///< shape on each rank
  size_t split = 0, concat = 0;   ///< dimensions

  std::array<int64_t, 3> output(int64_t ranks) const {
    std::array<int64_t, 3> shape = input;
    if (kind == plan::Collective::REDUCE_SCATTER || kind == plan::Collective::ALL_TO_ALL)
      shape[split] /= ranks;
    if (kind == plan::Collective::ALL_GATHER || kind == plan::Collective::ALL_TO_ALL)
      shape[concat] *= ranks;
    return shape;
  }
};

int64_t countOf(const std::array<int64_t, 3> &shape) {
  return shape[0] * shape[1] * shape[2];
}

int64_t offsetOf(const std::array<int64_t, 3> &shape, const std::array<int64_t, 3> &at) {
  return (at[0] * shape[1] + at[1]) * shape[2] + at[2];
}

/// What member `self` has afterwards, index by index.
Bytes expectedOf(const Case &test, const std::vector<Bytes> &tensors, int64_t self) {
  const auto ranks = static_cast<int64_t>(tensors.size());
  const std::array<int64_t, 3> shape = test.output(ranks);
  const size_t width = elementBytes(test.dtype);
  Bytes result(static_cast<size_t>(countOf(shape)) * width);
  std::array<int64_t, 3> at{};
  for (at[0] = 0; at[0] < shape[0]; ++at[0])
    for (at[1] = 0; at[1] < shape[1]; ++at[1])
      for (at[2] = 0; at[2] < shape[2]; ++at[2]) {
        std::byte *target = result.data() + static_cast<size_t>(offsetOf(shape, at)) * width;
        std::array<int64_t, 3> source = at;
        int64_t from = self;
        if (test.kind == plan::Collective::ALL_GATHER || test.kind == plan::Collective::ALL_TO_ALL) {
          from = at[test.concat] / test.input[test.concat];
          source[test.concat] = at[test.concat] % test.input[test.concat];
        }
        if (test.kind == plan::Collective::ALL_TO_ALL && test.split == test.concat) {
          // The part that this rank gets of the dimension, and where in the parts of all ranks it lies.
          int64_t part = test.input[test.split] / ranks;
          from = at[test.split] / part;
          source[test.split] = self * part + at[test.split] % part;
        } else if (test.kind == plan::Collective::ALL_TO_ALL || test.kind == plan::Collective::REDUCE_SCATTER) {
          source[test.split] += self * (test.input[test.split] / ranks);
        }
        const int64_t index = offsetOf(test.input, source);
        if (reduces([&] {
              plan::Collective work;
              work.set_kind(test.kind);
              return work;
            }()))
          reduceInto(test.dtype, test.maximum, tensors, index, target);
        else
          std::memcpy(target, tensors[static_cast<size_t>(from)].data() + static_cast<size_t>(index) * width, width);
      }
  return result;
}

/// The shape as [outer, ranks, inner] around one dimension.
void cut(plan::Parts &parts, const std::array<int64_t, 3> &shape, size_t dim, int64_t ranks) {
  int64_t outer = 1, inner = shape[dim] / ranks;
  for (size_t d = 0; d < dim; ++d)
    outer *= shape[d];
  for (size_t d = dim + 1; d < 3; ++d)
    inner *= shape[d];
  parts.set_outer(outer);
  parts.set_inner(inner);
}

Case randomCase(std::mt19937_64 &random, int64_t ranks) {
  auto below = [&](uint64_t n) { return random() % n; };
  Case test;
  test.kind = static_cast<Kind>(plan::Collective::ALL_REDUCE + below(4));
  const plan::DType types[] = {plan::F32, plan::BF16, plan::I32, plan::I64, plan::BOOL, plan::F16};
  bool isReduction = test.kind == plan::Collective::ALL_REDUCE || test.kind == plan::Collective::REDUCE_SCATTER;
  test.dtype = types[below(isReduction ? 5 : 6)];
  test.maximum = test.dtype == plan::BOOL || below(4) == 0;
  test.split = below(3);
  test.concat = below(3);
  // Now and then more than a tile of the sums, or than threads take alone.
  const uint64_t sizes[] = {3, 9, 40};
  for (int64_t &size : test.input)
    size = 1 + static_cast<int64_t>(below(sizes[below(3)]));
  if (test.kind != plan::Collective::ALL_REDUCE && test.kind != plan::Collective::ALL_GATHER)
    test.input[test.split] *= ranks;
  return test;
}

std::string describe(const Case &test, size_t ranks) {
  return plan::Collective::Kind_Name(test.kind) + " of " + plan::DType_Name(test.dtype) +
         (test.maximum ? " (maximum)" : "") + " [" + std::to_string(test.input[0]) + ", " +
         std::to_string(test.input[1]) + ", " + std::to_string(test.input[2]) + "], split " +
         std::to_string(test.split) + ", concat " + std::to_string(test.concat) + ", " + std::to_string(ranks) +
         " ranks";
}

/// Runs one case on the group of this rank.
std::string runCase(const Case &test, Communicator &communicator, const plan::Plan &mesh, const AxisList &axes,
                    uint64_t seed, bool inPlace, const RunCollective &run) {
  const std::vector<int> members = groupMembers(mesh, axes, communicator.rank());
  const auto ranks = static_cast<int64_t>(members.size());
  std::vector<Bytes> tensors;
  tensors.reserve(members.size());
  for (int member : members)
    tensors.push_back(tensorOf(test.dtype, seed, member, countOf(test.input)));
  const auto self = static_cast<size_t>(std::ranges::find(members, communicator.rank()) - members.begin());
  CollectiveCall call{mesh, {}, test.dtype, tensors[self], 0};
  call.work.set_kind(test.kind);
  *call.work.mutable_axes() = axes;
  call.work.set_count(countOf(test.input));
  call.work.set_reduction(test.maximum ? plan::Collective::MAX : plan::Collective::SUM);
  call.work.set_in_place(inPlace);
  if (test.kind == plan::Collective::REDUCE_SCATTER || test.kind == plan::Collective::ALL_TO_ALL)
    cut(*call.work.mutable_split(), test.input, test.split, ranks);
  if (test.kind == plan::Collective::ALL_GATHER || test.kind == plan::Collective::ALL_TO_ALL)
    cut(*call.work.mutable_concat(), test.output(ranks), test.concat, ranks);
  call.work.set_scratch_bytes(collectiveScratchBytes(call.work, test.dtype, static_cast<uint64_t>(ranks)));
  call.outputBytes = static_cast<size_t>(countOf(test.output(ranks))) * elementBytes(test.dtype);
  auto output = run(communicator, call);
  if (!output)
    return describe(test, members.size()) + ": " + output.error().str();
  if (*output != expectedOf(test, tensors, static_cast<int64_t>(self)))
    return describe(test, members.size()) + (inPlace ? ", in place" : "") + ": rank " +
           std::to_string(communicator.rank()) + " has a wrong result";
  return {};
}

/// A mesh of all ranks: its sizes are a random factorisation.
plan::Plan randomMesh(std::mt19937_64 &random, int ranks) {
  plan::Plan plan;
  for (int rest = ranks; plan.mesh_size() < 3;) {
    int size = plan.mesh_size() == 2 ? rest : 1 + static_cast<int>(random() % static_cast<uint64_t>(rest));
    while (rest % size != 0)
      --size;
    plan.add_mesh()->set_size(size);
    rest /= size;
  }
  return plan;
}

} // namespace

Expected<Bytes> runOnHost(Communicator &communicator, const CollectiveCall &call) {
  Bytes input = call.input, output(call.outputBytes);
  Bytes scratch(call.work.scratch_bytes() + 64, std::byte(0x5a));
  std::fill(scratch.begin(), scratch.end() - 64, std::byte(0xff));
  const bool inPlace = call.work.in_place();
  cpu::CollectivePointers pointers{input.data(), inPlace ? input.data() : output.data(), scratch.data()};
  auto group = communicator.group(groupMembers(call.mesh, call.work.axes(), communicator.rank()));
  // One thread or two.
  const int threads = 1 + static_cast<int>(call.work.count() % 2);
  cpu::Collective collective(call.work, call.dtype, pointers, std::move(group), cpu::ThreadPool(threads), "a test");
  if (Status status = collective.run(); !status)
    return tl::unexpected(std::move(status.error()));
  if (!std::all_of(scratch.end() - 64, scratch.end(), [](std::byte byte) { return byte == std::byte(0x5a); }))
    return error("it writes beyond its scratch");
  if (!inPlace && input != call.input)
    return error("its input has changed");
  return inPlace ? input : output;
}

std::string checkCollectives(Communicator &communicator, uint64_t seed, int rounds, const RunCollective &run) {
  std::mt19937_64 random(seed); // the same draws on all ranks
  for (int round = 0; round < rounds; ++round) {
    plan::Plan mesh = randomMesh(random, communicator.size());
    AxisList axes;
    for (uint32_t axis : {0u, 1u, 2u})
      if (random() % 2 == 0)
        axes.Add(axis);
    if (axes.size() > 1 && random() % 3 == 0)
      axes.SwapElements(0, axes.size() - 1);
    Case test = randomCase(random, static_cast<int64_t>(groupSize(mesh, axes)));
    bool inPlace = test.kind == plan::Collective::ALL_REDUCE && random() % 2 == 0;
    std::string problem = runCase(test, communicator, mesh, axes, seed + static_cast<uint64_t>(round), inPlace, run);
    if (!problem.empty())
      return "round " + std::to_string(round) + ": " + problem;
  }
  return {};
}

std::string checkExchanges(Communicator &communicator, int rounds) {
  std::unique_ptr<Group> all = communicator.all();
  const int size = all->size();
  auto bytesFrom = [&](int from, int to, int round) {
    return Bytes(static_cast<size_t>((from * 7 + to * 13 + round) % 5 * 1000), std::byte(from * 16 + to + round));
  };
  for (int round = 0; round < rounds; ++round) {
    std::vector<Bytes> out, in;
    for (int other = 0; other < size; ++other) {
      out.push_back(bytesFrom(communicator.rank(), other, round));
      in.emplace_back(bytesFrom(other, communicator.rank(), round).size(), std::byte(0xee));
    }
    std::vector<SendBlock> sends(out.begin(), out.end());
    std::vector<ReceiveBlock> receives(in.begin(), in.end());
    if (Status status = all->exchange(sends, receives, "a test"); !status)
      return status.error().str();
    // What was sent may be overwritten at once.
    for (Bytes &block : out)
      std::fill(block.begin(), block.end(), std::byte(0xdd));
    for (int other = 0; other < size; ++other)
      if (in[static_cast<size_t>(other)] != bytesFrom(other, communicator.rank(), round))
        return "round " + std::to_string(round) + ": rank " + std::to_string(communicator.rank()) +
               " has other bytes than rank " + std::to_string(other) + " has sent";
  }
  return {};
}

} // namespace moe::test
