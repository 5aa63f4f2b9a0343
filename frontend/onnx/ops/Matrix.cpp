//===- Matrix.cpp -------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/NodeContext.h"
#include "frontend/onnx/OpTable.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// A value seen through a transpose: dimension i of the value is dimension dims[i] of `base`.
struct View {
  Value base;
  Shape dims;
};

View lookThrough(NodeContext &n, Value value) {
  if (auto op = value.getDefiningOp<ir::TransposeOp>())
    return {op.getInput(), Shape(op.getPermutation())};
  return {value, llvm::to_vector(llvm::seq<int64_t>(0, n.rank(value)))};
}

/// The view, unless its free dimensions come in another order than in the base: moe.dot keeps the base's order.
View orderedView(NodeContext &n, Value value, llvm::ArrayRef<int64_t> freeDims) {
  View view = lookThrough(n, value);
  for (size_t i = 1; i < freeDims.size(); ++i)
    if (view.dims[freeDims[i - 1]] > view.dims[freeDims[i]])
      return {value, llvm::to_vector(llvm::seq<int64_t>(0, n.rank(value)))};
  return view;
}

Shape mapped(const View &view, llvm::ArrayRef<int64_t> dims) {
  Shape result;
  for (int64_t dim : dims)
    result.push_back(view.dims[dim]);
  return result;
}

Value product(NodeContext &n, Value a, Value b, llvm::ArrayRef<int64_t> batch, llvm::ArrayRef<int64_t> aFree,
              llvm::ArrayRef<int64_t> bFree, int64_t aContract, int64_t bContract) {
  View left = orderedView(n, a, aFree), right = orderedView(n, b, bFree);
  return n.dot(left.base, right.base, mapped(left, batch), mapped(right, batch), mapped(left, {aContract}),
               mapped(right, {bContract}));
}

/// numpy's matmul. One moe.dot; transposes of operands vanish into its dimension numbers.
Value matmul(NodeContext &n, Value a, Value b) {
  if (n.failed())
    return {};
  const bool aVector = n.rank(a) == 1, bVector = n.rank(b) == 1;
  if (n.rank(a) == 0 || n.rank(b) == 0) {
    n.fail("an operand is a scalar");
    return {};
  }
  if (aVector)
    a = n.reshape(a, {1, n.shape(a)[0]});
  if (bVector)
    b = n.reshape(b, {n.shape(b)[0], 1});
  Shape as = n.shape(a), bs = n.shape(b);
  const int64_t m = as[as.size() - 2], k = as.back(), columns = bs.back();
  if (bs[bs.size() - 2] != k) {
    n.fail("the inner dimensions " + llvm::Twine(k) + " and " + llvm::Twine(bs[bs.size() - 2]) + " differ");
    return {};
  }
  llvm::ArrayRef<int64_t> aBatch = llvm::ArrayRef<int64_t>(as).drop_back(2),
                          bBatch = llvm::ArrayRef<int64_t>(bs).drop_back(2);
  Value result;
  Shape batch;
  if (llvm::all_of(bBatch, [](int64_t extent) { return extent == 1; }) && bBatch.size() <= aBatch.size()) {
    // One matrix for all rows of a: [.., m, k] [k, n].
    batch.assign(aBatch.begin(), aBatch.end());
    b = n.reshape(b, {k, columns});
    auto rank = static_cast<int64_t>(as.size());
    result = product(n, a, b, {}, llvm::to_vector(llvm::seq<int64_t>(0, rank - 1)), {1}, rank - 1, 0);
  } else {
    // Batches are repeated where they differ.
    batch.assign(std::max(aBatch.size(), bBatch.size()), 1);
    for (llvm::ArrayRef<int64_t> each : {aBatch, bBatch})
      for (size_t i = 0, shift = batch.size() - each.size(); i < each.size(); ++i)
        if (batch[i + shift] == 1)
          batch[i + shift] = each[i];
    Shape aTo = batch, bTo = batch;
    aTo.append({m, k});
    bTo.append({k, columns});
    a = n.broadcastTo(a, aTo);
    b = n.broadcastTo(b, bTo);
    if (n.failed())
      return {};
    auto count = static_cast<int64_t>(batch.size());
    result = product(n, a, b, llvm::to_vector(llvm::seq<int64_t>(0, count)), {count}, {count + 1}, count + 1, count);
  }
  if (!aVector && !bVector)
    return result;
  Shape to = batch;
  if (!aVector)
    to.push_back(m);
  if (!bVector)
    to.push_back(columns);
  return n.reshape(result, to);
}

void matmul(NodeContext &n) {
  Value a = n.input(0), b = n.input(1);
  n.output(0, matmul(n, a, b));
}

/// alpha op(A) op(B) + beta C
void gemm(NodeContext &n) {
  Value a = n.input(0), b = n.input(1);
  if (!n.failed() && (n.rank(a) != 2 || n.rank(b) != 2))
    n.fail("its operands are not matrices");
  if (n.failed())
    return n.output(0, {});
  const int64_t aContract = n.integer("transA", 0) != 0 ? 0 : 1, bContract = n.integer("transB", 0) != 0 ? 1 : 0;
  Value result = product(n, a, b, {}, {1 - aContract}, {1 - bContract}, aContract, bContract);
  auto scaled = [&](Value value, double factor) {
    return factor == 1.0 ? value : n.make<ir::MulOp>(value, n.splatLike(value, factor));
  };
  result = scaled(result, n.real("alpha", 1.0));
  if (n.hasInput(2)) {
    Value c = scaled(n.input(2), n.real("beta", 1.0));
    result = n.failed() ? Value() : n.make<ir::AddOp>(result, n.broadcastTo(c, n.shape(result)));
  }
  n.output(0, result);
}

constexpr OpEntry kOps[] = {
    {"", "MatMul", 1, matmul},
    {"", "Gemm", 7, gemm},
};

} // namespace

llvm::ArrayRef<OpEntry> matrixOps() {
  return kOps;
}

} // namespace moe::frontend
