//===- GroupedGemm.cpp - Products of blocks of rows with the weights of their experts -----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/GroupedGemm.h"

#include "runtime/plan/Structure.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

namespace moe::cpu {
namespace {

/// Least bytes worth a thread of their own.
constexpr int64_t kBytesPerThread = 1 << 16;
/// Where the library's scratch begins behind the float32 sums of a bf16 weight gradient.
constexpr uint64_t kAlignment = 64;

/// The product of `blocks` neighbouring blocks; `adds` to what the result holds.
plan::Gemm piece(const plan::GroupedGemm &gemm, int64_t blocks, bool adds) {
  int64_t rows = blocks * gemm.block_rows();
  plan::Gemm one;
  one.set_batch(1);
  one.set_m(gemm.weight_grad() ? gemm.left() : rows);
  one.set_n(gemm.right());
  one.set_k(gemm.weight_grad() ? rows : gemm.left());
  one.set_transpose_a(gemm.weight_grad());
  one.set_transpose_b(gemm.transposed());
  one.set_lda(gemm.left());
  one.set_ldb(gemm.transposed() ? gemm.left() : gemm.right());
  one.set_ldc(gemm.right());
  one.set_alpha(1.0f);
  one.set_beta(adds ? 1.0f : 0.0f);
  return one;
}

/// Sums of weight gradients are float32 until they are whole.
GemmTypes typesOf(const plan::GroupedGemm &gemm, plan::DType dtype) {
  return {dtype, dtype, gemm.weight_grad() ? plan::F32 : dtype, plan::F32};
}

uint64_t weightElements(const plan::GroupedGemm &gemm) {
  return static_cast<uint64_t>(gemm.left()) * static_cast<uint64_t>(gemm.right());
}

/// Bytes of the float32 sum of one expert where the gradient itself is narrower.
uint64_t sumBytes(const plan::GroupedGemm &gemm, plan::DType dtype) {
  if (!gemm.weight_grad() || dtype == plan::F32)
    return 0;
  return (weightElements(gemm) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

int powersUpTo(int64_t blocks) {
  return std::bit_width(static_cast<uint64_t>(blocks));
}

/// Nearest bfloat16, ties to even.
uint16_t toBf16(float value) {
  auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return 0x7fc0; // NaN, which rounding could make infinite
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

} // namespace

uint64_t groupedGemmScratchBytes(const plan::GroupedGemm &gemm, plan::DType dtype, int threads) {
  uint64_t library = 0;
  for (int power = 0; power < powersUpTo(gemm.blocks()); ++power)
    for (bool adds : {false, gemm.weight_grad()})
      library =
          std::max(library, gemmScratchBytes(piece(gemm, int64_t{1} << power, adds), typesOf(gemm, dtype), threads));
  return sumBytes(gemm, dtype) + library;
}

GroupedGemm::GroupedGemm(const plan::GroupedGemm &gemm, plan::DType dtype, ThreadPool pool,
                         GroupedGemmPointers pointers)
    : gemm(gemm), dtype(dtype), pool(pool), pointers(std::move(pointers)) {}

Expected<GroupedGemm> GroupedGemm::create(const plan::GroupedGemm &gemm, plan::DType dtype, ThreadPool pool,
                                          GroupedGemmPointers pointers) {
  GroupedGemm result(gemm, dtype, pool, std::move(pointers));
  GemmPointers addresses{result.pointers.left, result.pointers.right, result.pointers.result, nullptr,
                         static_cast<std::byte *>(result.pointers.scratch) + sumBytes(gemm, dtype)};
  for (int power = 0; power < powersUpTo(gemm.blocks()); ++power)
    for (bool adds : {false, true}) {
      if (adds && !gemm.weight_grad())
        continue;
      auto primitive =
          GemmPrimitive::create(piece(gemm, int64_t{1} << power, adds), typesOf(gemm, dtype), pool.threads());
      if (!primitive)
        return tl::unexpected(std::move(primitive.error()));
      if (Status status = primitive->bind(addresses); !status)
        return tl::unexpected(std::move(status.error()));
      (adds ? result.adding : result.primitives).push_back(std::move(*primitive));
    }
  return result;
}

std::byte *GroupedGemm::weightOf(int64_t expert) const {
  if (gemm.separate())
    return static_cast<std::byte *>(pointers.weights[static_cast<size_t>(expert)]);
  return static_cast<std::byte *>(pointers.weights[0]) +
         static_cast<uint64_t>(expert) * weightElements(gemm) * elementBytes(dtype);
}

GroupedGemm::Run GroupedGemm::runAt(int64_t block) const {
  Run run{block, block + 1, pointers.blockExpert[block]};
  while (run.end < gemm.blocks() && pointers.blockExpert[run.end] == run.expert)
    ++run.end;
  return run;
}

template <typename Visit> Status GroupedGemm::forEachPiece(const Run &run, Visit visit) const {
  for (int64_t block = run.begin; block < run.end;) {
    int power = powersUpTo(run.end - block) - 1;
    if (Status status = visit(block, static_cast<size_t>(power)); !status)
      return status;
    block += int64_t{1} << power;
  }
  return {};
}

Status GroupedGemm::multiply(const Run &run) const {
  auto elements = static_cast<int64_t>(elementBytes(dtype));
  int64_t leftBytes = gemm.block_rows() * gemm.left() * elements;
  int64_t resultBytes = gemm.block_rows() * gemm.right() * elements;
  const auto *left = static_cast<const std::byte *>(pointers.left);
  auto *result = static_cast<std::byte *>(pointers.result);
  if (run.expert < 0) {
    std::byte *first = result + run.begin * resultBytes;
    pool.parallelFor((run.end - run.begin) * resultBytes, kBytesPerThread, [first](int64_t begin, int64_t end, int) {
      std::memset(first + begin, 0, static_cast<size_t>(end - begin));
    });
    return {};
  }
  const std::byte *weight = weightOf(run.expert);
  return forEachPiece(run, [&](int64_t block, size_t power) {
    return primitives[power].runAt(left + block * leftBytes, weight, result + block * resultBytes);
  });
}

Status GroupedGemm::addUp(const Run &run, bool isFirst) const {
  auto elements = static_cast<int64_t>(elementBytes(dtype));
  const auto *left = static_cast<const std::byte *>(pointers.left);
  const auto *right = static_cast<const std::byte *>(pointers.right);
  std::byte *weight = weightOf(run.expert);
  void *sum = dtype == plan::F32 ? weight : static_cast<std::byte *>(pointers.scratch);
  return forEachPiece(run, [&](int64_t block, size_t power) {
    int64_t row = block * gemm.block_rows();
    const std::vector<GemmPrimitive> &kind = isFirst ? primitives : adding;
    isFirst = false;
    return kind[power].runAt(left + row * gemm.left() * elements, right + row * gemm.right() * elements, sum);
  });
}

Status GroupedGemm::run() const {
  for (int64_t block = 0; block < gemm.blocks(); ++block)
    if (pointers.blockExpert[block] >= gemm.experts())
      return error("a product of grouped rows reads a weight beyond the last", {},
                   "a block is of expert " + std::to_string(pointers.blockExpert[block]) + " of " +
                       std::to_string(gemm.experts()));
  if (!gemm.weight_grad()) {
    for (int64_t block = 0; block < gemm.blocks();) {
      Run run = runAt(block);
      if (Status status = multiply(run); !status)
        return status;
      block = run.end;
    }
    return {};
  }
  auto elements = static_cast<int64_t>(weightElements(gemm));
  auto bytes = elements * static_cast<int64_t>(elementBytes(dtype));
  for (int64_t expert = 0; expert < gemm.experts(); ++expert) {
    bool isFirst = true;
    for (int64_t block = 0; block < gemm.blocks();) {
      Run run = runAt(block);
      block = run.end;
      if (run.expert != expert)
        continue;
      if (Status status = addUp(run, isFirst); !status)
        return status;
      isFirst = false;
    }
    std::byte *weight = weightOf(expert);
    if (isFirst)
      pool.parallelFor(bytes, kBytesPerThread, [weight](int64_t begin, int64_t end, int) {
        std::memset(weight + begin, 0, static_cast<size_t>(end - begin));
      });
    else if (dtype != plan::F32)
      pool.parallelFor(elements, kBytesPerThread, [this, weight](int64_t begin, int64_t end, int) {
        const auto *sum = static_cast<const float *>(pointers.scratch);
        auto *rounded = reinterpret_cast<uint16_t *>(weight);
        for (int64_t i = begin; i < end; ++i)
          rounded[i] = toBf16(sum[i]);
      });
  }
  return {};
}

} // namespace moe::cpu
