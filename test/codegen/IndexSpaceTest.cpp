//===- IndexSpaceTest.cpp - Canonical index expressions agree with brute force ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/IndexSpace.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/MathExtras.h"
#include <gtest/gtest.h>
#include <random>

using namespace mlir;
using namespace moe::codegen;

namespace {

int64_t evaluate(AffineExpr expr, llvm::ArrayRef<int64_t> dims) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return constant.getValue();
  if (auto dim = dyn_cast<AffineDimExpr>(expr))
    return dims[dim.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expr);
  int64_t lhs = evaluate(binary.getLHS(), dims), rhs = evaluate(binary.getRHS(), dims);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return lhs + rhs;
  case AffineExprKind::Mul:
    return lhs * rhs;
  case AffineExprKind::FloorDiv:
    return llvm::divideFloorSigned(lhs, rhs);
  default:
    return llvm::mod(lhs, rhs);
  }
}

// Every rule of add, mul, floorDiv and mod (dropping small remainders, common factors, nested divisions and remainders,
// recombination): a wrong one changes a value at some point of a small space. Bounds are checked on the way.
TEST(IndexSpace, ArithmeticEqualsBruteForce) {
  MLIRContext context;
  std::mt19937 random(7);
  auto draw = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(random() % (high - low + 1)); };
  for (int round = 0; round < 3000; ++round) {
    IndexSpace space(&context);
    llvm::SmallVector<int64_t> sizes;
    for (int64_t d = 0, count = draw(1, 3); d < count; ++d)
      sizes.push_back(draw(1, 6));
    llvm::SmallVector<AffineExpr> pool;
    for (int64_t size : sizes)
      pool.push_back(space.addDim(size));
    // The same expressions without any simplification, as functions of the point.
    llvm::SmallVector<std::function<int64_t(llvm::ArrayRef<int64_t>)>> plain;
    for (size_t d = 0; d < sizes.size(); ++d)
      plain.push_back([d](llvm::ArrayRef<int64_t> point) { return point[d]; });
    for (int step = 0; step < 8; ++step) {
      size_t i = draw(0, pool.size() - 1), j = draw(0, pool.size() - 1);
      auto f = plain[i], g = plain[j];
      int64_t c = draw(1, 12);
      switch (draw(0, 3)) {
      case 0:
        pool.push_back(space.add(pool[i], pool[j]));
        plain.push_back([f, g](llvm::ArrayRef<int64_t> p) { return f(p) + g(p); });
        break;
      case 1:
        c = draw(-3, 12);
        pool.push_back(space.add(space.mul(pool[i], c), space.constant(step)));
        plain.push_back([f, c, step](llvm::ArrayRef<int64_t> p) { return f(p) * c + step; });
        break;
      case 2:
        pool.push_back(space.floorDiv(pool[i], c));
        plain.push_back([f, c](llvm::ArrayRef<int64_t> p) { return llvm::divideFloorSigned(f(p), c); });
        break;
      default:
        pool.push_back(space.mod(pool[i], c));
        plain.push_back([f, c](llvm::ArrayRef<int64_t> p) { return llvm::mod(f(p), c); });
      }
    }
    int64_t points = 1;
    for (int64_t size : sizes)
      points *= size;
    for (int64_t position = 0; position < points; ++position) {
      llvm::SmallVector<int64_t> point(sizes.size());
      for (size_t d = sizes.size(), rest = position; d-- > 0; rest /= sizes[d])
        point[d] = rest % sizes[d];
      for (auto [expr, function] : llvm::zip(pool, plain)) {
        int64_t value = evaluate(expr, point);
        ASSERT_EQ(value, function(point)) << "round " << round;
        IndexRange range = space.range(expr);
        ASSERT_LE(range.low, value);
        ASSERT_GE(range.high, value);
      }
    }
  }
}

// Reshapes must vanish: otherwise loads become gathers and kernels slow down without any test of values failing.
TEST(IndexSpace, ReshapesVanish) {
  MLIRContext context;
  IndexSpace space(&context);
  llvm::SmallVector<AffineExpr> index{space.addDim(4), space.addDim(6), space.addDim(10)};
  AffineExpr linear = space.linearize(index, {4, 6, 10});
  // [4,6,10] seen as [24,10], [4,60] and [4,3,2,10].
  EXPECT_EQ(space.delinearize(linear, {24, 10})[0], space.add(space.mul(index[0], 6), index[1]));
  EXPECT_EQ(space.delinearize(linear, {24, 10})[1], index[2]);
  EXPECT_EQ(space.delinearize(linear, {4, 60})[0], index[0]);
  llvm::SmallVector<AffineExpr> fine = space.delinearize(linear, {4, 3, 2, 10});
  EXPECT_EQ(fine[1], space.floorDiv(index[1], 2));
  // There and back through shapes that do not nest.
  llvm::SmallVector<int64_t> odd{16, 15};
  EXPECT_EQ(space.linearize(space.delinearize(linear, odd), odd), linear);
}

} // namespace
