//===- Recompose.cpp - Folds data movement into the operations that can read it in place ------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_RECOMPOSE
#include "passes/Passes.h.inc"

namespace {

SmallVector<int64_t> throughPermutation(ArrayRef<int64_t> dims, ArrayRef<int64_t> permutation) {
  return llvm::map_to_vector(dims, [&](int64_t d) { return permutation[d]; });
}

bool increases(ArrayRef<int64_t> dims) {
  return llvm::is_sorted(dims);
}

/// dot(x, transpose(w)) reads w directly where the order of the free dimensions stays.
struct FoldTransposeIntoDot : OpRewritePattern<DotOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(DotOp dot, PatternRewriter &rewriter) const override {
    auto lhs = dot.getLhs().getDefiningOp<TransposeOp>(), rhs = dot.getRhs().getDefiningOp<TransposeOp>();
    bool foldLhs = lhs && increases(throughPermutation(dot.lhsFree(), lhs.getPermutation()));
    bool foldRhs = rhs && increases(throughPermutation(dot.rhsFree(), rhs.getPermutation()));
    if (!foldLhs && !foldRhs)
      return failure();
    auto map = [](bool fold, TransposeOp op, ArrayRef<int64_t> dims) {
      return fold ? throughPermutation(dims, op.getPermutation()) : SmallVector<int64_t>(dims);
    };
    rewriter.replaceOpWithNewOp<DotOp>(dot, foldLhs ? lhs.getInput() : dot.getLhs(),
                                       foldRhs ? rhs.getInput() : dot.getRhs(), map(foldLhs, lhs, dot.getLhsBatch()),
                                       map(foldRhs, rhs, dot.getRhsBatch()), map(foldLhs, lhs, dot.getLhsContract()),
                                       map(foldRhs, rhs, dot.getRhsContract()));
    return success();
  }
};

struct RecomposePass : impl::RecomposeBase<RecomposePass> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<FoldTransposeIntoDot>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace moe::ir
