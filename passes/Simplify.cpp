//===- Simplify.cpp - Algebraic identities, equal operations, dead operations -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Transforms/CSE.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/Passes.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_SIMPLIFY
#include "passes/Passes.h.inc"

namespace {

/// The value of a splat constant of floats.
std::optional<double> splatValue(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto dense = constant ? dyn_cast<DenseElementsAttr>(constant.getValue()) : DenseElementsAttr();
  if (!dense || !dense.isSplat() || !isa<FloatType>(dense.getElementType()))
    return std::nullopt;
  return dense.getSplatValue<APFloat>().convertToDouble();
}

/// x * 1 and x / 1. Products with 0 stay: they keep NaN and infinity.
template <typename OpTy> struct FoldUnit : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &rewriter) const override {
    if (splatValue(op.getRhs()) == 1.0) {
      rewriter.replaceOp(op, op.getLhs());
      return success();
    }
    if (std::is_same_v<OpTy, MulOp> && splatValue(op.getLhs()) == 1.0) {
      rewriter.replaceOp(op, op.getRhs());
      return success();
    }
    return failure();
  }
};

/// A repeated splat is a splat.
struct FoldBroadcastOfSplat : OpRewritePattern<BroadcastOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(BroadcastOp op, PatternRewriter &rewriter) const override {
    auto constant = op.getInput().getDefiningOp<ConstantOp>();
    auto dense = constant ? dyn_cast<DenseElementsAttr>(constant.getValue()) : DenseElementsAttr();
    if (!dense || !dense.isSplat())
      return failure();
    rewriter.replaceOpWithNewOp<ConstantOp>(op, op.getType(), cast<ElementsAttr>(dense.resizeSplat(op.getType())));
    return success();
  }
};

/// broadcast(broadcast(x)) in one step.
struct FoldBroadcastOfBroadcast : OpRewritePattern<BroadcastOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(BroadcastOp op, PatternRewriter &rewriter) const override {
    auto inner = op.getInput().getDefiningOp<BroadcastOp>();
    if (!inner)
      return failure();
    SmallVector<int64_t> dims = llvm::map_to_vector(inner.getDims(), [&](int64_t d) { return op.getDims()[d]; });
    rewriter.replaceOpWithNewOp<BroadcastOp>(op, op.getType(), inner.getInput(), dims);
    return success();
  }
};

/// reshape(reshape(x)) in one step.
struct FoldReshapeOfReshape : OpRewritePattern<ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ReshapeOp op, PatternRewriter &rewriter) const override {
    auto inner = op.getInput().getDefiningOp<ReshapeOp>();
    if (!inner)
      return failure();
    rewriter.replaceOpWithNewOp<ReshapeOp>(op, op.getType(), inner.getInput());
    return success();
  }
};

/// A reduction over dimensions of size one is a reshape.
struct FoldUnitReduce : OpRewritePattern<ReduceOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ReduceOp op, PatternRewriter &rewriter) const override {
    RankedTensorType input = typeOf(op.getInput());
    if (input.getEncoding() || llvm::any_of(op.getDims(), [&](int64_t d) { return input.getDimSize(d) != 1; }))
      return failure();
    rewriter.replaceOpWithNewOp<ReshapeOp>(op, op.getType(), op.getInput());
    return success();
  }
};

/// add_n of one tensor; scatter_add into zeros followed by a sum becomes scatter_add onto the other terms.
struct FoldAddN : OpRewritePattern<AddNOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AddNOp op, PatternRewriter &rewriter) const override {
    if (op.getInputs().size() == 1) {
      rewriter.replaceOp(op, op.getInputs().front());
      return success();
    }
    for (auto [i, input] : llvm::enumerate(op.getInputs())) {
      auto scatter = input.getDefiningOp<ScatterAddOp>();
      if (!scatter || scatter.getInit() || !scatter->hasOneUse())
        continue;
      SmallVector<Value> rest(op.getInputs());
      rest.erase(rest.begin() + i);
      Value init = AddNOp::create(rewriter, op.getLoc(), ValueRange(rest));
      rewriter.replaceOpWithNewOp<ScatterAddOp>(op, op.getType(), scatter.getIndex(), scatter.getRows(), init);
      return success();
    }
    return failure();
  }
};

struct SimplifyPass : impl::SimplifyBase<SimplifyPass> {
  using SimplifyBase::SimplifyBase;

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<FoldUnit<MulOp>, FoldUnit<DivOp>, FoldBroadcastOfSplat, FoldBroadcastOfBroadcast, FoldReshapeOfReshape,
                 FoldUnitReduce, FoldAddN>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    if (!merge)
      return;
    IRRewriter rewriter(&getContext());
    getOperation().walk([&](func::FuncOp function) {
      DominanceInfo dominance(function);
      eliminateCommonSubExpressions(rewriter, dominance, function);
    });
  }
};

} // namespace
} // namespace moe::ir
