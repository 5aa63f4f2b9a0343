//===- InferModel.cpp - Result types of transformer, routing and state operations -------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Infer.h"
#include "ir/LayoutPicture.h"
#include "ir/Reshard.h"
#include "ir/TensorBuilder.h"
#include "mlir/IR/SymbolTable.h"

#include <algorithm>
#include <cmath>

using namespace mlir;

namespace moe::ir {

#define MOE_INFER(OP)                                                                                                  \
  LogicalResult OP::inferReturnTypes(MLIRContext *context, std::optional<Location> loc, Adaptor adaptor,               \
                                     SmallVectorImpl<Type> &results)

MOE_INFER(LayerNormOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  if (type.getRank() == 0 || type.getShape().back() == 0)
    return emitOptionalError(loc, "layer_norm needs a dimension to normalise, got ", type);
  for (Value parameter : {adaptor.getScale(), adaptor.getBias()})
    if (typeOf(parameter).getShape() != type.getShape().take_back())
      return emitOptionalError(loc, "layer_norm of ", type, " needs scale and bias of size ", type.getShape().back());
  RankedTensorType rows = withShape(type, type.getShape().drop_back());
  results.assign({type, rows, rows});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

MOE_INFER(RmsNormOp) {
  RankedTensorType type = typeOf(adaptor.getInput());
  if (type.getRank() == 0 || type.getShape().back() == 0)
    return emitOptionalError(loc, "rms_norm needs a dimension to normalise, got ", type);
  if (typeOf(adaptor.getScale()).getShape() != type.getShape().take_back())
    return emitOptionalError(loc, "rms_norm of ", type, " needs a scale of size ", type.getShape().back());
  results.assign({type, withShape(type, type.getShape().drop_back())});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

MOE_INFER(SoftmaxCrossEntropyOp) {
  RankedTensorType logits = typeOf(adaptor.getLogits()), labels = typeOf(adaptor.getLabels());
  if (logits.getRank() == 0 || labels.getShape() != logits.getShape().drop_back())
    return emitOptionalError(loc, "softmax_cross_entropy of logits ", logits, " needs labels of shape [",
                             logits.getShape().drop_back(), "], got ", labels);
  if (logits.getShape().back() == 0)
    return emitOptionalError(loc, "softmax_cross_entropy needs at least one class, got ", logits);
  RankedTensorType rows = withShape(logits, logits.getShape().drop_back());
  results.assign({rows, rows});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------------------------------------------------===//

/// Checks q [B,T,H,D], k and v [B,S,Hkv,D].
static LogicalResult verifyAttention(std::optional<Location> loc, Value query, Value key, Value value, Value padding,
                                     Value rng, const APFloat &rate) {
  RankedTensorType q = typeOf(query), k = typeOf(key), v = typeOf(value);
  if (q.getRank() != 4 || k.getRank() != 4 || k != v)
    return emitOptionalError(loc, "attention needs query [B,T,H,D] and key, value [B,S,Hkv,D] of one type, got ", q,
                             ", ", k, ", ", v);
  if (q.getDimSize(0) != k.getDimSize(0) || q.getDimSize(3) != k.getDimSize(3) ||
      q.getElementType() != k.getElementType())
    return emitOptionalError(loc, "attention query ", q, " does not fit key ", k);
  if (k.getDimSize(2) == 0 || q.getDimSize(2) % k.getDimSize(2) != 0)
    return emitOptionalError(loc, "attention has ", q.getDimSize(2), " query heads, no multiple of ", k.getDimSize(2),
                             " key heads");
  if (k.getDimSize(1) == 0)
    return emitOptionalError(loc, "attention needs at least one key, got ", k);
  double dropout = rate.convertToDouble();
  if (!(dropout >= 0.0 && dropout < 1.0))
    return emitOptionalError(loc, "attention dropout rate ", dropout, " is outside [0, 1)");
  if (dropout > 0.0 && !rng)
    return emitOptionalError(loc, "attention with dropout needs rng");
  if (rng && failed(verifyRng(loc, rng)))
    return failure();
  if (padding && typeOf(padding).getShape() != ArrayRef<int64_t>({k.getDimSize(0), k.getDimSize(1)}))
    return emitOptionalError(loc, "attention padding must be [batch, keys], got ", typeOf(padding));
  return success();
}

/// Checks `softcap` and `window`.
static LogicalResult verifyLimits(std::optional<Location> loc, const APFloat &softcap, uint64_t window) {
  // A plan has it as float32.
  if (double cap = softcap.convertToDouble(); cap != 0.0 && !(cap > 0.0 && std::isnormal(static_cast<float>(cap))))
    return emitOptionalError(loc, "attention softcap ", cap, " is no positive number or 0");
  if (auto width = static_cast<int64_t>(window); width < 0)
    return emitOptionalError(loc, "attention window ", width, " is negative");
  return success();
}

/// Checks what only the forward operation has: bias and sinks.
static LogicalResult verifyAddedLogits(std::optional<Location> loc, AttentionOp::Adaptor op) {
  RankedTensorType q = typeOf(op.getQuery()), k = typeOf(op.getKey());
  ArrayRef<int64_t> dims = op.getBiasDims();
  if (!op.getBias() && !dims.empty())
    return emitOptionalError(loc, "attention has bias_dims but no bias");
  if (Value bias = op.getBias()) {
    const int64_t scores[] = {q.getDimSize(0), q.getDimSize(2), q.getDimSize(1), k.getDimSize(1)};
    RankedTensorType type = typeOf(bias);
    bool fits = static_cast<size_t>(type.getRank()) == dims.size() && type.getElementType() == q.getElementType();
    for (size_t i = 0; fits && i < dims.size(); ++i)
      fits = dims[i] >= 0 && dims[i] < 4 && (i == 0 || dims[i - 1] < dims[i]) &&
             type.getDimSize(static_cast<unsigned>(i)) == scores[dims[i]];
    if (!fits)
      return emitOptionalError(loc, "attention bias ", type, " is not, by its bias_dims, a part of the scores [",
                               ArrayRef<int64_t>(scores), "] in the type of the query");
  }
  if (Value sinks = op.getSinks(); sinks && (typeOf(sinks).getShape() != ArrayRef<int64_t>({q.getDimSize(2)}) ||
                                             typeOf(sinks).getElementType() != q.getElementType()))
    return emitOptionalError(loc, "attention sinks must be one ", q.getElementType(), " per head, got ", typeOf(sinks));
  return success();
}

/// [B,H,T], float32 for narrower queries: exp(scores - lse) would turn its rounding into a factor.
static RankedTensorType lseType(RankedTensorType query) {
  RankedTensorType type = withShape(query, {query.getDimSize(0), query.getDimSize(2), query.getDimSize(1)});
  return query.getElementTypeBitWidth() < 32 ? withElement(type, Float32Type::get(query.getContext())) : type;
}

MOE_INFER(AttentionOp) {
  if (failed(verifyAttention(loc, adaptor.getQuery(), adaptor.getKey(), adaptor.getValue(), adaptor.getPadding(),
                             adaptor.getRng(), adaptor.getRate())) ||
      failed(verifyLimits(loc, adaptor.getSoftcap(), adaptor.getWindow())) || failed(verifyAddedLogits(loc, adaptor)))
    return failure();
  RankedTensorType q = typeOf(adaptor.getQuery());
  results.assign({q, lseType(q)});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

MOE_INFER(AttentionBackwardOp) {
  if (failed(verifyAttention(loc, adaptor.getQuery(), adaptor.getKey(), adaptor.getValue(), adaptor.getPadding(),
                             adaptor.getRng(), adaptor.getRate())) ||
      failed(verifyLimits(loc, adaptor.getSoftcap(), adaptor.getWindow())))
    return failure();
  RankedTensorType q = typeOf(adaptor.getQuery()), k = typeOf(adaptor.getKey());
  auto fits = [](Value value, RankedTensorType type) {
    return typeOf(value).getShape() == type.getShape() && typeOf(value).getElementType() == type.getElementType();
  };
  if (!fits(adaptor.getResult(), q) || !fits(adaptor.getResultGrad(), q) || !fits(adaptor.getLse(), lseType(q)))
    return emitOptionalError(loc, "attention_backward needs result and result_grad like the query ", q,
                             " and lse of type ", lseType(q));
  results.assign({q, k, k});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

/// Multiply-adds of `products` matrix products over all visible (query, key) pairs; `window` 0: no limit.
static Cost attentionCost(Operation *op, Value query, Value key, bool causal, int64_t window, double products) {
  RankedTensorType q = typeOf(query);
  double queries = static_cast<double>(q.getDimSize(1)), keys = static_cast<double>(typeOf(key).getDimSize(1));
  double pairs = queries * (window > 0 ? std::min(keys, static_cast<double>(window)) : keys);
  double scale = causal && (window == 0 || static_cast<double>(window) >= keys) ? 0.5 : 1.0;
  double perPair = static_cast<double>(q.getDimSize(0) * q.getDimSize(2) * q.getDimSize(3));
  return {2.0 * products * pairs * perPair * scale, bytesMoved(op)};
}

Cost AttentionOp::getCost() {
  return attentionCost(*this, getQuery(), getKey(), getCausal(), static_cast<int64_t>(getWindow()), 2);
}
Cost AttentionBackwardOp::getCost() {
  return attentionCost(*this, getQuery(), getKey(), getCausal(), static_cast<int64_t>(getWindow()), 5);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Routing
//===----------------------------------------------------------------------------------------------------------------===//

MOE_INFER(RouteOp) {
  RankedTensorType logits = typeOf(adaptor.getLogits());
  if (logits.getRank() != 3)
    return emitOptionalError(loc, "route needs logits [groups, tokens, experts], got ", logits);
  int64_t g = logits.getDimSize(0), s = logits.getDimSize(1), e = logits.getDimSize(2);
  int64_t k = adaptor.getTopK(), c = adaptor.getCapacity();
  if (k != 1 && k != 2)
    return emitOptionalError(loc, "route chooses 1 or 2 experts per token, not ", k);
  if (c < 1 || e < 1)
    return emitOptionalError(loc, "route needs experts and a capacity of at least 1, got ", e, " and ", c);
  if (Value mask = adaptor.getMask(); mask && typeOf(mask).getShape() != ArrayRef<int64_t>({g, s}))
    return emitOptionalError(loc, "route mask must be [groups, tokens], got ", typeOf(mask));
  SecondExpertPolicy policy = adaptor.getPolicy();
  bool needsNoise = k == 2 && policy != SecondExpertPolicy::All;
  if (needsNoise != static_cast<bool>(adaptor.getNoise()))
    return emitOptionalError(loc, "route takes noise exactly for the policies sampling and random");
  if (Value noise = adaptor.getNoise()) {
    SmallVector<int64_t> expected =
        policy == SecondExpertPolicy::Sampling ? SmallVector<int64_t>{g, s, e} : SmallVector<int64_t>{g, s};
    if (typeOf(noise).getShape() != ArrayRef<int64_t>(expected))
      return emitOptionalError(loc, "route noise has type ", typeOf(noise), ", which does not fit its policy");
  }
  Type i32 = IntegerType::get(context, 32), f32 = logits.getElementType();
  auto tensor = [&](ArrayRef<int64_t> shape, Type element) { return RankedTensorType::get(shape, element); };
  results.assign({tensor({g, s, k}, i32), tensor({g, s, k}, i32), tensor({g, s, k}, f32), tensor({e, g, c}, i32),
                  tensor({g}, f32), logits, tensor({g, e}, f32), tensor({g, 9}, f32)});
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

MOE_INFER(RouteBackwardOp) {
  RankedTensorType probs = typeOf(adaptor.getProbs()), weight = typeOf(adaptor.getWeightGrad());
  if (probs.getRank() != 3 || weight.getRank() != 3 ||
      probs.getShape().take_front(2) != weight.getShape().take_front(2))
    return emitOptionalError(loc, "route_backward of probs ", probs, " and weight_grad ", weight);
  for (Value index : {adaptor.getExpert(), adaptor.getSlot()})
    if (typeOf(index).getShape() != weight.getShape())
      return emitOptionalError(loc, "route_backward needs expert and slot of shape [", weight.getShape(), "]");
  if (typeOf(adaptor.getAuxGrad()).getShape() != probs.getShape().take_front(1) ||
      typeOf(adaptor.getFirstFraction()).getShape() != ArrayRef<int64_t>({probs.getDimSize(0), probs.getDimSize(2)}))
    return emitOptionalError(loc, "route_backward needs aux_grad [G] and first_fraction [G,E]");
  results.push_back(probs);
  return inferLayouts(loc, layoutRule(adaptor), adaptor.getOperands(), results);
}

/// Checks expert, slot [G,S,K], token [E,G,C], weight [G,S,K] and rows [E,G,C,M] or input [G,S,M] against each other.
static LogicalResult verifyRouted(std::optional<Location> loc, Value expert, Value slot, Value token, Value weight) {
  RankedTensorType e = typeOf(expert), t = typeOf(token);
  if (e.getRank() != 3 || typeOf(slot).getShape() != e.getShape() || t.getRank() != 3 ||
      t.getDimSize(1) != e.getDimSize(0))
    return emitOptionalError(loc, "routing indices must be expert, slot [G,S,K] and token [E,G,C], got ", e, ", ",
                             typeOf(slot), ", ", t);
  if (weight && typeOf(weight).getShape() != e.getShape())
    return emitOptionalError(loc, "routing weight must be [G,S,K], got ", typeOf(weight));
  return success();
}

MOE_INFER(DispatchOp) {
  RankedTensorType x = typeOf(adaptor.getInput()), e = typeOf(adaptor.getExpert()), t = typeOf(adaptor.getToken());
  if (failed(verifyRouted(loc, adaptor.getExpert(), adaptor.getSlot(), adaptor.getToken(), adaptor.getWeight())))
    return failure();
  if (x.getRank() != 3 || x.getShape().take_front(2) != e.getShape().take_front(2))
    return emitOptionalError(loc, "dispatch needs tokens [G,S,M] for expert ", e, ", got ", x);
  SmallVector<int64_t> shape(t.getShape());
  shape.push_back(x.getDimSize(2));
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(), shape, x.getElementType(), results);
}

MOE_INFER(CombineOp) {
  RankedTensorType rows = typeOf(adaptor.getRows()), e = typeOf(adaptor.getExpert()), t = typeOf(adaptor.getToken());
  if (failed(verifyRouted(loc, adaptor.getExpert(), adaptor.getSlot(), adaptor.getToken(), adaptor.getWeight())))
    return failure();
  if (rows.getRank() != 4 || rows.getShape().take_front(3) != t.getShape())
    return emitOptionalError(loc, "combine needs rows [E,G,C,M] for token ", t, ", got ", rows);
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(),
                   {e.getDimSize(0), e.getDimSize(1), rows.getDimSize(3)}, rows.getElementType(), results);
}

MOE_INFER(RoutedDotOp) {
  RankedTensorType x = typeOf(adaptor.getInput()), rows = typeOf(adaptor.getRows()), e = typeOf(adaptor.getExpert());
  if (x.getRank() != 3 || rows.getRank() != 4 || e.getRank() != 3 ||
      typeOf(adaptor.getSlot()).getShape() != e.getShape() ||
      x.getShape().take_front(2) != e.getShape().take_front(2) || x.getDimSize(2) != rows.getDimSize(3) ||
      rows.getDimSize(1) != x.getDimSize(0))
    return emitOptionalError(loc, "routed_dot of ", x, " with ", rows, " by ", e);
  return inferLike(loc, layoutRule(adaptor), adaptor.getOperands(), e.getShape(), x.getElementType(), results);
}

//===----------------------------------------------------------------------------------------------------------------===//
// State and regions
//===----------------------------------------------------------------------------------------------------------------===//

/// A number, or a dictionary that says how to draw, load or copy the first value.
static LogicalResult verifyInitial(StateOp op) {
  Attribute initial = op.getInitialAttr();
  if (!initial || isa<FloatAttr, IntegerAttr>(initial))
    return success();
  auto dictionary = dyn_cast<DictionaryAttr>(initial);
  if (!dictionary || llvm::none_of(ArrayRef<StringRef>{"normal", "uniform", "file", "data"},
                                   [&](StringRef key) { return dictionary.contains(key); }))
    return op.emitOpError() << "has an initial value that is neither a number nor {normal | uniform | file | data = …}";
  if (Attribute data = dictionary.get("data")) {
    auto elements = dyn_cast<ElementsAttr>(data);
    RankedTensorType type = op.getTensorType();
    if (!elements || elements.getShapedType().getShape() != type.getShape() ||
        elements.getElementType() != type.getElementType())
      return op.emitOpError() << "has initial data that is no " << type;
  }
  return success();
}

LogicalResult StateOp::verify() {
  if (getBucket().has_value() != getOffset().has_value())
    return emitOpError() << "needs both bucket and offset, or neither";
  if (getOffset() && static_cast<int64_t>(*getOffset()) < 0)
    return emitOpError() << "has a negative offset";
  return verifyInitial(*this);
}

/// The bucket is a flat state of the same element type that reaches as far as its parts.
LogicalResult StateOp::verifySymbolUses(SymbolTableCollection &symbols) {
  if (getOfAttr() && !symbols.lookupNearestSymbolFrom<StateOp>(*this, getOfAttr()))
    return emitOpError() << "belongs to " << getOfAttr() << ", which is no moe.state";
  if (!getBucketAttr())
    return success();
  auto bucket = symbols.lookupNearestSymbolFrom<StateOp>(*this, getBucketAttr());
  if (!bucket)
    return emitOpError() << "lies in " << getBucketAttr() << ", which is no moe.state";
  RankedTensorType part = getTensorType(), whole = bucket.getTensorType();
  if (bucket.getBucket() || (whole.getRank() != 1 && (whole.getRank() != 2 || whole.getDimSize(0) != 1)) ||
      whole.getElementType() != part.getElementType())
    return emitOpError() << "lies in " << getBucketAttr() << ", which is no flat state of " << part.getElementType();
  int64_t offset = static_cast<int64_t>(*getOffset()), elements = whole.getNumElements();
  if (MeshAttr mesh = MeshAttr::of((*this)->getParentOp()); mesh && isSplitBucket(whole))
    elements = wholeType(whole, mesh).getShape().back();
  if (offset > elements || part.getNumElements() > elements - offset)
    return emitOpError() << "ends after its bucket " << getBucketAttr() << " of " << elements << " elements";
  return success();
}

/// "shard(1)"
static std::string drawn(LayoutAttr layout, unsigned axis) {
  std::string kind = stringifyAxisKind(layout.kind(axis)).str();
  return layout.kind(axis) == AxisKind::Shard ? kind + "(" + std::to_string(layout.getDims()[axis]) + ")" : kind;
}

/// In the program of one rank tensors have no layout, but states keep theirs.
static LogicalResult verifyStateUse(Operation *op, FlatSymbolRefAttr name, Type type, SymbolTableCollection &symbols) {
  auto state = symbols.lookupNearestSymbolFrom<StateOp>(op, name);
  if (!state)
    return op->emitOpError() << "refers to " << name << ", which is no moe.state";
  RankedTensorType declared = state.getTensorType();
  if (declared == type || RankedTensorType::get(declared.getShape(), declared.getElementType()) == type)
    return success();
  InFlightDiagnostic error = op->emitOpError();
  error << "uses " << name << " as " << type << ", but it is " << state.getType();
  auto is = dyn_cast_if_present<LayoutAttr>(declared.getEncoding());
  auto used = dyn_cast_if_present<LayoutAttr>(cast<RankedTensorType>(type).getEncoding());
  if (!is || !used || is.getAxes() != used.getAxes())
    return error;
  for (unsigned axis = 0; axis < is.getAxes().size(); ++axis)
    if (is.with(axis, used.kind(axis), used.getDims()[axis]) != is)
      error.attachNote() << "on mesh axis '" << is.getAxes()[axis].getValue() << "' it is " << drawn(is, axis)
                         << ", but "
                         << (isa<WriteOp>(op) ? "what is written" + describeOrigin(op->getOperand(0), axis)
                                              : "what is read")
                         << " is " << drawn(used, axis)
                         << (used.kind(axis) == AxisKind::Partial ? "; reduce it first" : "");
  drawLayout(error, "the state", declared, op->getParentRegion());
  drawLayout(error, isa<WriteOp>(op) ? "what is written" : "what is read", cast<RankedTensorType>(type),
             op->getParentRegion());
  return error;
}

LogicalResult ReadOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyStateUse(*this, getStateAttr(), getType(), symbols);
}

LogicalResult WriteOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return verifyStateUse(*this, getStateAttr(), getValue().getType(), symbols);
}

LogicalResult FusedOp::verify() {
  Block &block = getBody().front();
  if (block.getArgumentTypes() != getInputs().getTypes())
    return emitOpError() << "has body arguments that differ from its inputs";
  for (Operation &op : block)
    if (!isa<MoeOpInterface, YieldOp>(op))
      return op.emitOpError() << "cannot be part of a fused region";
  auto yield = block.mightHaveTerminator() ? dyn_cast<YieldOp>(block.getTerminator()) : YieldOp();
  if (!yield || yield.getValues().getTypes() != getOutputs().getTypes())
    return emitOpError() << "must yield values of the types of its outputs";
  return success();
}

Cost FusedOp::getCost() {
  Cost cost;
  for (Operation &op : getBody().front().without_terminator())
    cost.flops += cast<MoeOpInterface>(op).getCost().flops;
  cost.bytes = bytesMoved(*this);
  return cost;
}

} // namespace moe::ir
