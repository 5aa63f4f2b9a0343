//===- Routing.cpp - Reference semantics of Mixture-of-Experts routing ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The gate follows fairseq's MoE layer step by step (Artetxe et al., arXiv 2112.10684; capacity and auxiliary loss
// after GShard, arXiv 2006.16668), one routing group at a time.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

using namespace mlir;
using namespace moe::ir;

using Operands = ArrayRef<const HostTensor *>;
using Results = MutableArrayRef<HostTensor>;

/// Machine epsilon of float32: keeps denominators of weights and logarithms of the entropy from zero.
static constexpr double epsilon = 1.1920929e-7;

namespace {

/// One routing group of `tokens` tokens.
struct Group {
  int64_t tokens, experts, choices, capacity;
  std::vector<double> logits, probs;              // [tokens, experts]
  std::vector<bool> padding;                      // [tokens]
  std::vector<std::vector<int64_t>> expert, slot; // [choice][token]; slot counts on where capacity ends
  std::vector<std::vector<bool>> routed;          // [choice][token]: neither padding nor rejected
  std::vector<std::vector<double>> weight;        // [choice][token]

  double probOf(int64_t choice, int64_t s) const { return probs[s * experts + expert[choice][s]]; }
  bool kept(int64_t choice, int64_t s) const { return routed[choice][s] && slot[choice][s] < capacity; }
};

} // namespace

static void computeProbs(Group &group) {
  group.probs.resize(group.logits.size());
  for (int64_t s = 0; s < group.tokens; ++s) {
    const double *z = &group.logits[s * group.experts];
    double largest = *std::max_element(z, z + group.experts);
    double sum = 0;
    for (int64_t e = 0; e < group.experts; ++e)
      sum += std::exp(z[e] - largest);
    for (int64_t e = 0; e < group.experts; ++e)
      group.probs[s * group.experts + e] = std::exp(z[e] - largest) / sum;
  }
}

/// Index of the largest of `values`, the lowest index on ties.
static int64_t argmax(ArrayRef<double> values) {
  return std::distance(values.begin(), std::max_element(values.begin(), values.end()));
}

/// `noise` has one number per token and expert (sampling), one per token (random), or none.
static void chooseExperts(Group &group, SecondExpertPolicy policy, ArrayRef<double> noise, bool normalizeBefore) {
  group.expert.assign(group.choices, std::vector<int64_t>(group.tokens));
  group.routed.assign(group.choices, std::vector<bool>(group.tokens, true));
  group.weight.assign(group.choices, std::vector<double>(group.tokens));
  for (int64_t s = 0; s < group.tokens; ++s) {
    group.expert[0][s] = argmax(ArrayRef<double>(group.probs).slice(s * group.experts, group.experts));
    group.weight[0][s] = group.probOf(0, s);
    if (group.choices == 2) {
      std::vector<double> others(&group.logits[s * group.experts], &group.logits[s * group.experts] + group.experts);
      if (policy == SecondExpertPolicy::Sampling)
        for (int64_t e = 0; e < group.experts; ++e)
          others[e] += noise[s * group.experts + e];
      others[group.expert[0][s]] = -std::numeric_limits<double>::infinity();
      group.expert[1][s] = argmax(others);
      group.weight[1][s] = group.probOf(1, s);
      if (normalizeBefore) {
        double sum = std::max(group.weight[0][s] + group.weight[1][s], epsilon);
        group.weight[0][s] /= sum;
        group.weight[1][s] /= sum;
      }
      if (policy == SecondExpertPolicy::Random)
        group.routed[1][s] = 2 * group.weight[1][s] > noise[s];
    }
    if (group.padding[s])
      for (int64_t k = 0; k < group.choices; ++k)
        group.routed[k][s] = false;
  }
}

/// All first choices in order, then all second ones, counted on from the first ones even where those overflow.
static void assignSlots(Group &group, bool batchPrioritized) {
  std::vector<int64_t> order(group.tokens);
  std::iota(order.begin(), order.end(), 0);
  if (batchPrioritized) {
    // Ties keep the order of the tokens.
    auto before = [&](int64_t a, int64_t b) {
      double first = group.probOf(0, a), second = group.probOf(0, b);
      return first != second ? first > second : a < b;
    };
    std::sort(order.begin(), order.end(), before);
  }
  group.slot.assign(group.choices, std::vector<int64_t>(group.tokens, -1));
  std::vector<int64_t> next(group.experts, 0);
  for (int64_t k = 0; k < group.choices; ++k)
    for (int64_t s : order)
      if (group.routed[k][s])
        group.slot[k][s] = next[group.expert[k][s]]++;
}

static void normalizeSurvivors(Group &group, bool normalizeBefore) {
  for (int64_t s = 0; s < group.tokens; ++s) {
    for (int64_t k = 0; k < group.choices; ++k)
      if (!group.kept(k, s))
        group.weight[k][s] = 0;
    if (group.choices == 2 && !normalizeBefore) {
      double sum = std::max(group.weight[0][s] + group.weight[1][s], epsilon);
      group.weight[0][s] /= sum;
      group.weight[1][s] /= sum;
    }
  }
}

static double entropy(const Group &group) {
  double sum = 0;
  for (double p : group.probs)
    sum -= p * std::log(std::clamp(p, epsilon, 1 - epsilon));
  return sum / group.tokens;
}

/// Percentage of the routed choices that found no slot; NaN if none was routed.
static double overflow(const Group &group, int64_t choice) {
  double routed = 0, dropped = 0;
  for (int64_t s = 0; s < group.tokens; ++s)
    if (group.routed[choice][s]) {
      routed += 1;
      dropped += group.slot[choice][s] >= group.capacity;
    }
  return 100 * dropped / routed;
}

/// Shares of the busiest and of the idlest fifth of the experts in percent, and the number of experts nobody chose.
static std::array<double, 3> balance(const Group &group, int64_t choice) {
  std::vector<double> share(group.experts, 0);
  for (int64_t s = 0; s < group.tokens; ++s)
    share[group.expert[choice][s]] += 1;
  double unused = std::count(share.begin(), share.end(), 0.0);
  for (double &percent : share)
    percent = 100 * percent / group.tokens + std::numeric_limits<float>::min();
  std::sort(share.begin(), share.end(), std::greater<double>());
  int64_t fifth = std::max<int64_t>((group.experts + 4) / 5, 1);
  return {std::accumulate(share.begin(), share.begin() + fifth, 0.0),
          std::accumulate(share.end() - fifth, share.end(), 0.0), unused};
}

LogicalResult RouteOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &logits = *operands[0];
  const HostTensor *mask = getMask() ? operands[1] : nullptr;
  const HostTensor *noise = getNoise() ? operands[getMask() ? 2 : 1] : nullptr;
  int64_t groups = logits.shape[0], tokens = logits.shape[1], experts = logits.shape[2];
  int64_t choices = getTopK(), capacity = getCapacity();
  std::fill(results[3].ints.begin(), results[3].ints.end(), -1);

  for (int64_t g = 0; g < groups; ++g) {
    Group group{tokens, experts, choices, capacity, {}, {}, std::vector<bool>(tokens, false), {}, {}, {}, {}};
    group.logits.assign(&logits.floats[g * tokens * experts], &logits.floats[g * tokens * experts] + tokens * experts);
    for (int64_t s = 0; mask && s < tokens; ++s)
      group.padding[s] = mask->ints[g * tokens + s];
    ArrayRef<double> groupNoise;
    if (noise)
      groupNoise = ArrayRef<double>(noise->floats).slice(g * noise->size() / groups, noise->size() / groups);
    computeProbs(group);
    chooseExperts(group, getPolicy(), groupNoise, getNormalizeBeforeDropping());
    assignSlots(group, getBatchPrioritized());
    normalizeSurvivors(group, getNormalizeBeforeDropping());

    for (int64_t s = 0; s < tokens; ++s)
      for (int64_t k = 0; k < choices; ++k) {
        int64_t at = (g * tokens + s) * choices + k;
        results[0].ints[at] = group.expert[k][s];
        results[1].ints[at] = group.kept(k, s) ? group.slot[k][s] : -1;
        results[2].floats[at] = group.weight[k][s];
        if (group.kept(k, s))
          results[3].ints[(group.expert[k][s] * groups + g) * capacity + group.slot[k][s]] = s * choices + k;
      }

    double aux = 0;
    for (int64_t e = 0; e < experts; ++e) {
      double meanProb = 0, firstFraction = 0;
      for (int64_t s = 0; s < tokens; ++s) {
        meanProb += group.probs[s * experts + e] / tokens;
        firstFraction += group.routed[0][s] && group.expert[0][s] == e;
      }
      firstFraction /= tokens;
      aux += experts * meanProb * firstFraction;
      results[6].floats[g * experts + e] = firstFraction;
    }
    results[4].floats[g] = aux;
    std::copy(group.probs.begin(), group.probs.end(), results[5].floats.begin() + g * tokens * experts);

    // The top-1 gate reports neither overflow nor second choices.
    double *metrics = &results[7].floats[g * 9];
    std::array<double, 3> first = balance(group, 0);
    metrics[0] = entropy(group);
    std::copy(first.begin(), first.end(), metrics + 3);
    if (choices == 2) {
      metrics[1] = overflow(group, 0);
      metrics[2] = overflow(group, 1);
      std::array<double, 3> second = balance(group, 1);
      std::copy(second.begin(), second.end(), metrics + 6);
    }
  }
  return success();
}

/// Indices of experts and slots, which may come from anywhere, must lie inside of rows [E,G,C,M].
static LogicalResult checkChoices(Operation *op, const HostTensor &expert, const HostTensor &slot, int64_t experts,
                                  int64_t capacity) {
  for (int64_t i = 0; i < slot.size(); ++i) {
    if (slot.ints[i] >= capacity)
      return op->emitOpError() << "reads slot " << slot.ints[i] << " of " << capacity;
    if (expert.ints[i] < 0 || expert.ints[i] >= experts)
      return op->emitOpError() << "reads expert " << expert.ints[i] << " of " << experts;
  }
  return success();
}

/// Adds the gradient that reaches the probabilities of one token through the weights of its two choices.
///
/// After dropping, w_k = p_k / d with d = max(sum of the surviving p, eps): dp_k = (dw_k - sum_j w_j dw_j) / d, so that
/// a single survivor gets nothing. Before dropping, d holds both probabilities and only the dw of survivors count.
static void addWeightGradient(const double *prob, const bool *kept, const double *weightGrad, bool normalizeBefore,
                              double *probGrad) {
  double sum = 0;
  for (int k = 0; k < 2; ++k)
    if (kept[k] || normalizeBefore)
      sum += prob[k];
  double denominator = std::max(sum, epsilon);
  double inner = 0;
  for (int k = 0; k < 2; ++k)
    if (kept[k] && sum >= epsilon)
      inner += prob[k] / denominator * weightGrad[k];
  for (int k = 0; k < 2; ++k)
    if (kept[k] || normalizeBefore)
      probGrad[k] += ((kept[k] ? weightGrad[k] : 0) - inner) / denominator;
}

LogicalResult RouteBackwardOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &weightGrad = *operands[0], &auxGrad = *operands[1], &probs = *operands[2], &expert = *operands[3];
  const HostTensor &slot = *operands[4], &firstFraction = *operands[5];
  int64_t groups = probs.shape[0], tokens = probs.shape[1], experts = probs.shape[2], choices = expert.shape[2];
  if (failed(checkChoices(*this, expert, slot, experts, std::numeric_limits<int64_t>::max())))
    return failure();
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t s = 0; s < tokens; ++s) {
      const double *p = &probs.floats[(g * tokens + s) * experts];
      int64_t at = (g * tokens + s) * choices;
      // The auxiliary loss: aux = E sum_e mean_s p[s,e] first[e], where first is constant.
      std::vector<double> probGrad(experts);
      for (int64_t e = 0; e < experts; ++e)
        probGrad[e] = auxGrad.floats[g] * experts / tokens * firstFraction.floats[g * experts + e];
      if (choices == 1) {
        if (slot.ints[at] >= 0)
          probGrad[expert.ints[at]] += weightGrad.floats[at];
      } else {
        double chosen[2], chosenGrad[2] = {0, 0};
        bool kept[2];
        for (int k = 0; k < 2; ++k) {
          chosen[k] = p[expert.ints[at + k]];
          kept[k] = slot.ints[at + k] >= 0;
        }
        addWeightGradient(chosen, kept, &weightGrad.floats[at], getNormalizeBeforeDropping(), chosenGrad);
        for (int k = 0; k < 2; ++k)
          probGrad[expert.ints[at + k]] += chosenGrad[k];
      }
      // Softmax: dz_j = p_j (dp_j - sum_e p_e dp_e).
      double inner = 0;
      for (int64_t e = 0; e < experts; ++e)
        inner += p[e] * probGrad[e];
      for (int64_t e = 0; e < experts; ++e)
        results[0].floats[(g * tokens + s) * experts + e] = p[e] * (probGrad[e] - inner);
    }
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Dispatch and combine
//===----------------------------------------------------------------------------------------------------------------===//

/// First element of the row of rows[E,G,C,M] that choice k of token s of group g occupies.
static int64_t rowAt(const HostTensor &rows, int64_t expert, int64_t group, int64_t slot) {
  return ((expert * rows.shape[1] + group) * rows.shape[2] + slot) * rows.shape[3];
}

LogicalResult DispatchOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0], &token = *operands[3];
  const HostTensor *weight = getWeight() ? operands[4] : nullptr;
  HostTensor &rows = results[0];
  int64_t tokens = input.shape[1], width = input.shape[2], choices = operands[1]->shape[2];
  for (int64_t e = 0; e < rows.shape[0]; ++e)
    for (int64_t g = 0; g < rows.shape[1]; ++g)
      for (int64_t c = 0; c < rows.shape[2]; ++c) {
        int64_t choice = token.ints[(e * rows.shape[1] + g) * rows.shape[2] + c];
        if (choice < 0)
          continue;
        if (choice >= tokens * choices)
          return emitOpError() << "reads choice " << choice << " of " << tokens * choices;
        double factor = weight ? weight->floats[g * tokens * choices + choice] : 1;
        for (int64_t m = 0; m < width; ++m)
          rows.floats[rowAt(rows, e, g, c) + m] = factor * input.floats[(g * tokens + choice / choices) * width + m];
      }
  return success();
}

/// Calls `visit(choice, token, row)` for the choices [G,S,K] that have a slot, in order: the number of the choice, that
/// of its token in [G,S], and the place of its first element in `rows` [E,G,C,M].
template <typename Visit>
static LogicalResult forEachKept(Operation *op, const HostTensor &rows, const HostTensor &expert,
                                 const HostTensor &slot, Visit visit) {
  int64_t tokens = expert.shape[1], choices = expert.shape[2];
  if (failed(checkChoices(op, expert, slot, rows.shape[0], rows.shape[2])))
    return failure();
  for (int64_t i = 0; i < expert.size(); ++i)
    if (slot.ints[i] >= 0)
      visit(i, i / choices, rowAt(rows, expert.ints[i], i / (tokens * choices), slot.ints[i]));
  return success();
}

LogicalResult CombineOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &rows = *operands[0], &expert = *operands[1], &slot = *operands[2];
  const HostTensor *weight = getWeight() ? operands[4] : nullptr;
  int64_t width = rows.shape[3];
  return forEachKept(*this, rows, expert, slot, [&](int64_t choice, int64_t token, int64_t row) {
    for (int64_t m = 0; m < width; ++m)
      results[0].floats[token * width + m] += (weight ? weight->floats[choice] : 1) * rows.floats[row + m];
  });
}

LogicalResult RoutedDotOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0], &rows = *operands[1], &expert = *operands[2], &slot = *operands[3];
  int64_t width = rows.shape[3];
  return forEachKept(*this, rows, expert, slot, [&](int64_t choice, int64_t token, int64_t row) {
    for (int64_t m = 0; m < width; ++m)
      results[0].floats[choice] += input.floats[token * width + m] * rows.floats[row + m];
  });
}
