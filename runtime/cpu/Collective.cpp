//===- Collective.cpp - Collectives on the memory of the host -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Collective.h"

#include "runtime/plan/Collectives.h"
#include "runtime/plan/Structure.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace moe::cpu {
namespace {

/// Elements below which a second thread costs more to wake than it adds up.
constexpr int64_t kElementsPerThread = 64 << 10;
constexpr int64_t kBytesPerThread = 256 << 10;
/// Elements that are added up at a time, so that sums stay in registers and caches.
constexpr int64_t kTile = 512;

/// How an element is stored and what it is added up as.
template <typename T> struct Plain {
  using Stored = T;
  using Sum = T;
  static Sum load(Stored value) { return value; }
  static Stored store(Sum value) { return value; }
};

struct Bf16 {
  using Stored = uint16_t;
  using Sum = float;
  static float load(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  /// To the nearest, ties to even. A NaN stays one: its lower half is zero, as in what it comes from or by default.
  static uint16_t store(float value) {
    auto bits = std::bit_cast<uint32_t>(value);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
};

template <typename T> T add(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
  else
    return a + b;
}

template <typename T> T larger(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return std::isnan(a) || a > b ? a : b;
  else
    return std::max(a, b);
}

template <typename Type, bool maximum>
void reduceAs(const std::byte *parts, int64_t stride, int64_t ranks, int64_t count, std::byte *target,
              const ThreadPool &pool) {
  using Stored = typename Type::Stored;
  using Sum = typename Type::Sum;
  const auto *source = reinterpret_cast<const Stored *>(parts);
  auto *result = reinterpret_cast<Stored *>(target);
  pool.parallelFor(count, kElementsPerThread, [=](int64_t begin, int64_t end, int) {
    std::array<Sum, kTile> sums;
    for (int64_t at = begin; at < end; at += kTile) {
      const int64_t length = std::min(kTile, end - at);
      for (int64_t i = 0; i < length; ++i)
        sums[static_cast<size_t>(i)] = Type::load(source[at + i]);
      for (int64_t rank = 1; rank < ranks; ++rank) {
        const Stored *summands = source + rank * stride + at;
        for (int64_t i = 0; i < length; ++i) {
          Sum &sum = sums[static_cast<size_t>(i)];
          sum = maximum ? larger(sum, Type::load(summands[i])) : add(sum, Type::load(summands[i]));
        }
      }
      for (int64_t i = 0; i < length; ++i)
        result[at + i] = Type::store(sums[static_cast<size_t>(i)]);
    }
  });
}

} // namespace

void reduceParts(plan::DType dtype, plan::Collective::Reduction reduction, const std::byte *parts, int64_t stride,
                 int64_t ranks, int64_t count, std::byte *target, const ThreadPool &pool) {
  const bool maximum = reduction == plan::Collective::MAX;
  auto as = [&]<typename Type>(Type) {
    return maximum ? reduceAs<Type, true>(parts, stride, ranks, count, target, pool)
                   : reduceAs<Type, false>(parts, stride, ranks, count, target, pool);
  };
  switch (dtype) {
  case plan::F32:
    return as(Plain<float>());
  case plan::BF16:
    return as(Bf16());
  case plan::I32:
    return as(Plain<int32_t>());
  case plan::I64:
    return as(Plain<int64_t>());
  default: // flags, which are 0 or 1
    return reduceAs<Plain<uint8_t>, true>(parts, stride, ranks, count, target, pool);
  }
}

Collective::Collective(const plan::Collective &work, plan::DType dtype, const CollectivePointers &pointers,
                       std::unique_ptr<Group> members, ThreadPool pool, std::string place)
    : work(work), dtype(dtype), width(elementBytes(dtype)), memory(pointers), group(std::move(members)), pool(pool),
      place(std::move(place)), sends(static_cast<size_t>(group->size())), receives(sends.size()) {}

Status Collective::run() {
  if (ranks() == 1) {
    if (memory.output != memory.input)
      std::memcpy(memory.output, memory.input, static_cast<size_t>(work.count()) * width);
    return {};
  }
  switch (work.kind()) {
  case plan::Collective::ALL_REDUCE:
    return allReduce();
  case plan::Collective::ALL_GATHER:
    return allGather();
  case plan::Collective::REDUCE_SCATTER:
    return reduceScatter();
  default:
    return allToAll();
  }
}

Status Collective::exchange(const std::byte *from, size_t sendStride, size_t sendBytes, std::byte *to) {
  for (size_t rank = 0; rank < sends.size(); ++rank) {
    sends[rank] = {from + rank * sendStride, sendBytes};
    receives[rank] = {to + rank * sendBytes, sendBytes};
  }
  return group->exchange(sends, receives, place.c_str());
}

void Collective::pack(const plan::Parts &parts, const std::byte *tensor, std::byte *blocks) const {
  const int64_t outer = parts.outer(), n = ranks();
  const size_t row = static_cast<size_t>(parts.inner()) * width;
  pool.parallelFor(n * outer, std::max<int64_t>(1, kBytesPerThread / static_cast<int64_t>(row)),
                   [=](int64_t begin, int64_t end, int) {
                     for (int64_t at = begin; at < end; ++at)
                       std::memcpy(blocks + static_cast<size_t>(at) * row,
                                   tensor + static_cast<size_t>(at % outer * n + at / outer) * row, row);
                   });
}

void Collective::unpack(const plan::Parts &parts, const std::byte *blocks, std::byte *tensor) const {
  const int64_t outer = parts.outer(), n = ranks();
  const size_t row = static_cast<size_t>(parts.inner()) * width;
  pool.parallelFor(n * outer, std::max<int64_t>(1, kBytesPerThread / static_cast<int64_t>(row)),
                   [=](int64_t begin, int64_t end, int) {
                     for (int64_t at = begin; at < end; ++at)
                       std::memcpy(tensor + static_cast<size_t>(at % outer * n + at / outer) * row,
                                   blocks + static_cast<size_t>(at) * row, row);
                   });
}

Status Collective::allReduce() {
  const SummedParts parts(static_cast<uint64_t>(work.count()), sends.size());
  const auto own = static_cast<size_t>(group->index());
  const size_t ownBegin = parts.begin(own) * width, ownBytes = parts.size(own) * width;
  for (size_t rank = 0; rank < sends.size(); ++rank) {
    sends[rank] = {memory.input + parts.begin(rank) * width, parts.size(rank) * width};
    receives[rank] = {memory.scratch + rank * parts.block * width, ownBytes};
  }
  if (Status status = group->exchange(sends, receives, place.c_str()); !status)
    return status;
  reduceParts(dtype, work.reduction(), memory.scratch, static_cast<int64_t>(parts.block), ranks(),
              static_cast<int64_t>(parts.size(own)), memory.output + ownBegin, pool);
  for (size_t rank = 0; rank < sends.size(); ++rank) {
    sends[rank] = {memory.output + ownBegin, ownBytes};
    receives[rank] = {memory.output + parts.begin(rank) * width, parts.size(rank) * width};
  }
  return group->exchange(sends, receives, place.c_str());
}

Status Collective::allGather() {
  const size_t bytes = static_cast<size_t>(work.count()) * width;
  const bool unpacks = work.concat().outer() > 1;
  if (Status status = exchange(memory.input, 0, bytes, unpacks ? memory.scratch : memory.output); !status)
    return status;
  if (unpacks)
    unpack(work.concat(), memory.scratch, memory.output);
  return {};
}

Status Collective::reduceScatter() {
  const int64_t block = work.count() / ranks();
  const size_t bytes = static_cast<size_t>(block) * width;
  const std::byte *from = memory.input;
  std::byte *summands = memory.scratch;
  if (work.split().outer() > 1) {
    pack(work.split(), memory.input, memory.scratch);
    from = memory.scratch;
    summands += bytes * sends.size();
  }
  if (Status status = exchange(from, bytes, bytes, summands); !status)
    return status;
  reduceParts(dtype, work.reduction(), summands, block, ranks(), block, memory.output, pool);
  return {};
}

Status Collective::allToAll() {
  const size_t bytes = static_cast<size_t>(work.count() / ranks()) * width;
  const bool packs = work.split().outer() > 1, unpacks = work.concat().outer() > 1;
  const std::byte *from = memory.input;
  std::byte *to = memory.output;
  if (packs) {
    pack(work.split(), memory.input, memory.scratch);
    from = memory.scratch;
  }
  if (unpacks)
    to = memory.scratch + (packs ? bytes * sends.size() : 0);
  if (Status status = exchange(from, bytes, bytes, to); !status)
    return status;
  if (unpacks)
    unpack(work.concat(), to, memory.output);
  return {};
}

} // namespace moe::cpu
