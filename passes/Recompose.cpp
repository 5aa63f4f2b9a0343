//===- Recompose.cpp - Coarse operations, and data movement folded into what reads it ----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/Recompose.h"
#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/Passes.h"
#include "passes/recompose/Attention.h"

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

/// A chain of transposes and reshapes in as few of them as can be.
struct FoldMovement : OpRewritePattern<TransposeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(TransposeOp op, PatternRewriter &rewriter) const override {
    recompose::AxisTable axes;
    recompose::View result = axes.fresh(op), source = result;
    bool shorter = false;
    while (std::optional<recompose::View> next = axes.behind(source)) {
      if (source.value.getDefiningOp<BroadcastOp>())
        break;
      shorter = shorter || (source.value != op.getResult() && source.value.getDefiningOp<TransposeOp>());
      source = std::move(*next);
    }
    if (typeOf(op).getEncoding() || (!shorter && axes.flat(source) != axes.flat(result)))
      return failure();
    TensorBuilder b(rewriter, op.getLoc());
    rewriter.replaceOp(op, axes.arrange(b, source, result.dims));
    return success();
  }
};

} // namespace

LogicalResult recompose::foldMovement(Operation *root, bool chains) {
  RewritePatternSet patterns(root->getContext());
  patterns.add<FoldTransposeIntoDot>(root->getContext());
  if (chains)
    patterns.add<FoldMovement>(root->getContext());
  return applyPatternsGreedily(root, std::move(patterns));
}

namespace {

struct RecomposePass : impl::RecomposeBase<RecomposePass> {
  using RecomposeBase::RecomposeBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (coarse) {
      recompose::KnownValues values(module);
      for (auto function : module.getOps<func::FuncOp>()) {
        SmallVector<recompose::AttentionReport> reports;
        recompose::rewriteActivations(function, values);
        recompose::rewriteNorms(function, values);
        recompose::rewriteAttention(function, values, reports);
      }
    }
    for (auto state : module.getOps<StateOp>())
      state->removeAttr(kElementsAttr);
    if (failed(recompose::foldMovement(module, coarse)))
      signalPassFailure();
  }
};

} // namespace
} // namespace moe::ir
