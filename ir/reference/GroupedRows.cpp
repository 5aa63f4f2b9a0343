//===- GroupedRows.cpp - Reference semantics of rows in blocks of one expert --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include <algorithm>

using namespace mlir;
using namespace moe::ir;

using Operands = ArrayRef<const HostTensor *>;
using Results = MutableArrayRef<HostTensor>;

/// Experts, which may come from anywhere, must be below their number.
static LogicalResult checkExperts(Operation *op, const HostTensor &expert, int64_t experts) {
  for (int64_t e : expert.ints)
    if (e >= experts)
      return op->emitOpError() << "reads expert " << e << " of " << experts;
  return success();
}

LogicalResult GroupRowsOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &expert = *operands[0];
  HostTensor &slot = results[0], &token = results[1], &blockExpert = results[2];
  auto experts = static_cast<int64_t>(getExperts()), block = static_cast<int64_t>(getBlock());
  if (failed(checkExperts(*this, expert, experts)))
    return failure();
  int64_t groups = expert.shape[0], choices = expert.shape[1] * expert.shape[2];
  int64_t blocks = blockExpert.shape[1], rows = blocks * block;
  auto parts = static_cast<int64_t>(getParts());
  std::fill(slot.ints.begin(), slot.ints.end(), -1);
  std::fill(token.ints.begin(), token.ints.end(), -1);
  std::fill(blockExpert.ints.begin(), blockExpert.ints.end(), -1);
  for (int64_t g = 0; g < groups; ++g) {
    int64_t row = 0;
    for (int64_t e = 0; e < experts; ++e) {
      const int64_t inPart = e % (experts / parts);
      row = inPart == 0 ? e / (experts / parts) * (rows / parts) : (row + block - 1) / block * block;
      for (int64_t i = 0; i < choices; ++i)
        if (expert.ints[g * choices + i] == e) {
          slot.ints[g * choices + i] = row;
          token.ints[g * rows + row] = i;
          blockExpert.ints[g * blocks + row / block] = inPart;
          ++row;
        }
    }
  }
  return success();
}

/// The expert of a block, counted in all weights that are there, or -1. `partExperts` of these belong to each part.
static int64_t expertOf(const HostTensor &blockExpert, int64_t block, int64_t all, int64_t partExperts) {
  const int64_t parts = partExperts == 0 ? 1 : all / partExperts, blocks = blockExpert.shape[1];
  const int64_t e = blockExpert.ints[block], part = block % blocks / (blocks / parts);
  return e < 0 ? e : part * (all / parts) + e;
}

LogicalResult GroupedDotOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &rows = *operands[0], &blockExpert = *operands[1];
  auto partExperts = static_cast<int64_t>(getPartExperts());
  if (failed(checkExperts(*this, blockExpert, partExperts == 0 ? experts() : partExperts)))
    return failure();
  int64_t inner = rows.shape[2], width = results[0].shape[2], block = rows.shape[1] / blockExpert.shape[1];
  for (int64_t r = 0; r < rows.shape[0] * rows.shape[1]; ++r) {
    int64_t e = expertOf(blockExpert, r / block, experts(), partExperts);
    if (e < 0)
      continue;
    const double *weight =
        isSeparate() ? operands[2 + e]->floats.data() : operands[2]->floats.data() + e * inner * width;
    for (int64_t n = 0; n < width; ++n) {
      double sum = 0;
      for (int64_t m = 0; m < inner; ++m)
        sum += rows.floats[r * inner + m] * weight[getTransposed() ? n * inner + m : m * width + n];
      results[0].floats[r * width + n] = sum;
    }
  }
  return success();
}

LogicalResult GroupedDotWeightGradOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &lhs = *operands[0], &rhs = *operands[1], &blockExpert = *operands[2];
  auto experts = static_cast<int64_t>(getExperts()), partExperts = static_cast<int64_t>(getPartExperts());
  if (failed(checkExperts(*this, blockExpert, partExperts == 0 ? experts : partExperts)))
    return failure();
  int64_t m = lhs.shape[2], n = rhs.shape[2], block = lhs.shape[1] / blockExpert.shape[1];
  for (int64_t r = 0; r < lhs.shape[0] * lhs.shape[1]; ++r) {
    int64_t e = expertOf(blockExpert, r / block, experts, partExperts);
    if (e < 0)
      continue;
    double *sum = getSeparate() ? results[e].floats.data() : results[0].floats.data() + e * m * n;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        sum[i * n + j] += lhs.floats[r * m + i] * rhs.floats[r * n + j];
  }
  return success();
}
