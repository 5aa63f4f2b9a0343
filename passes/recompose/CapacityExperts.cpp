//===- CapacityExperts.cpp - One-hot tensors of tokens, experts and slots -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// GShard's formulation (Lepikhin et al., arXiv 2006.16668): a tensor T[s,e,c] holds the weight of token s in slot c of
// expert e. Rows of experts are sums of T > 0 with the tokens, and results sums of T with the rows. Here T is read as a
// sum over k of P_k[s,e] (slot_k[s] = c) where
//
//   * P_k has a factor H_k[s,e] = (expert_k[s] = e), so that at most one expert of a token counts;
//   * slot_k[s] = sum over e of H_k (more flags) place_k[s,e], and all these factors are factors of P_k, so that it is
//   the
//     place of the one expert that counts;
//   * place_k = cumsum over s of H_k, minus 1, plus the sums of H_j for all j < k: no two of (token, k) share a place.
//
// Then each (expert, slot) belongs to one (token, k) at most, and tables of indices say all that T does.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/StateFacts.h"
#include "passes/recompose/ExpertRows.h"
#include "passes/recompose/Experts.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// Rows are numbered in float32 on their way into a table.
constexpr int64_t kMostChoices = int64_t{1} << 24;

/// One choice of each token.
struct Choice {
  Value expert; ///< [S] integers
  Value slot;   ///< [S] numbers, whole where the weight is not zero
  Value hot;    ///< H_k [S,E]
  Value weight; ///< P_k [S,E]
};

/// What a tensor of tokens, experts and slots means.
struct Table {
  SmallVector<Choice> choices;
  int64_t tokens = 0, experts = 0, slots = 0;
};

ArrayRef<int64_t> withoutTrailingOnes(ArrayRef<int64_t> shape) {
  while (!shape.empty() && shape.back() == 1)
    shape = shape.drop_back();
  return shape;
}

/// `value` behind reshapes that add or remove dimensions of one at the end.
Value behindOnes(Value value) {
  for (auto op = value.getDefiningOp<ReshapeOp>();
       op && withoutTrailingOnes(typeOf(op.getInput()).getShape()) == withoutTrailingOnes(op.getType().getShape());
       op = value.getDefiningOp<ReshapeOp>())
    value = op.getInput();
  return value;
}

/// The same behind casts too: what a flag was, whatever types it went through.
Value behindCasts(Value value) {
  value = behindOnes(value);
  while (auto cast = value.getDefiningOp<CastOp>())
    value = behindOnes(cast.getInput());
  return value;
}

/// Broadcast of a tensor [n] along dimension `dim` of `value`: that tensor.
Value repeated(Value value, int64_t dim) {
  auto repeat = behindCasts(value).getDefiningOp<BroadcastOp>();
  if (!repeat)
    return {};
  for (auto [d, at] : llvm::enumerate(repeat.getDims()))
    if (at != dim && typeOf(repeat.getInput()).getDimSize(static_cast<unsigned>(d)) != 1)
      return {};
  bool covers = typeOf(repeat.getInput()).getNumElements() == repeat.getType().getDimSize(dim);
  return covers ? repeat.getInput() : Value();
}

/// Whether `value` [n, m] is its own index along dimension 1.
bool countsColumns(Value value) {
  if (auto iota = behindCasts(value).getDefiningOp<IotaOp>())
    return iota.getDim() == 1;
  Value row = repeated(value, 1);
  if (!row)
    return false;
  row = behindCasts(row);
  if (auto iota = row.getDefiningOp<IotaOp>())
    return typeOf(row).getRank() == 1;
  if (auto read = row.getDefiningOp<ReadOp>()) {
    auto state = SymbolTable::lookupNearestSymbolFrom<StateOp>(read, read.getStateAttr());
    return state && state->hasAttr(kCountsAttr);
  }
  auto constant = row.getDefiningOp<ConstantOp>();
  auto dense = constant ? dyn_cast<DenseElementsAttr>(constant.getValue()) : DenseElementsAttr();
  if (!dense)
    return false;
  int64_t next = 0;
  if (isa<IntegerType>(dense.getElementType()))
    return llvm::all_of(dense.getValues<APInt>(), [&](const APInt &n) { return n.getSExtValue() == next++; });
  return llvm::all_of(dense.getValues<APFloat>(),
                      [&](const APFloat &n) { return n.convertToDouble() == static_cast<double>(next++); });
}

/// `value` [S,n] = (x[s] = column): x.
Value oneHotOf(Value value) {
  auto compare = behindCasts(value).getDefiningOp<CompareOp>();
  if (!compare || compare.getPredicate() != ComparePredicate::EQ || compare.getType().getRank() != 2)
    return {};
  for (auto [x, columns] :
       {std::pair(compare.getLhs(), compare.getRhs()), std::pair(compare.getRhs(), compare.getLhs())})
    if (Value source = repeated(x, 0); source && countsColumns(columns))
      return source;
  return {};
}

/// The factors of a product.
void collectFactors(Value value, SmallVectorImpl<Value> &factors) {
  value = behindOnes(value);
  if (auto product = value.getDefiningOp<MulOp>()) {
    collectFactors(product.getLhs(), factors);
    collectFactors(product.getRhs(), factors);
  } else {
    factors.push_back(value);
  }
}

SmallVector<Value> factorsOf(Value value) {
  SmallVector<Value> factors;
  collectFactors(value, factors);
  return factors;
}

bool isFlag(Value value) {
  return typeOf(behindCasts(value)).getElementType().isInteger(1);
}

/// Terms of a sum with their signs; constants in `offset`.
void collectTerms(Value value, bool negative, SmallVectorImpl<std::pair<Value, bool>> &terms, double &offset) {
  value = behindOnes(value);
  auto constant = value.getDefiningOp<ConstantOp>();
  auto dense = constant ? dyn_cast<DenseFPElementsAttr>(constant.getValue()) : DenseFPElementsAttr();
  if (auto sum = value.getDefiningOp<AddOp>()) {
    collectTerms(sum.getLhs(), negative, terms, offset);
    collectTerms(sum.getRhs(), negative, terms, offset);
  } else if (auto difference = value.getDefiningOp<SubOp>()) {
    collectTerms(difference.getLhs(), negative, terms, offset);
    collectTerms(difference.getRhs(), !negative, terms, offset);
  } else if (dense && dense.isSplat()) {
    offset += (negative ? -1 : 1) * dense.getSplatValue<APFloat>().convertToDouble();
  } else {
    terms.emplace_back(value, negative);
  }
}

/// Whether `place` counts, for each expert, the tokens before one that choose it, after all of `earlier`.
bool countsPlaces(Value place, Value hot, ArrayRef<Choice> earlier) {
  SmallVector<std::pair<Value, bool>> terms;
  double offset = 0;
  collectTerms(place, false, terms, offset);
  SmallVector<Value> missing =
      llvm::map_to_vector(earlier, [](const Choice &choice) { return behindCasts(choice.hot); });
  bool counted = false;
  for (auto [term, negative] : terms) {
    if (negative)
      return false;
    if (auto running = term.getDefiningOp<CumsumOp>()) {
      if (counted || running.getDim() != 0 || running.getReverse() ||
          behindCasts(running.getInput()) != behindCasts(hot))
        return false;
      counted = true;
      offset += running.getExclusive() ? 1 : 0;
      continue;
    }
    Value source = repeated(term, 1);
    auto total = source ? behindOnes(source).getDefiningOp<ReduceOp>() : ReduceOp();
    if (!total || total.getKind() != ReduceKind::Sum || total.getDims() != ArrayRef<int64_t>{0})
      return false;
    Value *found = llvm::find(missing, behindCasts(total.getInput()));
    if (found == missing.end())
      return false;
    missing.erase(found);
  }
  return counted && missing.empty() && offset == -1;
}

/// One term of T as a choice of each token, if it is one.
std::optional<Choice> choiceOf(Value term, ArrayRef<Choice> earlier, Table &table) {
  RankedTensorType type = typeOf(term);
  auto product = term.getDefiningOp<MulOp>();
  if (!product)
    return std::nullopt;
  Value weight, slots;
  for (Value factor : product->getOperands()) {
    auto repeat = factor.getDefiningOp<BroadcastOp>();
    if (!repeat || typeOf(repeat.getInput()).getRank() != 2)
      return std::nullopt;
    if (repeat.getDims() == ArrayRef<int64_t>{0, 1})
      weight = repeat.getInput();
    else if (repeat.getDims() == ArrayRef<int64_t>{0, 2})
      slots = repeat.getInput();
  }
  Value slot = slots && isFlag(slots) ? oneHotOf(slots) : Value();
  if (!weight || !slot)
    return std::nullopt;
  SmallVector<Value> factors = factorsOf(weight);

  // slot = sum over the experts of flags times places, among the flags the one-hot of the expert.
  auto picked = behindOnes(slot).getDefiningOp<ReduceOp>();
  if (!picked || picked.getKind() != ReduceKind::Sum || picked.getDims() != ArrayRef<int64_t>{1} ||
      typeOf(picked.getInput()).getRank() != 2)
    return std::nullopt;
  Choice choice;
  choice.slot = slot;
  choice.weight = weight;
  Value place;
  for (Value factor : factorsOf(picked.getInput())) {
    if (!isFlag(factor)) {
      if (place)
        return std::nullopt;
      place = factor;
      continue;
    }
    auto same = [&](Value other) { return behindCasts(other) == behindCasts(factor); };
    if (llvm::none_of(factors, same))
      return std::nullopt;
    if (Value expert = oneHotOf(factor)) {
      choice.expert = expert;
      choice.hot = factor;
    }
  }
  if (!place || !choice.expert || !isa<IntegerType>(typeOf(choice.expert).getElementType()) ||
      !countsPlaces(place, choice.hot, earlier))
    return std::nullopt;
  table.tokens = type.getDimSize(0);
  table.experts = type.getDimSize(1);
  table.slots = type.getDimSize(2);
  if (typeOf(choice.hot).getShape() != type.getShape().take_front(2))
    return std::nullopt;
  return choice;
}

void collectSum(Value value, SmallVectorImpl<Value> &terms) {
  if (auto sum = value.getDefiningOp<AddOp>()) {
    collectSum(sum.getLhs(), terms);
    collectSum(sum.getRhs(), terms);
  } else {
    terms.push_back(value);
  }
}

/// What T [S,E,C] means, if it is as the head of this file says.
std::optional<Table> tableOf(Value tensor) {
  if (typeOf(tensor).getRank() != 3)
    return std::nullopt;
  SmallVector<Value> terms;
  collectSum(tensor, terms);
  Table table;
  for (Value term : terms) {
    std::optional<Choice> choice = choiceOf(term, table.choices, table);
    if (!choice)
      return std::nullopt;
    table.choices.push_back(*choice);
  }
  int64_t count = table.tokens * static_cast<int64_t>(table.choices.size());
  if (count >= kMostChoices || table.experts * table.slots >= kMostChoices)
    return std::nullopt;
  return table;
}

/// Tables of `moe.dispatch` and `moe.combine`, with one routing group.
struct Indices {
  Value expert, slot, token, weight;
};

/// Choices whose weight `predicate` zero have a slot.
Indices buildIndices(TensorBuilder &b, const Table &table, ComparePredicate predicate) {
  int64_t tokens = table.tokens, choices = static_cast<int64_t>(table.choices.size());
  Type i32 = b.builder.getI32Type();
  SmallVector<Value> experts, slots, weights;
  for (const Choice &choice : table.choices) {
    Value hot = b.reshape(behindCasts(choice.hot), {tokens, table.experts});
    Value each = b.reshape(choice.weight, {tokens, table.experts});
    Value weight = b.reduceLast(ReduceKind::Sum, b.select(hot, each, b.splatLike(each, 0.0)));
    Value slot = b.reshape(choice.slot, {tokens});
    Value fits = b.conj(b.compare(predicate, weight, b.splatLike(weight, 0.0)),
                        b.compare(ComparePredicate::LT, slot, b.splatLike(slot, static_cast<double>(table.slots))));
    Value number = b.cast(slot, i32);
    SmallVector<int64_t> column{1, tokens, 1};
    slots.push_back(b.reshape(b.select(fits, number, b.splatLike(number, -1)), column));
    experts.push_back(b.reshape(b.cast(choice.expert, i32), column));
    weights.push_back(b.reshape(weight, column));
  }
  auto joined = [&](ArrayRef<Value> parts) { return parts.size() == 1 ? parts[0] : b.make<ConcatOp>(parts, 2); };
  Indices indices{joined(experts), joined(slots), {}, joined(weights)};
  // Experts come from the graph; where no slot is taken they need not be any.
  Value without = b.compare(ComparePredicate::LT, indices.slot, b.splatLike(indices.slot, 0));
  indices.expert = b.select(without, b.splatLike(indices.expert, 0), indices.expert);

  // The choice in each slot: its number plus one is added to a zero.
  Value place = b.add(b.mul(indices.expert, static_cast<double>(table.slots)), indices.slot);
  place = b.reshape(b.select(without, b.splatLike(place, -1), place), {tokens * choices});
  RankedTensorType numbers = RankedTensorType::get({tokens * choices}, b.builder.getF32Type());
  Value number = b.add(b.cast(b.iota(withElement(numbers, i32), 0), numbers.getElementType()), 1.0);
  Value holders =
      ScatterAddOp::create(b.builder, b.loc, withShape(numbers, {table.experts * table.slots}), place, number, Value());
  indices.token = b.reshape(b.add(b.cast(holders, i32), -1.0), {table.experts, 1, table.slots});
  return indices;
}

/// The tensor T whose elements other than zero, or above zero, `value` marks with ones.
std::pair<Value, ComparePredicate> markedTensor(Value value) {
  auto compare = behindCasts(value).getDefiningOp<CompareOp>();
  if (!compare || typeOf(value).getRank() != 3)
    return {};
  auto zero = compare.getRhs().getDefiningOp<ConstantOp>();
  auto dense = zero ? dyn_cast<DenseFPElementsAttr>(zero.getValue()) : DenseFPElementsAttr();
  ComparePredicate predicate = compare.getPredicate();
  if (!dense || !dense.isSplat() || !dense.getSplatValue<APFloat>().isZero() ||
      (predicate != ComparePredicate::GT && predicate != ComparePredicate::NE))
    return {};
  return {compare.getLhs(), predicate};
}

/// sum over s of mark[s,e,c] x[s,m], the mark on either side.
bool recomposeDispatch(DotOp dot) {
  for (bool left : {true, false}) {
    auto [tensor, predicate] = markedTensor(left ? dot.getLhs() : dot.getRhs());
    Value input = left ? dot.getRhs() : dot.getLhs();
    ArrayRef<int64_t> inputContract = left ? dot.getRhsContract() : dot.getLhsContract();
    if (!tensor || typeOf(input).getRank() != 2 || !dot.getLhsBatch().empty() ||
        (left ? dot.getLhsContract() : dot.getRhsContract()) != ArrayRef<int64_t>{0})
      continue;
    std::optional<Table> table = tableOf(tensor);
    if (!table)
      continue;
    OpBuilder builder(dot);
    TensorBuilder b(builder, dot.getLoc());
    Indices indices = buildIndices(b, *table, predicate);
    Value rows = inputContract[0] == 0 ? input : b.transpose(input, {1, 0});
    int64_t width = typeOf(rows).getDimSize(1);
    Value moved = b.make<DispatchOp>(b.reshape(rows, {1, table->tokens, width}), indices.expert, indices.slot,
                                     indices.token, Value());
    moved = b.reshape(moved, {table->experts, table->slots, width});
    dot.replaceAllUsesWith(left ? moved : b.transpose(moved, {2, 0, 1}));
    return true;
  }
  return false;
}

/// sum over e and c of T[s,e,c] rows[e,c,m], T on either side.
bool recomposeCombine(DotOp dot) {
  for (bool left : {true, false}) {
    Value tensor = left ? dot.getLhs() : dot.getRhs(), rows = left ? dot.getRhs() : dot.getLhs();
    ArrayRef<int64_t> contract = left ? dot.getLhsContract() : dot.getRhsContract();
    ArrayRef<int64_t> rowContract = left ? dot.getRhsContract() : dot.getLhsContract();
    if (typeOf(tensor).getRank() != 3 || typeOf(rows).getRank() != 3 || !dot.getLhsBatch().empty() ||
        contract.size() != 2)
      continue;
    // Dimensions of the rows that are experts, slots and what is left.
    const int64_t *expertAt = llvm::find(contract, 1), *slotAt = llvm::find(contract, 2);
    if (expertAt == contract.end() || slotAt == contract.end())
      continue;
    std::optional<Table> table = tableOf(tensor);
    if (!table)
      continue;
    int64_t expertDim = rowContract[expertAt - contract.begin()], slotDim = rowContract[slotAt - contract.begin()];
    OpBuilder builder(dot);
    TensorBuilder b(builder, dot.getLoc());
    Indices indices = buildIndices(b, *table, ComparePredicate::NE);
    SmallVector<int64_t> order{expertDim, slotDim, 3 - expertDim - slotDim};
    Value sorted = llvm::is_sorted(order) ? rows : b.transpose(rows, order);
    int64_t width = typeOf(sorted).getDimSize(2);
    Value sum = b.make<CombineOp>(b.reshape(sorted, {table->experts, 1, table->slots, width}), indices.expert,
                                  indices.slot, indices.token, indices.weight);
    sum = b.reshape(sum, {table->tokens, width});
    dot.replaceAllUsesWith(left ? sum : b.transpose(sum, {1, 0}));
    return true;
  }
  return false;
}

} // namespace

void recomposeCapacityExperts(func::FuncOp function) {
  Block &block = function.getBody().front();
  for (Operation &op : llvm::make_early_inc_range(block))
    if (auto dot = dyn_cast<DotOp>(op); dot && (recomposeDispatch(dot) || recomposeCombine(dot)))
      dot.erase();
}

} // namespace moe::ir
