//===- AttentionReference.cpp -------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/cpu_kernels/AttentionReference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>

namespace moe::test {

using namespace moe::cpu;

double referenceUniform(uint64_t seed, uint64_t site, uint64_t update, uint64_t index) {
  uint64_t z = seed + site * 11400714819323198485u;
  z = (z ^ z >> 30) * 13787848793156543929u;
  z = (z ^ z >> 27) * 10723151780598845931u;
  z ^= z >> 31;
  uint64_t key[2] = {z & 0xFFFFFFFF, z >> 32};
  uint64_t x[4] = {index & 0xFFFFFFFF, index >> 32, update & 0xFFFFFFFF, 0};
  for (uint64_t round = 0; round < 10; ++round) {
    uint64_t left = x[0] * 3528531795u, right = x[2] * 3449720151u;
    uint64_t k0 = (key[0] + round * 2654435769u) & 0xFFFFFFFF, k1 = (key[1] + round * 3144134277u) & 0xFFFFFFFF;
    uint64_t y[4] = {(right >> 32) ^ x[1] ^ k0, right & 0xFFFFFFFF, (left >> 32) ^ x[3] ^ k1, left & 0xFFFFFFFF};
    std::copy(y, y + 4, x);
  }
  return std::floor(double(x[0]) / 256.0) / 16777216.0;
}

AttentionInputs randomInputs(const AttentionShape &shape, uint64_t seed, bool withSinks) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal;
  auto draw = [&](int64_t count) {
    std::vector<double> values(static_cast<size_t>(count));
    for (double &value : values)
      value = shape.bf16 ? toBfloat(normal(generator)) : normal(generator);
    return values;
  };
  const int64_t queries = shape.batch * shape.queries * shape.heads * shape.headDim;
  const int64_t keys = shape.batch * shape.keys * shape.kvHeads * shape.headDim;
  AttentionInputs inputs;
  inputs.q = draw(queries);
  inputs.k = draw(keys);
  inputs.v = draw(keys);
  inputs.dout = draw(queries);
  if (withSinks)
    inputs.sinks = draw(shape.heads);
  return inputs;
}

namespace {

/// Indices and, for one query of one head, its softmax row.
struct Naive {
  const AttentionShape &s;
  const AttentionInputs &in;
  int64_t update, microBatch;

  size_t query(int64_t b, int64_t i, int64_t h) const {
    return static_cast<size_t>(((b * s.queries + i) * s.heads + h) * s.headDim);
  }
  size_t key(int64_t b, int64_t j, int64_t h) const {
    return static_cast<size_t>(((b * s.keys + j) * s.kvHeads + h * s.kvHeads / s.heads) * s.headDim);
  }
  double dot(const std::vector<double> &x, size_t at, const std::vector<double> &y, size_t yAt) const {
    double sum = 0;
    for (size_t d = 0; d < static_cast<size_t>(s.headDim); ++d)
      sum += x[at + d] * y[yAt + d];
    return sum;
  }
  bool visible(int64_t b, int64_t i, int64_t j) const {
    const int64_t last = i + s.keys - s.queries;
    return (!s.causal || j <= last) && (s.window == 0 || j > last - s.window) &&
           (in.padding.empty() || in.padding[static_cast<size_t>(b * s.keys + j)] == 0);
  }

  double fraction(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return std::tanh(double(s.scale) * dot(in.q, query(b, i, h), in.k, key(b, j, h)) / double(s.softcap));
  }
  double score(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return s.softcap > 0 ? double(s.softcap) * fraction(b, h, i, j)
                         : double(s.scale) * dot(in.q, query(b, i, h), in.k, key(b, j, h));
  }
  /// Its derivative by scale <q, k>.
  double slope(int64_t b, int64_t h, int64_t i, int64_t j) const {
    return s.softcap > 0 ? 1 / std::pow(std::cosh(std::atanh(fraction(b, h, i, j))), 2) : 1;
  }

  /// ln sum exp, and the weights.
  double row(int64_t b, int64_t h, int64_t i, std::vector<double> &p) const {
    const double none = -std::numeric_limits<double>::infinity();
    const double sink = in.sinks.empty() ? none : in.sinks[static_cast<size_t>(h)];
    double largest = sink;
    p.assign(static_cast<size_t>(s.keys), 0);
    for (int64_t j = 0; j < s.keys; ++j)
      if (visible(b, i, j))
        largest = std::max(largest, score(b, h, i, j));
    double sum = sink == none ? 0 : std::exp(sink - largest);
    for (int64_t j = 0; j < s.keys; ++j)
      if (visible(b, i, j))
        sum += p[static_cast<size_t>(j)] = std::exp(score(b, h, i, j) - largest);
    if (sum == 0)
      return -std::numeric_limits<double>::infinity();
    for (double &value : p)
      value /= sum;
    return largest + std::log(sum);
  }
  double drop(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (s.dropout == 0)
      return 1;
    uint64_t elements = static_cast<uint64_t>(s.batch * s.heads * s.queries * s.keys);
    uint64_t index = static_cast<uint64_t>(microBatch) * elements +
                     static_cast<uint64_t>(((b * s.heads + h) * s.queries + i) * s.keys + j);
    bool dropped = referenceUniform(s.seed, s.site, static_cast<uint64_t>(update), index) < double(s.dropout);
    return dropped ? 0 : 1 / (1 - double(s.dropout));
  }
};

AttentionOutputs run(const AttentionShape &s, const AttentionInputs &in, int64_t update, int64_t microBatch,
                     bool backward) {
  Naive naive{s, in, update, microBatch};
  AttentionOutputs result;
  result.out.assign(in.q.size(), 0);
  result.lse.assign(static_cast<size_t>(s.batch * s.heads * s.queries), 0);
  result.dq.assign(in.q.size(), 0);
  result.dk.assign(in.k.size(), 0);
  result.dv.assign(in.k.size(), 0);
  const size_t D = static_cast<size_t>(s.headDim), S = static_cast<size_t>(s.keys);
  std::vector<double> p, drop(S), dp(S);
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = 0; i < s.queries; ++i) {
        const size_t q = naive.query(b, i, h);
        result.lse[static_cast<size_t>((b * s.heads + h) * s.queries + i)] = naive.row(b, h, i, p);
        for (size_t j = 0; j < S; ++j) {
          drop[j] = p[j] == 0 ? 0 : naive.drop(b, h, i, int64_t(j));
          for (size_t d = 0; d < D; ++d)
            result.out[q + d] += p[j] * drop[j] * in.v[naive.key(b, int64_t(j), h) + d];
        }
        if (!backward)
          continue;
        double mean = 0;
        for (size_t j = 0; j < S; ++j) {
          dp[j] = drop[j] * naive.dot(in.dout, q, in.v, naive.key(b, int64_t(j), h));
          mean += p[j] * dp[j];
        }
        for (size_t j = 0; j < S; ++j) {
          const size_t k = naive.key(b, int64_t(j), h);
          const double ds = p[j] * (dp[j] - mean) * double(s.scale) * naive.slope(b, h, i, int64_t(j));
          for (size_t d = 0; d < D; ++d) {
            result.dq[q + d] += ds * in.k[k + d];
            result.dk[k + d] += ds * in.q[q + d];
            result.dv[k + d] += p[j] * drop[j] * in.dout[q + d];
          }
        }
      }
  return result;
}

} // namespace

float toBfloat(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value), below = bits & 0xFFFF;
  bits -= below;
  if (below > 0x8000 || (below == 0x8000 && bits & 0x10000))
    bits += 0x10000;
  return std::isnan(value) ? value : std::bit_cast<float>(bits);
}

namespace {

/// A tensor of the type of the shape; NaN where nothing is given.
class Stored {
public:
  Stored(const AttentionShape &shape, size_t count) : narrow(shape.bf16), bytes(count * (narrow ? 2 : 4), 0xFF) {}
  Stored(const AttentionShape &shape, const std::vector<double> &values) : Stored(shape, values.size()) {
    fill(values);
  }
  void fill(const std::vector<double> &values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto bits = std::bit_cast<uint32_t>(static_cast<float>(values[i])), upper = bits >> 16;
      std::memcpy(&bytes[i * (narrow ? 2 : 4)], narrow ? &upper : &bits, narrow ? 2 : 4); // little-endian
    }
  }

  size_t size() const { return bytes.size() / (narrow ? 2 : 4); }
  void *data() { return bytes.data(); }
  const void *data() const { return bytes.data(); }
  void round(float (*rounding)(float)) {
    std::vector<double> rounded(size());
    std::ranges::transform(values(), rounded.begin(), rounding);
    fill(rounded);
  }
  std::vector<float> values() const {
    std::vector<float> result(size());
    for (size_t i = 0; i < result.size(); ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, &bytes[i * (narrow ? 2 : 4)], narrow ? 2 : 4);
      result[i] = std::bit_cast<float>(narrow ? bits << 16 : bits);
    }
    return result;
  }

private:
  bool narrow;
  std::vector<uint8_t> bytes;
};

} // namespace

AttentionOutputs referenceForward(const AttentionShape &shape, const AttentionInputs &inputs, int64_t update,
                                  int64_t microBatch) {
  return run(shape, inputs, update, microBatch, false);
}

AttentionOutputs referenceAttention(const AttentionShape &shape, const AttentionInputs &inputs, int64_t update,
                                    int64_t microBatch) {
  return run(shape, inputs, update, microBatch, true);
}

AttentionResults runKernels(const AttentionShape &shape, const AttentionInputs &inputs, int64_t update,
                            int64_t microBatch, Split split, float (*rounding)(float)) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Stored q(shape, inputs.q), k(shape, inputs.k), v(shape, inputs.v), dout(shape, inputs.dout);
  Stored out(shape, q.size()), dq(shape, q.size()), dk(shape, k.size()), dv(shape, k.size());
  const Stored sinks(shape, inputs.sinks);
  const uint8_t *padding = inputs.padding.empty() ? nullptr : inputs.padding.data();
  const int64_t rng[2] = {update, microBatch};
  AttentionResults result;
  result.lse.assign(static_cast<size_t>(shape.batch * shape.heads * shape.queries), nan);
  const int threads = split == Split::Whole ? 1 : 3;
  for (bool backward : {false, true}) {
    if (backward && rounding)
      out.round(rounding);
    const uint64_t bytes = attentionScratchBytes(shape, threads, backward);
    std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, bytes), &std::free);
    std::fill_n(static_cast<float *>(scratch.get()), bytes / sizeof(float), nan);
    AttentionForwardPointers forward{.q = q.data(),
                                     .k = k.data(),
                                     .v = v.data(),
                                     .padding = padding,
                                     .rng = rng,
                                     .sinks = inputs.sinks.empty() ? nullptr : sinks.data(),
                                     .out = out.data(),
                                     .lse = result.lse.data(),
                                     .scratch = scratch.get()};
    AttentionBackwardPointers back{.dout = dout.data(),
                                   .q = q.data(),
                                   .k = k.data(),
                                   .v = v.data(),
                                   .out = out.data(),
                                   .lse = result.lse.data(),
                                   .padding = padding,
                                   .rng = rng,
                                   .dq = dq.data(),
                                   .dk = dk.data(),
                                   .dv = dv.data(),
                                   .scratch = scratch.get()};
    auto compute = [&](int64_t begin, int64_t end, int thread) {
      if (backward)
        attentionBackward(shape, back, begin, end, thread);
      else
        attentionForward(shape, forward, begin, end, thread);
    };
    const int64_t items = attentionItems(shape, backward);
    if (split == Split::Whole)
      compute(0, items, 0);
    else
      for (int64_t item = items - 1; item >= 0; --item)
        compute(item, item + 1, int(item % threads));
  }
  result.out = out.values();
  result.dq = dq.values();
  result.dk = dk.values();
  result.dv = dv.values();
  return result;
}

double relativeError(const std::vector<float> &a, const std::vector<double> &b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    if (std::isinf(b[i]) && double(a[i]) == b[i])
      continue;
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / (norm == 0 ? double(b.size()) : norm));
}

bool sameBits(const std::vector<float> &a, const std::vector<float> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool sameBits(const AttentionResults &a, const AttentionResults &b) {
  return sameBits(a.out, b.out) && sameBits(a.lse, b.lse) && sameBits(a.dq, b.dq) && sameBits(a.dk, b.dk) &&
         sameBits(a.dv, b.dv);
}

void expectReference(AttentionShape shape, const AttentionInputs &inputs) {
  const AttentionOutputs expected = referenceAttention(shape, inputs, 5, 2);
  for (Isa isa : hostIsas()) {
    shape.isa = isa;
    SCOPED_TRACE(describe(shape));
    const AttentionResults results = runKernels(shape, inputs, 5, 2);
    EXPECT_LE(relativeError(results.out, expected.out), attentionTolerance);
    EXPECT_LE(relativeError(results.lse, expected.lse), attentionTolerance);
    EXPECT_LE(relativeError(results.dq, expected.dq), attentionTolerance);
    EXPECT_LE(relativeError(results.dk, expected.dk), attentionTolerance);
    EXPECT_LE(relativeError(results.dv, expected.dv), attentionTolerance);
  }
}

AttentionShape shapeOf(int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t kvHeads, int64_t headDim,
                       bool causal, float dropout) {
  return {{.batch = batch,
           .heads = heads,
           .kvHeads = kvHeads,
           .queries = queries,
           .keys = keys,
           .headDim = headDim,
           .scale = float(1 / std::sqrt(double(headDim))),
           .causal = causal,
           .dropout = dropout,
           .seed = 0x0123456789ABCDEF,
           .site = 0xFEDCBA9876543210}};
}

std::string describe(const AttentionShape &s) {
  return std::string(name(s.isa)) + " B" + std::to_string(s.batch) + " T" + std::to_string(s.queries) + " S" +
         std::to_string(s.keys) + " H" + std::to_string(s.heads) + "/" + std::to_string(s.kvHeads) + " D" +
         std::to_string(s.headDim) + (s.causal ? " causal" : "") + (s.bf16 ? " bf16" : "") + " dropout " +
         std::to_string(s.dropout) + " window " + std::to_string(s.window) + " softcap " + std::to_string(s.softcap);
}

std::vector<Isa> hostIsas() {
  std::vector<Isa> result;
  for (Isa isa : {Isa::Baseline, Isa::V3, Isa::V4})
    if (isa <= hostIsa())
      result.push_back(isa);
  return result;
}

} // namespace moe::test
