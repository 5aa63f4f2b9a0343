//===- Survey.cpp -------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/Survey.h"

#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"
#include "passes/Passes.h"
#include "passes/recompose/Attention.h"
#include "passes/recompose/Recompose.h"

using namespace mlir;

namespace moe::ir::recompose {

namespace {

/// Behind reshapes, transposes and dropout.
Value unmoved(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<ReshapeOp, TransposeOp, DropoutOp>(op))
      break;
    value = op->getOperand(0);
  }
  return value;
}

/// The product of x W or x W + bias, or null.
DotOp linear(Value value) {
  value = unmoved(value);
  if (auto add = value.getDefiningOp<AddOp>())
    for (Value side : add->getOperands())
      if (auto dot = unmoved(side).getDefiningOp<DotOp>())
        return dot;
  return value.getDefiningOp<DotOp>();
}

/// Why a softmax stays in fine operations.
constexpr StringLiteral kWhyAttr = "moe.why";

class Surveyor {
public:
  explicit Surveyor(func::FuncOp function) : function(function) {}

  std::vector<Block> run() {
    KnownValues values(function->getParentOfType<ModuleOp>());
    rewriteActivations(function, values);
    rewriteNorms(function, values);
    rewriteAttention(function, values, reports);
    eraseUnused();
    for (const AttentionReport &report : reports)
      report.at->setAttr(kWhyAttr, StringAttr::get(function.getContext(), report.why));
    // As the phase does; where it comes to no end layers of experts may be missing here.
    PassManager passes(function.getContext());
    passes.addPass(createSimplify());
    passes.addPass(createRecomposeExperts());
    if (succeeded(foldMovement(function, /*chains=*/true)))
      static_cast<void>(passes.run(function->getParentOfType<ModuleOp>()));
    function.walk([&](Operation *op) { visit(op); });
    return std::move(blocks);
  }

private:
  void eraseUnused() {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
      if (isOpTriviallyDead(&op)) {
        llvm::erase_if(reports, [&](const AttentionReport &report) { return report.at == &op; });
        op.erase();
      }
  }

  Block &add(Block::Kind kind, Operation *op, std::string form) {
    blocks.push_back({kind, layer, {}, std::move(form), {}, {}});
    Location loc = op->getLoc();
    if (auto name = dyn_cast<NameLoc>(loc))
      blocks.back().where = name.getName().str();
    else
      llvm::raw_string_ostream(blocks.back().where) << loc;
    return blocks.back();
  }

  void visit(Operation *op) {
    if (auto attention = dyn_cast<AttentionOp>(op))
      return describe(attention);
    if (auto why = op->getAttrOfType<StringAttr>(kWhyAttr))
      add(Block::Kind::Attention, op, "softmax").why = why.str();
    if (isa<LayerNormOp, RmsNormOp>(op)) {
      Block &block = add(Block::Kind::Norm, op, isa<LayerNormOp>(op) ? "layer" : "rms");
      block.facts.emplace_back("width", typeOf(op->getOperand(0)).getShape().back());
      block.facts.emplace_back("epsilon", op->getAttrOfType<FloatAttr>("epsilon").getValueAsDouble());
    } else if (isa<RsqrtOp, SqrtOp>(op)) {
      describeFineNorm(op);
    } else if (isa<GeluOp, ReluOp, SigmoidOp, TanhOp>(op)) {
      describeFeedForward(op);
    } else if (auto concat = dyn_cast<ConcatOp>(op)) {
      describeRotary(concat);
    } else if (auto combine = dyn_cast<CombineOp>(op)) {
      describe(combine);
    }
  }

  /// Whose slots are the rows that `op` adds up.
  void describe(CombineOp op) {
    RankedTensorType rows = typeOf(op.getRows());
    auto grouped = unmoved(op.getSlot()).getDefiningOp<GroupRowsOp>();
    if (!grouped && rows.getDimSize(0) == 1) // the sum over the choices of rows that are sorted back already
      return;
    bool isRouted = op.getSlot().getDefiningOp<RouteOp>() != nullptr;
    Block &block = add(Block::Kind::Experts, op, grouped ? "dropless" : isRouted ? "routed" : "with capacity");
    block.facts.emplace_back("experts", grouped ? static_cast<int64_t>(grouped.getExperts()) : rows.getDimSize(0));
    block.facts.emplace_back(grouped ? "rows" : "capacity", rows.getDimSize(2));
    ++layer;
  }

  void describe(AttentionOp op) {
    RankedTensorType q = typeOf(op.getQuery()), k = typeOf(op.getKey());
    std::string form;
    auto word = [&](bool applies, StringRef text) {
      if (applies)
        form += (form.empty() ? "" : ", ") + text.str();
    };
    word(op.getCausal(), "causal");
    word(static_cast<bool>(op.getPadding()), "padded");
    word(op.getWindow() > 0, "windowed");
    word(static_cast<bool>(op.getBias()), "biased");
    word(op.getSoftcap().convertToDouble() > 0, "soft-capped");
    word(static_cast<bool>(op.getSinks()), "with sinks");
    word(k.getDimSize(2) < q.getDimSize(2), k.getDimSize(2) == 1 ? "multi-query" : "grouped-query");
    word(isCross(op), "cross");
    Block &block = add(Block::Kind::Attention, op, form.empty() ? "full" : form);
    block.facts.emplace_back("heads", q.getDimSize(2));
    block.facts.emplace_back("key_heads", k.getDimSize(2));
    block.facts.emplace_back("head_dim", q.getDimSize(3));
    block.facts.emplace_back("queries", q.getDimSize(1));
    block.facts.emplace_back("keys", k.getDimSize(1));
    block.facts.emplace_back("scale", op.getScale().convertToDouble());
    if (op.getWindow() > 0)
      block.facts.emplace_back("window", static_cast<int64_t>(op.getWindow()));
  }

  /// Whether keys are projected from another tensor than queries.
  static bool isCross(AttentionOp op) {
    DotOp query = projection(op.getQuery()), key = projection(op.getKey());
    return query && key && unmoved(query.getLhs()) != unmoved(key.getLhs());
  }

  /// The product that made the heads, through rotations and slices.
  static DotOp projection(Value value) {
    for (int i = 0; i < 32; ++i) {
      if (DotOp dot = linear(value))
        return dot;
      Operation *op = unmoved(value).getDefiningOp();
      if (!isa_and_nonnull<AddOp, SubOp, MulOp, SliceOp, ConcatOp, BroadcastOp, RmsNormOp, LayerNormOp>(op))
        return {};
      value = op->getOperand(0);
    }
    return {};
  }

  /// A root of a mean that no norm has come of.
  void describeFineNorm(Operation *root) {
    Value value = root->getOperand(0);
    for (int i = 0; i < 6; ++i) {
      Operation *op = value.getDefiningOp();
      if (!op)
        return;
      if (auto reduce = dyn_cast<ReduceOp>(op)) {
        if (reduce.getKind() == ReduceKind::Sum && reduce.getInput().getDefiningOp<MulOp>())
          add(Block::Kind::Norm, root, "root of a mean").why =
              "it does not divide, row by row, what its mean of squares along the last dimension is taken of";
        return;
      }
      if (!isa<ReshapeOp, MulOp, DivOp, AddOp>(op))
        return;
      value = op->getOperand(0);
    }
  }

  /// Two products with an activation between them, the first one possibly times a third.
  void describeFeedForward(Operation *op) {
    DotOp up = linear(op->getOperand(0));
    if (!up)
      return;
    Value result = op->getResult(0);
    std::string form = isa<GeluOp>(op) ? "gelu" : isa<ReluOp>(op) ? "relu" : isa<TanhOp>(op) ? "tanh" : "sigmoid";
    bool gated = false;
    for (int i = 0; i < 8 && result.hasOneUse(); ++i) {
      Operation *user = *result.user_begin();
      if (isa<DotOp>(user) && user != up.getOperation()) {
        Block &block = add(Block::Kind::FeedForward, op, (gated ? "gated " : "") + form);
        block.facts.emplace_back("width", typeOf(up.getLhs()).getShape().back());
        block.facts.emplace_back("inner", typeOf(up.getResult()).getShape().back());
        ++layer;
        return;
      }
      if (auto mul = dyn_cast<MulOp>(user)) {
        Value other = mul.getLhs() == result ? mul.getRhs() : mul.getLhs();
        DotOp gate = linear(other);
        if (form == "sigmoid" && unmoved(other) == unmoved(op->getOperand(0)))
          form = "silu";
        else if (gate && unmoved(gate.getLhs()) == unmoved(up.getLhs()))
          gated = true;
        else
          return;
      } else if (!isa<ReshapeOp, TransposeOp, DropoutOp>(user)) {
        return;
      }
      result = user->getResult(0);
    }
  }

  /// x cos + concat(-x2, x1) sin, or concat(x1 cos - x2 sin, x1 sin + x2 cos).
  void describeRotary(ConcatOp concat) {
    if (concat.getInputs().size() != 2)
      return;
    Value first = concat.getInputs()[0], second = concat.getInputs()[1];
    auto half = [](Value value) {
      auto slice = value.getDefiningOp<SliceOp>();
      return slice ? slice.getInput() : Value();
    };
    auto neg = first.getDefiningOp<NegOp>();
    bool turned = neg && half(neg.getInput()) && half(neg.getInput()) == half(second);
    auto sub = first.getDefiningOp<SubOp>();
    auto sum = second.getDefiningOp<AddOp>();
    bool paired = sub && sum && sub.getLhs().getDefiningOp<MulOp>() && sub.getRhs().getDefiningOp<MulOp>() &&
                  sum.getLhs().getDefiningOp<MulOp>() && sum.getRhs().getDefiningOp<MulOp>();
    if (!turned && !paired)
      return;
    add(Block::Kind::Rotary, concat, "half and half")
        .facts.emplace_back("width", typeOf(concat.getResult()).getShape().back());
  }

  func::FuncOp function;
  SmallVector<AttentionReport> reports;
  std::vector<Block> blocks;
  int layer = 0;
};

} // namespace

StringRef kindName(Block::Kind kind) {
  switch (kind) {
  case Block::Kind::Attention:
    return "attention";
  case Block::Kind::Norm:
    return "norm";
  case Block::Kind::Rotary:
    return "rotary positions";
  case Block::Kind::FeedForward:
    return "feed-forward";
  case Block::Kind::Experts:
    return "experts";
  }
  return "";
}

std::vector<Block> survey(ModuleOp module, StringRef name) {
  OwningOpRef<ModuleOp> copy(module.clone());
  auto function = copy->lookupSymbol<func::FuncOp>(name);
  return function ? Surveyor(function).run() : std::vector<Block>();
}

} // namespace moe::ir::recompose
