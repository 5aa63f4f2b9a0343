//===- ScatterAdd.cpp ---------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Scratch: head[V], next[N]. Threads push the rows of each table row on a list; in which order they arrive is chance,
// so that a list is sorted before it is used. A list too long to be sorted is not walked at all: the block looks for
// its rows in the whole index, which takes N loads, but at most N / kLongest rows of the table can be so popular.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/ScatterAdd.h"

#include "runtime/cuda/kernels/Gpu.h"

namespace moe::cuda {
namespace {

using namespace gpu;

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / warpSize;
/// Columns of a block, some for each thread.
constexpr uint32_t kColumnsPerThread = 4;
constexpr uint32_t kColumns = kThreads * kColumnsPerThread;
/// Longest list that is walked, by one thread while the others wait.
constexpr uint32_t kLongest = 64;
/// Rows that are loaded before the first of them is added.
constexpr uint32_t kAhead = 4;

template <typename Index> struct Arguments {
  const Index *index;
  const float *rows;
  float *table;
  int32_t *head, *next, *outside;
  int64_t count, width, tableRows;
  bool accumulate;
};

template <typename Index> MOE_KERNEL(kThreads) void scatterClear(Arguments<Index> a) {
  const int64_t row = int64_t{blockIndex()} * kThreads + threadIndex();
  if (row < a.tableRows)
    a.head[row] = -1;
}

template <typename Index> MOE_KERNEL(kThreads) void scatterLink(Arguments<Index> a) {
  const int64_t i = int64_t{blockIndex()} * kThreads + threadIndex();
  if (i >= a.count)
    return;
  const int64_t row = int64_t{a.index[i]};
  if (row >= a.tableRows) {
    if (a.outside)
      atomicAdd(a.outside, 1);
  } else if (row >= 0) {
    a.next[i] = atomicExchange(a.head + row, static_cast<int32_t>(i));
  }
}

struct SumShared {
  int32_t found[kThreads]; ///< rows to be added, in order
  int32_t list[kLongest];  ///< the same before sorting
  int32_t warpCount[kWarps];
  int32_t count; ///< of the list; more than kLongest: not walked to its end
};

/// Adds rows found[0, count) to the thread's columns, from `column` on in steps of kThreads.
MOE_DEVICE void addRows(const float *rows, int64_t width, int64_t column, const int32_t *found, int32_t count,
                        float (&sum)[kColumnsPerThread]) {
  for (int32_t at = 0; at < count; at += kAhead) {
    float values[kAhead][kColumnsPerThread];
    MOE_UNROLL
    for (uint32_t ahead = 0; ahead < kAhead; ++ahead) {
      const float *row = rows + int64_t{found[smaller(at + static_cast<int32_t>(ahead), count - 1)]} * width;
      MOE_UNROLL
      for (uint32_t c = 0; c < kColumnsPerThread; ++c)
        values[ahead][c] = column + c * kThreads < width ? row[column + c * kThreads] : 0.0f;
    }
    MOE_UNROLL
    for (uint32_t ahead = 0; ahead < kAhead; ++ahead)
      if (at + static_cast<int32_t>(ahead) < count)
        MOE_UNROLL
    for (uint32_t c = 0; c < kColumnsPerThread; ++c)
      sum[c] += values[ahead][c];
  }
}

template <typename Index> MOE_KERNEL(kThreads) void scatterSum(Arguments<Index> a) {
  auto &shared = *sharedMemory<SumShared>();
  const uint32_t thread = threadIndex();
  const auto chunks = static_cast<uint32_t>(divideUp(a.width, int64_t{kColumns}));
  const int64_t row = blockIndex() / chunks, column = int64_t{blockIndex() % chunks} * kColumns + thread;

  const int32_t first = a.head[row];
  if (first < 0 && a.accumulate)
    return; // all threads of the block

  float sum[kColumnsPerThread];
  MOE_UNROLL
  for (uint32_t c = 0; c < kColumnsPerThread; ++c)
    sum[c] = a.accumulate && column + c * kThreads < a.width ? a.table[row * a.width + column + c * kThreads] : 0.0f;

  if (thread == 0) {
    uint32_t count = 0;
    for (int32_t i = first; i >= 0; i = a.next[i]) {
      if (count == kLongest) {
        ++count;
        break;
      }
      shared.list[count++] = i;
    }
    shared.count = static_cast<int32_t>(count);
  }
  barrier();
  if (shared.count <= static_cast<int32_t>(kLongest)) {
    const int32_t count = shared.count;
    if (static_cast<int32_t>(thread) < count) {
      int32_t rank = 0;
      for (int32_t i = 0; i < count; ++i)
        rank += shared.list[i] < shared.list[thread];
      shared.found[rank] = shared.list[thread];
    }
    barrier();
    addRows(a.rows, a.width, column, shared.found, count, sum);
  } else {
    for (int64_t begin = 0; begin < a.count; begin += kThreads) {
      const int64_t i = begin + thread;
      const bool mine = i < a.count && int64_t{a.index[i]} == row;
      const uint32_t lanes = warpBallot(mine);
      if (laneIndex() == 0)
        shared.warpCount[warpIndex()] = countBits(lanes);
      barrier();
      int32_t before = 0, count = 0;
      for (uint32_t warp = 0; warp < kWarps; ++warp) {
        before += warp < warpIndex() ? shared.warpCount[warp] : 0;
        count += shared.warpCount[warp];
      }
      if (mine)
        shared.found[before + countBits(lanes & ((1u << laneIndex()) - 1))] = static_cast<int32_t>(i);
      barrier();
      addRows(a.rows, a.width, column, shared.found, count, sum);
    }
  }
  MOE_UNROLL
  for (uint32_t c = 0; c < kColumnsPerThread; ++c)
    if (column + c * kThreads < a.width)
      a.table[row * a.width + column + c * kThreads] = sum[c];
}

template <typename Index>
cudaError_t run(const ScatterAddShape &shape, const ScatterAddPointers &p, cudaStream_t stream) {
  auto *head = static_cast<int32_t *>(p.scratch);
  const Arguments<Index> arguments{.index = static_cast<const Index *>(p.index),
                                   .rows = p.rows,
                                   .table = p.table,
                                   .head = head,
                                   .next = head + shape.tableRows,
                                   .outside = p.outside,
                                   .count = shape.rows,
                                   .width = shape.width,
                                   .tableRows = shape.tableRows,
                                   .accumulate = shape.accumulate};
  const int64_t sums = shape.tableRows * divideUp(shape.width, int64_t{kColumns});
  if (sums > 0x7FFFFFFF || shape.rows > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  cudaError_t error = launch<scatterClear<Index>>({.blocks = blocksFor(shape.tableRows, kThreads), .threads = kThreads},
                                                  stream, arguments);
  if (error == cudaSuccess)
    error =
        launch<scatterLink<Index>>({.blocks = blocksFor(shape.rows, kThreads), .threads = kThreads}, stream, arguments);
  if (error == cudaSuccess)
    error = launch<scatterSum<Index>>(
        {.blocks = static_cast<uint32_t>(sums), .threads = kThreads, .sharedBytes = sizeof(SumShared)}, stream,
        arguments);
  return error;
}

} // namespace

cudaError_t scatterAdd(const ScatterAddShape &shape, const ScatterAddPointers &pointers, cudaStream_t stream) {
  return pointers.index64 ? run<int64_t>(shape, pointers, stream) : run<int32_t>(shape, pointers, stream);
}

} // namespace moe::cuda
