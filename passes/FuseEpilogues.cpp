//===- FuseEpilogues.cpp - What a library does to the elements of a product before it stores them ----------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// Each product takes in, if nobody else reads what lies in between: the widening of its result, a bias per column, then
// either a ReLU or the sum so far of a state (a gradient over micro-batches). Each of them is one pass less over the
// result. GELU stays a kernel: its backward wants what it reads, so that an epilogue would store two results.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/Product.h"
#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "passes/Passes.h"
#include "passes/Rematerialize.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_FUSEEPILOGUES
#include "passes/Passes.h.inc"

namespace {

/// A product with the operations behind it that it takes in.
struct Epilogue {
  /// `forward`: the operations before the backward of this program, if it has one.
  Epilogue(DotOp dot, llvm::DenseSet<Operation *> &forward) : forward(forward), dot(dot), end(dot) {
    widen();
    addBias();
    if (!activate())
      accumulate();
  }

  llvm::DenseSet<Operation *> &forward;
  DotOp dot;
  Operation *end; ///< the last operation that is taken in
  bool isWide = false;
  Value bias, accumulator;
  bool relu = false;

  void outline();

private:
  /// The only reader of the result so far.
  Operation *next() const {
    Value result = end->getResult(0);
    return result.hasOneUse() ? *result.getUsers().begin() : nullptr;
  }

  /// Not of what the forward computes and the backward reads again: it would take twice the memory for long. Rows that
  /// are reduced, as logits, are an exception.
  void widen() {
    auto reshape = dyn_cast_or_null<ReshapeOp>(next());
    if (reshape && !reshape->hasOneUse())
      return;
    auto cast = dyn_cast_or_null<CastOp>(reshape ? *reshape->getUsers().begin() : next());
    if (!cast || !dot.getType().getElementType().isBF16() || !cast.getType().getElementType().isF32())
      return;
    bool isKept = forward.contains(cast) &&
                  llvm::any_of(cast->getUsers(), [&](Operation *user) { return !forward.contains(user); });
    if (isKept && llvm::none_of(cast->getUsers(), llvm::IsaPred<ReduceOp>))
      return;
    if (reshape)
      cast = castBefore(reshape, cast);
    isWide = true;
    end = cast;
  }

  /// Turns the two round: the cast now reads the product, and is returned.
  CastOp castBefore(ReshapeOp reshape, CastOp cast) {
    OpBuilder builder(reshape);
    auto wide = CastOp::create(builder, cast.getLoc(), reshape.getInput(), cast.getType().getElementType());
    auto shaped = ReshapeOp::create(builder, reshape.getLoc(), cast.getType(), wide);
    if (forward.contains(cast))
      forward.insert_range(ArrayRef<Operation *>{wide, shaped});
    cast.replaceAllUsesWith(shaped.getResult());
    for (Operation *gone : {cast.getOperation(), reshape.getOperation()}) {
      forward.erase(gone);
      gone->erase();
    }
    return wide;
  }

  void addBias() {
    auto add = dyn_cast_or_null<AddOp>(next());
    if (!add || isWide)
      return;
    Value other = add.getLhs() == end->getResult(0) ? add.getRhs() : add.getLhs();
    auto broadcast = other.getDefiningOp<BroadcastOp>();
    if (!broadcast || !codegen::isColumnBias(dot, broadcast.getInput(), broadcast.getDims()))
      return;
    bias = broadcast.getInput();
    end = add;
  }

  bool activate() {
    auto op = dyn_cast_or_null<ReluOp>(next());
    relu = op != nullptr;
    if (relu)
      end = op;
    return relu;
  }

  /// Only where result and sum are the same state: anything else would be copied first, which costs what this saves.
  void accumulate() {
    auto add = dyn_cast_or_null<AddOp>(next());
    if (!add || !add->hasOneUse())
      return;
    Value other = add.getLhs() == end->getResult(0) ? add.getRhs() : add.getLhs();
    auto read = other.getDefiningOp<ReadOp>();
    auto write = dyn_cast<WriteOp>(*add->getUsers().begin());
    if (!read || !write || !read->hasOneUse() || read.getStateAttr() != write.getStateAttr())
      return;
    accumulator = other;
    end = add;
  }
};

void Epilogue::outline() {
  SmallVector<Value> inputs{dot.getLhs(), dot.getRhs()};
  if (bias)
    inputs.push_back(bias);
  if (accumulator)
    inputs.push_back(accumulator);
  // Right behind what it reads: the factors need not be there until the result is used, which may be much later, as for
  // the gradient of a parameter that was cast at the very beginning.
  Operation *behind = dot;
  if (Operation *maker = bias ? bias.getDefiningOp() : nullptr; maker && behind->isBeforeInBlock(maker))
    behind = maker;
  if (accumulator) {
    accumulator.getDefiningOp()->moveAfter(behind);
    behind = accumulator.getDefiningOp();
  }
  OpBuilder outer(end->getContext());
  outer.setInsertionPointAfter(behind);
  auto fused = FusedOp::create(outer, end->getLoc(), end->getResultTypes(), inputs, codegen::kProductEmitter);
  if (accumulator)
    fused->setAttr(kInPlaceAttr, outer.getDenseI64ArrayAttr({0, static_cast<int64_t>(inputs.size()) - 1}));
  Block *body = new Block;
  fused.getBody().push_back(body);
  for (Value input : inputs)
    body->addArgument(input.getType(), input.getLoc());
  OpBuilder inner = OpBuilder::atBlockBegin(body);
  TensorBuilder b(inner, dot.getLoc());
  // A product of wide numbers, which is what the library computes inside, and not one that is rounded first.
  auto factor = [&](unsigned i) {
    return isWide ? b.cast(body->getArgument(i), inner.getF32Type()) : Value(body->getArgument(i));
  };
  Value result = b.make<DotOp>(factor(0), factor(1), dot.getLhsBatch(), dot.getRhsBatch(), dot.getLhsContract(),
                               dot.getRhsContract());
  unsigned next = 2;
  if (bias) {
    int64_t columns = typeOf(bias).getRank(), rank = dot.getType().getRank();
    SmallVector<int64_t> dims;
    for (int64_t d = rank - columns; d < rank; ++d)
      dims.push_back(d);
    result = b.add(result, b.broadcast(body->getArgument(next++), typeOf(result).getShape(), dims));
  }
  if (relu)
    result = b.make<ReluOp>(result);
  if (accumulator)
    result = b.add(result, body->getArgument(next));
  YieldOp::create(inner, fused.getLoc(), result);
  end->getResult(0).replaceAllUsesWith(fused.getResult(0));
}

struct FuseEpiloguesPass : impl::FuseEpiloguesBase<FuseEpiloguesPass> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      Block &block = function.getBody().front();
      llvm::DenseSet<Operation *> forward;
      if (function.getName() == "micro_step")
        forward = forwardPart(block);
      for (DotOp dot : llvm::to_vector(block.getOps<DotOp>()))
        if (Epilogue epilogue(dot, forward); epilogue.end != dot.getOperation())
          epilogue.outline();
      for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
        if (op.use_empty() && isMemoryEffectFree(&op) && !op.hasTrait<OpTrait::IsTerminator>())
          op.erase();
    }
  }
};

} // namespace
} // namespace moe::ir
