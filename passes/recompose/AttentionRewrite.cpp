//===- AttentionRewrite.cpp - The coarse operation in place of the fine ones --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/Attention.h"

#include <limits>

using namespace mlir;

namespace moe::ir::recompose {

namespace {

/// How many times as wide as the others values, or queries and keys, may become by columns of zeros. Latent attention
/// has values of two thirds of its keys (DeepSeek-AI, arXiv 2405.04434).
constexpr int64_t kMostPadding = 2;

/// One product whose `weightsSide` may be the weights of an attention.
class AttentionRewriter {
public:
  AttentionRewriter(DotOp product, bool weightsAreLeft, KnownValues &values)
      : product(product), weightsAreLeft(weightsAreLeft), values(values) {}

  /// The coarse operation; the product's result is replaced by it.
  Finding<AttentionOp> run() {
    nameAxes();
    Finding<FoundScores> scores = findScores(axes, values, weights);
    if (!scores.found)
      return Finding<AttentionOp>::no(std::move(scores.why));
    found = std::move(*scores.found);
    softmax = found.softmax;
    if (std::string why = assignRoles(); !why.empty())
      return Finding<AttentionOp>::no(std::move(why));
    Finding<FoundMask> masks = findMask(axes, values, found, roles);
    if (!masks.found)
      return Finding<AttentionOp>::no(std::move(masks.why));
    mask = std::move(*masks.found);
    return Finding<AttentionOp>::yes(emit());
  }

  /// Where a softmax was found, whether or not all else was.
  Operation *softmax = nullptr;

private:
  void nameAxes() {
    Value w = weightsAreLeft ? product.getLhs() : product.getRhs(),
          v = weightsAreLeft ? product.getRhs() : product.getLhs();
    ArrayRef<int64_t> wBatch = weightsAreLeft ? product.getLhsBatch() : product.getRhsBatch(),
                      vBatch = weightsAreLeft ? product.getRhsBatch() : product.getLhsBatch(),
                      wContract = weightsAreLeft ? product.getLhsContract() : product.getRhsContract(),
                      vContract = weightsAreLeft ? product.getRhsContract() : product.getLhsContract();
    weights = axes.fresh(w);
    value = axes.fresh(v);
    result = View{product.getResult(), {}};
    for (auto [a, b] : llvm::zip_equal(wBatch, vBatch)) {
      value.dims[b] = weights.dims[a];
      result.dims.push_back(weights.dims[a]);
    }
    for (auto [a, b] : llvm::zip_equal(wContract, vContract)) {
      value.dims[b] = weights.dims[a];
      llvm::append_range(summed, weights.dims[a]);
    }
    SmallVector<int64_t> wFree = weightsAreLeft ? product.lhsFree() : product.rhsFree(),
                         vFree = weightsAreLeft ? product.rhsFree() : product.lhsFree();
    for (int64_t d : vFree)
      llvm::append_range(valueWidth, value.dims[d]);
    auto append = [&](const View &view, ArrayRef<int64_t> dims) {
      for (int64_t d : dims)
        result.dims.push_back(view.dims[d]);
    };
    append(weightsAreLeft ? weights : value, weightsAreLeft ? wFree : vFree);
    append(weightsAreLeft ? value : weights, weightsAreLeft ? vFree : wFree);
  }

  int64_t keySize() const { return axes.size(roles.width); }
  int64_t valueSize() const { return axes.size(valueWidth); }

  static bool contains(ArrayRef<unsigned> list, unsigned axis) { return llvm::is_contained(list, axis); }

  /// Tells batch, heads, groups and queries from each other. Returns why it is no attention that the operation can do.
  std::string assignRoles() {
    value = axes.source(value);
    AxisList inQuery = axes.flat(found.query), inKey = axes.flat(found.key), inValue = axes.flat(value);
    roles.keys = axes.expand(found.scores.dims.back());
    roles.width = axes.expand(found.contracted);
    if (axes.expand(summed) != roles.keys)
      return "its weights are summed over other dimensions than those of the softmax";
    for (unsigned axis : roles.keys)
      if (contains(inQuery, axis) || !contains(inKey, axis) || !contains(inValue, axis))
        return "its keys are not a dimension of keys and values alone";
    // What only queries have are their positions, and heads that share keys. Positions come last.
    SmallVector<AxisList> shared;
    for (const AxisList &dim : ArrayRef<AxisList>(found.scores.dims).drop_back()) {
      AxisList own, common;
      for (unsigned axis : axes.expand(dim))
        (contains(inKey, axis) || contains(inValue, axis) ? common : own).push_back(axis);
      shared.push_back(common);
      if (own.empty())
        continue;
      llvm::append_range(roles.group, roles.queries);
      roles.queries = own;
    }
    if (!shared.empty()) {
      // Sequences come first; one dimension of sequences and heads has been split where something told them apart.
      bool inFirst = llvm::all_of(llvm::drop_begin(shared), [](const AxisList &list) { return list.empty(); });
      for (auto [i, list] : llvm::enumerate(shared))
        for (auto [j, axis] : llvm::enumerate(list))
          (i == 0 && (!inFirst || j == 0) ? roles.batch : roles.keyHeads).push_back(axis);
    }
    if (std::max(keySize(), valueSize()) > kMostPadding * std::min(keySize(), valueSize()))
      return "its values are " + std::to_string(valueSize()) + " wide, its keys " + std::to_string(keySize());
    if (found.dropout) {
      AxisList order = axes.expand(roles.batch);
      llvm::append_range(order, axes.expand(roles.heads()));
      llvm::append_range(order, axes.expand(roles.queries));
      llvm::append_range(order, axes.expand(roles.keys));
      if (order != axes.flat(found.scores))
        return "dropout sees its weights in another order";
    }
    auto type = typeOf(product.getResult()).getElementType();
    SmallVector<Value> operands{found.query.value, found.key.value, value.value};
    if (found.sink) {
      found.sink = axes.source(*found.sink);
      operands.push_back(found.sink->value);
      AxisList heads = axes.expand(roles.heads());
      if (llvm::any_of(axes.flat(*found.sink), [&](unsigned axis) { return !contains(heads, axis); }))
        return "its sinks differ in more than the head";
    }
    for (Value operand : operands)
      if (typeOf(operand).getElementType() != type || typeOf(operand).getEncoding())
        return "its operands are of several types";
    if (typeOf(product.getResult()).getNumElements() == 0)
      return "it is empty";
    for (OpOperand &use : softmax->getResult(0).getUses())
      if (!leadsOnlyToProduct(use.getOwner()))
        return "its weights are used elsewhere too";
    return {};
  }

  /// Whether all uses of the weights end in the product.
  bool leadsOnlyToProduct(Operation *user) {
    if (user == product)
      return true;
    if (auto compare = dyn_cast<CompareOp>(user); compare && compare.getLhs() == compare.getRhs())
      return true;
    return isa<ReshapeOp, TransposeOp, SelectOp, SliceOp, DropoutOp>(user) &&
           llvm::all_of(user->getUsers(), [&](Operation *next) { return leadsOnlyToProduct(next); });
  }

  //===--------------------------------------------------------------------------------------------------------------===//
  // Emission
  //===--------------------------------------------------------------------------------------------------------------===//

  AttentionOp emit() {
    OpBuilder builder(product);
    TensorBuilder b(builder, product.getLoc());
    // Columns of zeros add nothing to the scores, and make columns of the result that nothing reads.
    const int64_t width = std::max(keySize(), valueSize());
    Value query =
              padded(b, axes.arrange(b, found.query, {roles.batch, roles.queries, roles.heads(), roles.width}), width),
          key = padded(b, axes.arrange(b, found.key, {roles.batch, roles.keys, roles.keyHeads, roles.width}), width),
          values = padded(b, axes.arrange(b, value, {roles.batch, roles.keys, roles.keyHeads, valueWidth}), width);
    SmallVector<int64_t> biasDims;
    Value bias = emitBias(b, biasDims), rng;
    double rate = 0;
    uint64_t seed = 0, site = 0;
    if (DropoutOp dropout = found.dropout) {
      rng = dropout.getRng();
      rate = dropout.getRate().convertToDouble();
      seed = dropout.getSeed();
      site = dropout.getSite();
    }
    auto number = [&](double x) { return builder.getF64FloatAttr(x); };
    auto count = [&](uint64_t x) { return builder.getI64IntegerAttr(static_cast<int64_t>(x)); };
    auto attention = AttentionOp::create(
        builder, softmax->getLoc(), query, key, values, emitPadding(b), rng, bias, emitSinks(b), number(found.scale),
        mask.causal ? builder.getUnitAttr() : UnitAttr(), number(rate), count(seed), count(site),
        builder.getDenseI64ArrayAttr(biasDims), number(found.softcap), count(static_cast<uint64_t>(mask.window)));
    View coarse{firstColumns(b, attention.getResult(), valueSize()),
                {roles.batch, roles.queries, roles.heads(), valueWidth}};
    product.getResult().replaceAllUsesWith(axes.arrange(b, coarse, result.dims));
    return attention;
  }

  /// `value` [..., n] with columns of zeros up to `width`.
  static Value padded(TensorBuilder &b, Value value, int64_t width) {
    RankedTensorType type = typeOf(value);
    const int64_t missing = width - type.getShape().back();
    if (missing == 0)
      return value;
    SmallVector<int64_t> none(type.getRank(), 0), high = none;
    high.back() = missing;
    return b.make<PadOp>(value, none, high, none);
  }

  /// The first `width` columns of `value` [..., n].
  static Value firstColumns(TensorBuilder &b, Value value, int64_t width) {
    SmallVector<int64_t> limits(typeOf(value).getShape());
    if (limits.back() == width)
      return value;
    limits.back() = width;
    return b.make<SliceOp>(value, SmallVector<int64_t>(limits.size(), 0), limits,
                           SmallVector<int64_t>(limits.size(), 1));
  }

  /// [batch, keys], true where a key is hidden; null if all are seen.
  Value emitPadding(TensorBuilder &b) {
    Value all;
    for (const HiddenKeys &part : mask.padding) {
      Value hidden = axes.arrange(b, part.condition, {roles.batch, roles.keys});
      if (!part.when)
        hidden = b.make<NotOp>(hidden);
      all = all ? b.make<OrOp>(all, hidden) : hidden;
    }
    return all;
  }

  /// [heads], or null.
  Value emitSinks(TensorBuilder &b) { return found.sink ? axes.arrange(b, *found.sink, {roles.heads()}) : Value(); }

  /// The sum of all terms over those of [batch, heads, queries, keys] on which one of them depends.
  Value emitBias(TensorBuilder &b, SmallVector<int64_t> &dims) {
    const AxisList order[] = {roles.batch, roles.heads(), roles.queries, roles.keys};
    SmallVector<View> views;
    for (const ScoreTerm &term : mask.bias)
      views.push_back(term.view);
    for (const HiddenKeys &hidden : mask.hidden)
      views.push_back(hidden.condition);
    if (!mask.pattern.empty())
      views.push_back(View{{}, {roles.queries, roles.keys}});
    SmallVector<AxisList> wanted;
    for (auto [i, role] : llvm::enumerate(order))
      if (AxisList own = axes.expand(role); llvm::any_of(views, [&](const View &view) {
            return llvm::any_of(axes.flat(view), [&](unsigned axis) { return contains(own, axis); });
          })) {
        dims.push_back(static_cast<int64_t>(i));
        wanted.push_back(role);
      }
    Value sum;
    auto add = [&](Value term) { sum = sum ? b.add(sum, term) : term; };
    for (const ScoreTerm &term : mask.bias) {
      Value part = axes.arrange(b, term.view, wanted);
      add(term.factor == 1 ? part : b.mul(part, term.factor));
    }
    Type element = typeOf(product.getResult()).getElementType();
    constexpr double infinity = std::numeric_limits<double>::infinity();
    auto masked = [&](Value hidden, bool when) {
      Value zero = b.splat(withElement(typeOf(hidden), element), 0.0), hides = b.splatLike(zero, -infinity);
      add(when ? b.select(hidden, hides, zero) : b.select(hidden, zero, hides));
    };
    for (const HiddenKeys &part : mask.hidden)
      masked(axes.arrange(b, part.condition, wanted), part.when);
    if (!mask.pattern.empty()) {
      SmallVector<bool> elements(mask.pattern.begin(), mask.pattern.end());
      auto type = RankedTensorType::get({axes.size(roles.queries), axes.size(roles.keys)}, b.builder.getI1Type());
      Value pattern = ConstantOp::create(b.builder, b.loc, type,
                                         cast<ElementsAttr>(DenseElementsAttr::get(type, ArrayRef<bool>(elements))));
      masked(axes.arrange(b, View{pattern, {roles.queries, roles.keys}}, wanted), true);
    }
    return sum;
  }

  DotOp product;
  bool weightsAreLeft;
  KnownValues &values;
  AxisTable axes;
  View weights, value, result;
  AxisList summed, valueWidth;
  FoundScores found;
  FoundMask mask;
  AttentionAxes roles;
};

} // namespace

void rewriteAttention(Operation *function, KnownValues &values, SmallVectorImpl<AttentionReport> &reports) {
  SmallVector<DotOp> products;
  function->walk([&](DotOp dot) { products.push_back(dot); });
  for (DotOp product : products)
    for (bool left : {true, false}) {
      AttentionRewriter rewriter(product, left, values);
      Finding<AttentionOp> finding = rewriter.run();
      if (finding.found) {
        reports.push_back({*finding.found, {}});
        break;
      }
      if (!finding.why.empty() && rewriter.softmax)
        reports.push_back({rewriter.softmax, std::move(finding.why)});
    }
}

} // namespace moe::ir::recompose
