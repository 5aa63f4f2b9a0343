//===- AttentionForward.cpp ---------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/kernels/AttentionBf16.h"
#include "runtime/cuda/kernels/AttentionHead.h"

namespace moe::cuda {
namespace {

using namespace gpu;

struct Arguments {
  AttentionShape shape;
  AttentionForwardPointers p;
  Dropout dropout;
  uint32_t tiles, chunks; ///< of queries; of `width` columns of the output
};

/// A block has 64 queries of a head, and `width` columns of their output. With more than one chunk of columns scores
/// are computed for each of them again.
template <typename T, int width, bool capped>
MOE_KERNEL_SHARING(kAttentionThreads, width <= (capped ? 32 : 64) ? 2 : 1)
void attention(Arguments a) {
  const AttentionShape &shape = a.shape;
  auto &shared = *sharedMemory<TileShared<width>>();
  const auto firstColumn = static_cast<int>(blockIndex() % a.chunks) * width;
  const auto [firstQuery, sequence, head] = QueryTile(shape, blockIndex() / a.chunks, a.tiles);
  const AttentionHead<T> of(shape, sequence, head);
  const Rows<T> queries = of.ofQueries(a.p.q, firstQuery);
  const uint8_t *padding = paddingOf(a.p.padding, shape, sequence);
  const HeadDropout dropout(shape, a.dropout, a.p.rng, sequence, head);
  const ScoreScale<capped> scale(shape);
  const Band band(shape);
  const Sink<T> sink(a.p.sinks, head);
  const int x = tileX(), y = tileY();

  float largest[kEach], total[kEach], sums[kEach][Columns<width>::each];
  MOE_UNROLL
  for (int i = 0; i < kEach; ++i) {
    largest[i] = sink.largest;
    total[i] = sink.total;
    MOE_UNROLL
    for (float &sum : sums[i])
      sum = 0.0f;
  }
  const int64_t end = keyEnd(shape, firstQuery + queries.count - 1);
  for (int64_t firstKey = keyBegin(shape, firstQuery); firstKey < end; firstKey += kTile) {
    if (!loadVisible(shared.visible, padding, firstKey, end)) {
      barrier();
      continue;
    }
    float scores[kEach][kEach];
    multiplyTiles(shared, queries, of.ofKeys(a.p.k, firstKey, end), scores);
    MOE_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int64_t query = firstQuery + y + kSide * i;
      bool seen[kEach];
      float now = largest[i];
      MOE_UNROLL
      for (int j = 0; j < kEach; ++j) {
        const int column = x + kSide * j;
        seen[j] = isVisible(shared.visible, column) && band.sees(query, firstKey + column);
        scores[i][j] = seen[j] ? scale.score(scores[i][j]) : kHidden;
        now = larger(now, scores[i][j]);
      }
      now = rowLargest(now);
      float sum = 0.0f;
      MOE_UNROLL
      for (int j = 0; j < kEach; ++j) {
        const float weight = seen[j] ? std::exp2(scores[i][j] - now) : 0.0f;
        sum += weight;
        shared.weights[y + kSide * i][x + kSide * j] =
            weight == 0.0f ? 0.0f : weight * dropout.factor(query, firstKey + x + kSide * j);
      }
      const float rescale = std::exp2(largest[i] - now);
      largest[i] = now;
      total[i] = multiplyAdd(total[i], rescale, rowSum(sum));
      MOE_UNROLL
      for (float &value : sums[i])
        value *= rescale;
    }
    addWeighted(shared, of.ofKeys(a.p.v, firstKey, end), firstColumn, sums);
  }

  MOE_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int64_t row = y + kSide * i;
    if (row >= queries.count)
      continue;
    const bool empty = total[i] == 0.0f; // sees no key: the largest of those it sees weighs 1
    if (firstColumn == 0 && x == 0)
      a.p.lse[of.rowAt + firstQuery + row] =
          empty ? -INFINITY : float((double(largest[i]) + double(std::log2(total[i]))) * kLn2);
    const float factor = empty ? 0.0f : 1.0f / total[i];
    MOE_UNROLL
    for (int n = 0; n < Columns<width>::each; ++n) {
      const int64_t column = firstColumn + Columns<width>::of(n);
      if (column < shape.headDim)
        fromFloat(sums[i][n] * factor, static_cast<T *>(a.p.out)[of.at + (firstQuery + row) * of.stride + column]);
    }
  }
}

template <typename T, int width, bool capped>
cudaError_t run(const AttentionShape &shape, const AttentionForwardPointers &p, cudaStream_t stream) {
  const int64_t tiles = divideUp(shape.queries, kTile), chunks = divideUp(shape.headDim, int64_t{width});
  const int64_t blocks = shape.batch * shape.heads * tiles * chunks;
  if (blocks > 0x7FFFFFFF)
    return cudaErrorInvalidValue;
  return launch<attention<T, width, capped>>(
      {.blocks = static_cast<uint32_t>(blocks), .threads = kAttentionThreads, .sharedBytes = sizeof(TileShared<width>)},
      stream, Arguments{shape, p, dropoutOf(shape), static_cast<uint32_t>(tiles), static_cast<uint32_t>(chunks)});
}

template <typename T>
cudaError_t runElement(const AttentionShape &shape, const AttentionForwardPointers &p, cudaStream_t stream) {
  return specialised(shape, [&](auto width, auto capped) { return run<T, width(), capped()>(shape, p, stream); });
}

} // namespace

cudaError_t attentionForward(const AttentionShape &shape, const AttentionForwardPointers &pointers,
                             cudaStream_t stream) {
  if (fitsTensorCores(shape, pointers.q, pointers.k, pointers.v, pointers.out))
    return attentionForwardBf16(shape, pointers, stream);
  return shape.element == Element::Bf16 ? runElement<Bf16>(shape, pointers, stream)
                                        : runElement<float>(shape, pointers, stream);
}

} // namespace moe::cuda
