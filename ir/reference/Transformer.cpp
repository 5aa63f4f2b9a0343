//===- Transformer.cpp - Reference semantics of coarse transformer operations -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "ir/reference/Philox.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

using namespace mlir;
using namespace moe::ir;

using Operands = ArrayRef<const HostTensor *>;
using Results = MutableArrayRef<HostTensor>;

/// ln sum_i e^row[i] without overflow.
static double logSumExp(ArrayRef<double> row) {
  double largest = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (double x : row)
    sum += std::exp(x - largest);
  return largest + std::log(sum);
}

LogicalResult SoftmaxOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0];
  int64_t width = input.shape.back();
  for (int64_t start = 0; start < input.size(); start += width) {
    ArrayRef<double> row = ArrayRef<double>(input.floats).slice(start, width);
    double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (double x : row)
      sum += std::exp(x - largest);
    for (int64_t i = 0; i < width; ++i)
      results[0].floats[start + i] = std::exp(row[i] - largest) / sum;
  }
  return success();
}

LogicalResult LayerNormOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0], &scale = *operands[1], &bias = *operands[2];
  double epsilon = getEpsilon().convertToDouble();
  int64_t width = input.shape.back();
  for (int64_t r = 0; r < input.size() / width; ++r) {
    ArrayRef<double> row = ArrayRef<double>(input.floats).slice(r * width, width);
    double mean = 0, variance = 0;
    for (double x : row)
      mean += x / width;
    for (double x : row)
      variance += (x - mean) * (x - mean) / width;
    double rstd = 1 / std::sqrt(variance + epsilon);
    for (int64_t i = 0; i < width; ++i)
      results[0].floats[r * width + i] = (row[i] - mean) * rstd * scale.floats[i] + bias.floats[i];
    results[1].floats[r] = mean;
    results[2].floats[r] = rstd;
  }
  return success();
}

LogicalResult RmsNormOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0], &scale = *operands[1];
  double epsilon = getEpsilon().convertToDouble();
  int64_t width = input.shape.back();
  for (int64_t r = 0; r < input.size() / width; ++r) {
    ArrayRef<double> row = ArrayRef<double>(input.floats).slice(r * width, width);
    double square = 0;
    for (double x : row)
      square += x * x / width;
    double rstd = 1 / std::sqrt(square + epsilon);
    for (int64_t i = 0; i < width; ++i)
      results[0].floats[r * width + i] = row[i] * rstd * scale.floats[i];
    results[1].floats[r] = rstd;
  }
  return success();
}

LogicalResult SoftmaxCrossEntropyOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &logits = *operands[0], &labels = *operands[1];
  int64_t width = logits.shape.back();
  int64_t ignored = static_cast<int64_t>(getIgnoreIndex());
  for (int64_t r = 0; r < labels.size(); ++r) {
    ArrayRef<double> row = ArrayRef<double>(logits.floats).slice(r * width, width);
    double lse = logSumExp(row);
    int64_t label = labels.ints[r];
    if (label != ignored && (label < 0 || label >= width))
      return emitOpError() << "label " << label << " of row " << r << " is outside of the " << width << " classes";
    results[0].floats[r] = label == ignored ? 0 : lse - row[label];
    results[1].floats[r] = lse;
  }
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------------------------------------------------===//

namespace {

/// Sizes, attributes and index arithmetic that attention and its gradient share.
struct Attention {
  int64_t batch, queries, heads, width, keys, keyHeads;
  double scale, rate;
  bool causal;
  uint64_t seed, site;
  const HostTensor *padding = nullptr;
  const HostTensor *rng = nullptr;
  double softcap;
  int64_t window;
  // Of the forward operation alone.
  const HostTensor *bias = nullptr;
  ArrayRef<int64_t> biasDims;

  // Of the weights [B,H,T,S] that random numbers are drawn for: sequences and heads of the whole tensor, and the first
  // ones here.
  int64_t wholeBatch, wholeHeads, firstSequence, firstHead;

  template <typename Op>
  Attention(InterpreterContext &context, Op op, const HostTensor &query, const HostTensor &key)
      : batch(query.shape[0]), queries(query.shape[1]), heads(query.shape[2]), width(query.shape[3]),
        keys(key.shape[1]), keyHeads(key.shape[2]), scale(op.getScale().convertToDouble()),
        rate(op.getRate().convertToDouble()), causal(op.getCausal()), seed(op.getSeed()), site(op.getSite()),
        softcap(op.getSoftcap().convertToDouble()), window(static_cast<int64_t>(op.getWindow())) {
    Place place = placeOf(context, op, op->getResult(0));
    wholeBatch = place.whole[0];
    wholeHeads = place.whole[2];
    firstSequence = place.offset[0];
    firstHead = place.offset[2];
  }

  int64_t queryAt(int64_t b, int64_t t, int64_t h) const { return ((b * queries + t) * heads + h) * width; }
  int64_t keyAt(int64_t b, int64_t s, int64_t h) const {
    return ((b * keys + s) * keyHeads + h / (heads / keyHeads)) * width;
  }
  int64_t lseAt(int64_t b, int64_t t, int64_t h) const { return (b * heads + h) * queries + t; }
  bool sees(int64_t b, int64_t t, int64_t s) const {
    int64_t ahead = t + keys - queries;
    return (!causal || s <= ahead) && (window == 0 || s > ahead - window) && !(padding && padding->ints[b * keys + s]);
  }

  /// What dropout multiplies the softmax weight by.
  double kept(int64_t b, int64_t t, int64_t h, int64_t s) const {
    if (!rng || rate == 0)
      return 1;
    int64_t index = (((firstSequence + b) * wholeHeads + firstHead + h) * queries + t) * keys + s;
    double uniform =
        uniformNumber(seed, site, rng->ints[0], rng->ints[1], wholeBatch * wholeHeads * queries * keys, index);
    return uniform < rate ? 0 : 1 / (1 - rate);
  }

  double score(const HostTensor &query, const HostTensor &key, int64_t b, int64_t t, int64_t h, int64_t s) const {
    double sum = 0;
    for (int64_t d = 0; d < width; ++d)
      sum += query.floats[queryAt(b, t, h) + d] * key.floats[keyAt(b, s, h) + d];
    sum *= scale;
    return (softcap > 0 ? softcap * std::tanh(sum / softcap) : sum) + biasAt({b, h, t, s});
  }

  /// Of an index of [B,H,T,S].
  double biasAt(std::array<int64_t, 4> index) const {
    if (!bias)
      return 0;
    int64_t at = 0;
    for (size_t i = 0; i < biasDims.size(); ++i)
      at = at * bias->shape[i] + index[biasDims[i]];
    return bias->floats[at];
  }

  template <typename Function> void forEachRow(Function function) const {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t t = 0; t < queries; ++t)
        for (int64_t h = 0; h < heads; ++h)
          function(b, t, h);
  }
};

} // namespace

LogicalResult AttentionOp::interpret(InterpreterContext &context, Operands operands, Results results) {
  const HostTensor &query = *operands[0], &key = *operands[1], &value = *operands[2];
  Attention shape(context, *this, query, key);
  auto optional = [&](unsigned operand) -> const HostTensor * {
    auto [index, length] = getODSOperandIndexAndLength(operand);
    return length > 0 ? operands[index] : nullptr;
  };
  shape.padding = optional(3);
  shape.rng = optional(4);
  shape.bias = optional(5);
  shape.biasDims = getBiasDims();
  const HostTensor *sinks = optional(6);
  shape.forEachRow([&](int64_t b, int64_t t, int64_t h) {
    std::vector<double> scores;
    std::vector<int64_t> seen;
    for (int64_t s = 0; s < shape.keys; ++s) {
      if (!shape.sees(b, t, s))
        continue;
      double score = shape.score(query, key, b, t, h, s);
      if (score == -std::numeric_limits<double>::infinity())
        continue;
      seen.push_back(s);
      scores.push_back(score);
    }
    if (sinks)
      scores.push_back(sinks->floats[h]);
    // Not by way of lse: beside a bias of -1e38 the logarithm of the sum is nothing.
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (double score : scores)
      largest = std::max(largest, score);
    for (double score : scores)
      sum += std::exp(score - largest);
    results[1].floats[shape.lseAt(b, t, h)] = largest + std::log(sum);
    for (size_t i = 0; i < seen.size(); ++i) {
      int64_t s = seen[i];
      double weight = std::exp(scores[i] - largest) / sum * shape.kept(b, t, h, s);
      for (int64_t d = 0; d < shape.width; ++d)
        results[0].floats[shape.queryAt(b, t, h) + d] += weight * value.floats[shape.keyAt(b, s, h) + d];
    }
  });
  return success();
}

LogicalResult AttentionBackwardOp::interpret(InterpreterContext &context, Operands operands, Results results) {
  const HostTensor &resultGrad = *operands[0], &query = *operands[1], &key = *operands[2], &value = *operands[3];
  const HostTensor &result = *operands[4], &lse = *operands[5];
  Attention shape(context, *this, query, key);
  shape.padding = getPadding() ? operands[6] : nullptr;
  shape.rng = getRng() ? operands[getPadding() ? 7 : 6] : nullptr;
  shape.forEachRow([&](int64_t b, int64_t t, int64_t h) {
    int64_t at = shape.queryAt(b, t, h);
    double inner = 0; // sum_s weight[s] * its gradient
    for (int64_t d = 0; d < shape.width; ++d)
      inner += resultGrad.floats[at + d] * result.floats[at + d];
    for (int64_t s = 0; s < shape.keys; ++s) {
      if (!shape.sees(b, t, s))
        continue;
      int64_t keyAt = shape.keyAt(b, s, h);
      double score = shape.score(query, key, b, t, h, s);
      double probability = std::exp(score - lse.floats[shape.lseAt(b, t, h)]);
      double kept = shape.kept(b, t, h, s);
      double weightGrad = 0;
      for (int64_t d = 0; d < shape.width; ++d) {
        weightGrad += resultGrad.floats[at + d] * value.floats[keyAt + d];
        results[2].floats[keyAt + d] += probability * kept * resultGrad.floats[at + d];
      }
      double scoreGrad = shape.scale * probability * (weightGrad * kept - inner);
      if (shape.softcap > 0) // the derivative of tanh
        scoreGrad *= 1 - (score / shape.softcap) * (score / shape.softcap);
      for (int64_t d = 0; d < shape.width; ++d) {
        results[0].floats[at + d] += scoreGrad * key.floats[keyAt + d];
        results[1].floats[keyAt + d] += scoreGrad * query.floats[at + d];
      }
    }
  });
  return success();
}
