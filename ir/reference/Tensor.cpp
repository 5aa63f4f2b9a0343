//===- Tensor.cpp - Reference semantics of tensor algebra -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/RetypeTensors.h"
#include "ir/reference/Indexing.h"
#include "ir/reference/Interpreter.h"
#include "ir/reference/Philox.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

using namespace mlir;
using namespace moe::ir;

using Operands = ArrayRef<const HostTensor *>;
using Results = MutableArrayRef<HostTensor>;

//===----------------------------------------------------------------------------------------------------------------===//
// Sources
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult ConstantOp::interpret(InterpreterContext &, Operands, Results results) {
  FailureOr<HostTensor> value = toHostTensor(getValue());
  if (failed(value))
    return emitOpError() << "holds data in a form that the interpreter cannot read";
  results[0] = std::move(*value);
  return success();
}

LogicalResult IotaOp::interpret(InterpreterContext &context, Operands, Results results) {
  HostTensor &result = results[0];
  SmallVector<int64_t> strides(result.shape.size(), 0);
  strides[getDim()] = 1;
  std::vector<int64_t> values = offsets(result.shape, strides, placeOf(context, *this, getResult()).offset[getDim()]);
  if (result.isFloat)
    result.floats.assign(values.begin(), values.end());
  else
    result.ints = values;
  return success();
}

LogicalResult RandomUniformOp::interpret(InterpreterContext &context, Operands operands, Results results) {
  const HostTensor &rng = *operands[0];
  HostTensor &result = results[0];
  Place place = placeOf(context, *this, getResult());
  // Of a program of one rank the place is data.
  int64_t start = 0;
  if (auto whole = (*this)->getAttrOfType<DenseI64ArrayAttr>(kWholeShapeAttr)) {
    place.whole.assign(whole.asArrayRef().begin(), whole.asArrayRef().end());
    start = rng.ints[2];
  }
  for (int64_t i = 0; i < result.size(); ++i)
    result.floats[i] = uniformNumber(getSeed(), getSite(), rng.ints[0], rng.ints[1], place.elements(),
                                     start + place.index(result.shape, i));
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Movement
//===----------------------------------------------------------------------------------------------------------------===//

static void copyElement(HostTensor &to, int64_t toIndex, const HostTensor &from, int64_t fromIndex) {
  if (to.isFloat)
    to.floats[toIndex] = from.floats[fromIndex];
  else
    to.ints[toIndex] = from.ints[fromIndex];
}

/// result[i] = input[source[i]]
static LogicalResult pick(const HostTensor &input, ArrayRef<int64_t> source, HostTensor &result) {
  for (size_t i = 0; i < source.size(); ++i)
    copyElement(result, i, input, source[i]);
  return success();
}

/// result[target[i]] = input[i]
static LogicalResult place(const HostTensor &input, ArrayRef<int64_t> target, HostTensor &result) {
  for (size_t i = 0; i < target.size(); ++i)
    copyElement(result, target[i], input, i);
  return success();
}

LogicalResult BroadcastOp::interpret(InterpreterContext &, Operands operands, Results results) {
  SmallVector<int64_t> inputStrides = stridesOf(operands[0]->shape);
  SmallVector<int64_t> strides(results[0].shape.size(), 0);
  for (auto [i, dim] : llvm::enumerate(getDims()))
    strides[dim] = inputStrides[i];
  return pick(*operands[0], offsets(results[0].shape, strides), results[0]);
}

LogicalResult ReshapeOp::interpret(InterpreterContext &, Operands operands, Results results) {
  results[0].floats = operands[0]->floats;
  results[0].ints = operands[0]->ints;
  return success();
}

LogicalResult TransposeOp::interpret(InterpreterContext &, Operands operands, Results results) {
  SmallVector<int64_t> inputStrides = stridesOf(operands[0]->shape);
  SmallVector<int64_t> strides;
  for (int64_t dim : getPermutation())
    strides.push_back(inputStrides[dim]);
  return pick(*operands[0], offsets(results[0].shape, strides), results[0]);
}

LogicalResult SliceOp::interpret(InterpreterContext &, Operands operands, Results results) {
  SmallVector<int64_t> strides = stridesOf(operands[0]->shape);
  int64_t base = 0;
  for (size_t d = 0; d < strides.size(); ++d) {
    base += getStarts()[d] * strides[d];
    strides[d] *= getStrides()[d];
  }
  return pick(*operands[0], offsets(results[0].shape, strides, base), results[0]);
}

LogicalResult PadOp::interpret(InterpreterContext &, Operands operands, Results results) {
  SmallVector<int64_t> strides = stridesOf(results[0].shape);
  int64_t base = 0;
  for (size_t d = 0; d < strides.size(); ++d) {
    base += getLow()[d] * strides[d];
    strides[d] *= getInterior()[d] + 1;
  }
  return place(*operands[0], offsets(operands[0]->shape, strides, base), results[0]);
}

LogicalResult ConcatOp::interpret(InterpreterContext &, Operands operands, Results results) {
  SmallVector<int64_t> strides = stridesOf(results[0].shape);
  int64_t start = 0;
  for (const HostTensor *operand : operands) {
    (void)place(*operand, offsets(operand->shape, strides, start * strides[getDim()]), results[0]);
    start += operand->shape[getDim()];
  }
  return success();
}

LogicalResult GatherOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &table = *operands[0], &index = *operands[1];
  int64_t width = productFrom(table.shape, 1);
  for (int64_t i = 0; i < index.size(); ++i) {
    int64_t row = index.ints[i];
    if (row >= table.shape[0])
      return emitOpError() << "reads row " << row << " of a table of " << table.shape[0] << " rows";
    for (int64_t j = 0; row >= 0 && j < width; ++j)
      copyElement(results[0], i * width + j, table, row * width + j);
  }
  return success();
}

LogicalResult ScatterAddOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &index = *operands[0], &rows = *operands[1];
  HostTensor &result = results[0];
  if (operands.size() == 3)
    result = *operands[2];
  int64_t width = productFrom(result.shape, 1);
  for (int64_t i = 0; i < index.size(); ++i) {
    int64_t row = index.ints[i];
    if (row >= result.shape[0])
      return emitOpError() << "adds to row " << row << " of a table of " << result.shape[0] << " rows";
    for (int64_t j = 0; row >= 0 && j < width; ++j)
      result.floats[row * width + j] += rows.floats[i * width + j];
  }
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Combination
//===----------------------------------------------------------------------------------------------------------------===//

static double combine(ReduceKind kind, double a, double b) {
  if (kind == ReduceKind::Sum)
    return a + b;
  if (std::isnan(a) || std::isnan(b))
    return std::numeric_limits<double>::quiet_NaN();
  return kind == ReduceKind::Max ? std::max(a, b) : std::min(a, b);
}

static int64_t combine(ReduceKind kind, int64_t a, int64_t b) {
  if (kind == ReduceKind::Sum)
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  return kind == ReduceKind::Max ? std::max(a, b) : std::min(a, b);
}

LogicalResult ReduceOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0];
  HostTensor &result = results[0];
  SmallVector<int64_t> resultStrides = stridesOf(result.shape);
  SmallVector<int64_t> strides;
  for (size_t d = 0, kept = 0; d < input.shape.size(); ++d)
    strides.push_back(llvm::is_contained(getDims(), static_cast<int64_t>(d)) ? 0 : resultStrides[kept++]);
  std::vector<int64_t> target = offsets(input.shape, strides);
  std::vector<bool> started(result.size(), false);
  for (size_t i = 0; i < target.size(); ++i) {
    int64_t to = target[i];
    if (!started[to])
      copyElement(result, to, input, i);
    else if (input.isFloat)
      result.floats[to] = combine(getKind(), result.floats[to], input.floats[i]);
    else
      result.ints[to] = combine(getKind(), result.ints[to], input.ints[i]);
    started[to] = true;
  }
  return success();
}

LogicalResult CumsumOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0];
  HostTensor &result = results[0];
  int64_t extent = input.shape[getDim()];
  int64_t inner = productFrom(input.shape, getDim() + 1);
  int64_t outer = extent ? input.size() / (extent * inner) : 0;
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      double floatSum = 0;
      uint64_t intSum = 0;
      for (int64_t step = 0; step < extent; ++step) {
        int64_t position = getReverse() ? extent - 1 - step : step;
        int64_t at = (o * extent + position) * inner + i;
        double floatBefore = floatSum;
        uint64_t intBefore = intSum;
        if (input.isFloat)
          floatSum += input.floats[at];
        else
          intSum += static_cast<uint64_t>(input.ints[at]);
        if (input.isFloat)
          result.floats[at] = getExclusive() ? floatBefore : floatSum;
        else
          result.ints[at] = static_cast<int64_t>(getExclusive() ? intBefore : intSum);
      }
    }
  return success();
}

LogicalResult SortOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &input = *operands[0];
  int64_t extent = input.shape.back();
  // Equal elements, and NaNs at the end, keep their order.
  auto before = [&](int64_t a, int64_t b) {
    if (!input.isFloat)
      return input.ints[a] != input.ints[b] ? input.ints[a] > input.ints[b] : a < b;
    bool aIsNan = std::isnan(input.floats[a]), bIsNan = std::isnan(input.floats[b]);
    if (aIsNan || bIsNan)
      return aIsNan == bIsNan ? a < b : bIsNan;
    return input.floats[a] != input.floats[b] ? input.floats[a] > input.floats[b] : a < b;
  };
  for (int64_t start = 0; start < input.size(); start += extent) {
    std::vector<int64_t> order(extent);
    std::iota(order.begin(), order.end(), start);
    std::sort(order.begin(), order.end(), before);
    for (int64_t i = 0; i < extent; ++i) {
      copyElement(results[0], start + i, input, order[i]);
      results[1].ints[start + i] = order[i] - start;
    }
  }
  return success();
}

/// Offsets of all indices over some dimensions of a tensor, in the order in which the dimensions are given.
static std::vector<int64_t> offsetsOver(const HostTensor &tensor, ArrayRef<int64_t> dims) {
  SmallVector<int64_t> strides = stridesOf(tensor.shape), sizes, steps;
  for (int64_t dim : dims) {
    sizes.push_back(tensor.shape[dim]);
    steps.push_back(strides[dim]);
  }
  return offsets(sizes, steps);
}

static SmallVector<int64_t> remainingDims(const HostTensor &tensor, ArrayRef<int64_t> batch,
                                          ArrayRef<int64_t> contract) {
  SmallVector<int64_t> dims;
  for (int64_t d = 0; d < static_cast<int64_t>(tensor.shape.size()); ++d)
    if (!llvm::is_contained(batch, d) && !llvm::is_contained(contract, d))
      dims.push_back(d);
  return dims;
}

LogicalResult DotOp::interpret(InterpreterContext &, Operands operands, Results results) {
  const HostTensor &lhs = *operands[0], &rhs = *operands[1];
  std::vector<int64_t> lhsBatch = offsetsOver(lhs, getLhsBatch()), rhsBatch = offsetsOver(rhs, getRhsBatch());
  std::vector<int64_t> lhsSum = offsetsOver(lhs, getLhsContract()), rhsSum = offsetsOver(rhs, getRhsContract());
  std::vector<int64_t> rows = offsetsOver(lhs, remainingDims(lhs, getLhsBatch(), getLhsContract()));
  std::vector<int64_t> columns = offsetsOver(rhs, remainingDims(rhs, getRhsBatch(), getRhsContract()));
  size_t at = 0;
  for (size_t b = 0; b < lhsBatch.size(); ++b)
    for (int64_t row : rows)
      for (int64_t column : columns) {
        double sum = 0;
        for (size_t k = 0; k < lhsSum.size(); ++k)
          sum += lhs.floats[lhsBatch[b] + row + lhsSum[k]] * rhs.floats[rhsBatch[b] + column + rhsSum[k]];
        results[0].floats[at++] = sum;
      }
  return success();
}
