//===- LoopedExperts.cpp - The layer of every expert on all tokens, weighted --------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A loop over experts, unrolled: y[s] = … + F_0(x)[s] w_0[s] + F_1(x)[s] w_1[s] + … where the layers F_e compute the
// same with weights of their own, and w_e[s] = sum over k of weight[s,k] (index[s,k] = e). All but the chosen experts
// are multiplied by zero, so that y[s] = … + sum over k of weight[s,k] F_index[s,k](x)[s].
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/ExpertRows.h"
#include "passes/recompose/Experts.h"

#include "llvm/ADT/STLExtras.h"
#include <map>

using namespace mlir;

namespace moe::ir {

namespace {

/// index and weight [S,K] of the choices, and the expert for which they were found.
struct Chosen {
  Value index, weight;
  int64_t expert = 0;
};

/// The constant of one number that `value` repeats, through whatever does not change which number that is.
DenseElementsAttr repeatedNumber(Value value) {
  for (;;) {
    Operation *op = value.getDefiningOp();
    if (!isa_and_present<ReshapeOp, BroadcastOp, CastOp>(op) || typeOf(value).getElementType().isInteger(1))
      break;
    value = op->getOperand(0);
  }
  auto constant = value.getDefiningOp<ConstantOp>();
  auto dense = constant ? dyn_cast<DenseElementsAttr>(constant.getValue()) : DenseElementsAttr();
  return dense && dense.isSplat() ? dense : DenseElementsAttr();
}

/// The integer that a constant repeats.
std::optional<int64_t> splatInteger(Value value) {
  auto dense = dyn_cast_if_present<DenseIntElementsAttr>(repeatedNumber(value));
  if (!dense)
    return std::nullopt;
  return dense.getSplatValue<APInt>().getSExtValue();
}

bool isZero(Value value) {
  DenseElementsAttr dense = repeatedNumber(value);
  if (auto numbers = dyn_cast_if_present<DenseFPElementsAttr>(dense))
    return numbers.getSplatValue<APFloat>().isZero();
  return splatInteger(value) == 0;
}

Value behindCasts(Value value) {
  while (auto cast = value.getDefiningOp<CastOp>())
    value = cast.getInput();
  return value;
}

/// `value` as a flag times a number of the same shape.
std::optional<std::pair<CompareOp, Value>> flagged(Value value) {
  auto equality = [](Value flag) {
    auto compare = behindCasts(flag).getDefiningOp<CompareOp>();
    return compare && compare.getPredicate() == ComparePredicate::EQ &&
                   isa<IntegerType>(typeOf(compare.getLhs()).getElementType())
               ? compare
               : CompareOp();
  };
  if (auto select = value.getDefiningOp<SelectOp>())
    if (CompareOp compare = equality(select.getCondition()); compare && isZero(select.getRhs()))
      return std::pair(compare, select.getLhs());
  if (auto product = value.getDefiningOp<MulOp>())
    for (auto [flag, number] :
         {std::pair(product.getLhs(), product.getRhs()), std::pair(product.getRhs(), product.getLhs())})
      if (CompareOp compare = equality(flag))
        return std::pair(compare, number);
  return std::nullopt;
}

/// The sum along the last dimension of size `choices` that `value` is, or `value` where each token has one choice.
Value summed(Value value) {
  value = behindReshapes(value);
  auto sum = value.getDefiningOp<ReduceOp>();
  return sum && sum.getKind() == ReduceKind::Sum && sum.getDims().size() == 1 ? sum.getInput() : value;
}

/// [s] or [s, 1] = sum over k of weight[s,k] (index[s,k] = e) with a constant e.
std::optional<Chosen> chosenDirectly(Value value, int64_t tokens) {
  Value terms = summed(value);
  auto sum = behindReshapes(value).getDefiningOp<ReduceOp>();
  if (sum && terms == sum.getInput() && sum.getDims()[0] != typeOf(terms).getRank() - 1)
    return std::nullopt;
  std::optional<std::pair<CompareOp, Value>> pair = flagged(terms);
  if (!pair || typeOf(terms).getNumElements() % tokens != 0 || !prefixOf(typeOf(terms), tokens))
    return std::nullopt;
  CompareOp compare = pair->first;
  for (auto [index, number] :
       {std::pair(compare.getLhs(), compare.getRhs()), std::pair(compare.getRhs(), compare.getLhs())})
    if (std::optional<int64_t> expert = splatInteger(number))
      return Chosen{behindReshapes(index), behindReshapes(pair->second), *expert};
  return std::nullopt;
}

/// Column e of D[s,e] = sum over k of weight[s,k] (index[s,k] = e).
std::optional<Chosen> chosenByColumn(Value value, int64_t tokens) {
  auto column = behindReshapes(value).getDefiningOp<SliceOp>();
  if (!column || typeOf(column).getRank() != 2 || typeOf(column).getDimSize(1) != 1 ||
      typeOf(column).getDimSize(0) != tokens)
    return std::nullopt;
  auto sum = behindReshapes(column.getInput()).getDefiningOp<ReduceOp>();
  if (!sum || sum.getKind() != ReduceKind::Sum || sum.getDims() != ArrayRef<int64_t>{1} ||
      typeOf(sum.getInput()).getRank() != 3 || typeOf(sum.getInput()).getDimSize(0) != tokens ||
      sum.getType().getShape() != typeOf(column.getInput()).getShape())
    return std::nullopt;
  std::optional<std::pair<CompareOp, Value>> pair = flagged(sum.getInput()); // [S,K,E]
  if (!pair)
    return std::nullopt;
  // Both the index and the weight are repeated along the experts.
  int64_t choices = tokens * typeOf(sum.getInput()).getDimSize(1);
  Value weight = repeatedAlongRows(pair->second, choices);
  for (auto [index, number] :
       {std::pair(pair->first.getLhs(), pair->first.getRhs()), std::pair(pair->first.getRhs(), pair->first.getLhs())}) {
    auto iota = number.getDefiningOp<IotaOp>();
    auto repeat = number.getDefiningOp<BroadcastOp>();
    bool counts = iota && iota.getDim() == 2;
    if (repeat && repeat.getDims() == ArrayRef<int64_t>{2}) {
      auto constant = repeat.getInput().getDefiningOp<ConstantOp>();
      auto dense = constant ? dyn_cast<DenseIntElementsAttr>(constant.getValue()) : DenseIntElementsAttr();
      int64_t next = 0;
      counts =
          dense && llvm::all_of(dense.getValues<APInt>(), [&](const APInt &n) { return n.getSExtValue() == next++; });
    }
    if (Value source = counts ? repeatedAlongRows(index, choices) : Value(); source && weight)
      return Chosen{behindReshapes(source), behindReshapes(weight), column.getStarts()[1]};
  }
  return std::nullopt;
}

/// One term of the sum: what an expert computes for all tokens, and who chose it.
struct Term {
  Value layer;
  Chosen chosen;
};

std::optional<Term> termOf(Value value) {
  Value product = behindReshapes(value);
  auto op = product.getDefiningOp<MulOp>();
  if (!op || !product.hasOneUse() || !value.hasOneUse())
    return std::nullopt;
  for (auto [layer, factor] : {std::pair(op.getLhs(), op.getRhs()), std::pair(op.getRhs(), op.getLhs())}) {
    auto repeat = behindReshapes(factor).getDefiningOp<BroadcastOp>();
    int64_t tokens = repeat ? typeOf(repeat.getInput()).getNumElements() : 0;
    Value weight = tokens > 1 ? repeatedAlongRows(factor, tokens) : Value();
    if (!weight)
      continue;
    std::optional<Chosen> chosen = chosenDirectly(weight, tokens);
    if (!chosen)
      chosen = chosenByColumn(weight, tokens);
    if (chosen && typeOf(chosen->index).getNumElements() == typeOf(chosen->weight).getNumElements() &&
        typeOf(chosen->index).getNumElements() % tokens == 0)
      return Term{layer, *chosen};
  }
  return std::nullopt;
}

/// The terms of a sum, those inside of it that have other uses not taken apart.
void collectTerms(Value value, bool isRoot, SmallVectorImpl<Value> &terms) {
  auto sum = value.getDefiningOp<AddOp>();
  if (!sum || (!isRoot && !value.hasOneUse())) {
    terms.push_back(value);
    return;
  }
  collectTerms(sum.getLhs(), false, terms);
  collectTerms(sum.getRhs(), false, terms);
}

bool isRootOfSum(AddOp sum) {
  return !sum->hasOneUse() || !isa<AddOp>(*sum->user_begin());
}

bool recompose(AddOp root, RowTables tables) {
  SmallVector<Value> terms, others;
  collectTerms(root, true, terms);
  std::map<int64_t, Term> layers;
  for (Value value : terms) {
    std::optional<Term> term = termOf(value);
    bool fits = term && !layers.contains(term->chosen.expert);
    if (fits && !layers.empty()) {
      const Chosen &first = layers.begin()->second.chosen;
      fits = first.index == term->chosen.index && first.weight == term->chosen.weight &&
             layers.begin()->second.layer.getType() == term->layer.getType();
    }
    if (fits)
      layers.emplace(term->chosen.expert, *term);
    else
      others.push_back(value);
  }
  // Experts 0, 1, …, at least two.
  auto experts = static_cast<int64_t>(layers.size());
  if (experts < 2 || layers.begin()->first != 0 || layers.rbegin()->first != experts - 1)
    return false;
  Forms forms;
  for (auto &[expert, term] : layers)
    forms.push_back(term.layer);
  const Chosen &chosen = layers.begin()->second.chosen;
  // The leading elements of a layer's value are the tokens: as many as its terms have weights.
  int64_t width = typeOf(forms[0]).getShape().back(), tokens = typeOf(forms[0]).getNumElements() / width;
  int64_t choices = typeOf(chosen.index).getNumElements();
  if (width == 0 || choices % tokens != 0)
    return false;

  OpBuilder builder(root);
  TensorBuilder b(builder, root.getLoc());
  // What no layer answers to chooses none.
  Value index = b.cast(chosen.index, builder.getI32Type());
  Value inside = b.compare(ComparePredicate::LT, index, b.splatLike(index, static_cast<double>(experts)));
  index = b.select(inside, index, b.splatLike(index, -1));
  ExpertRows rows(b, index, tokens, choices / tokens, experts, false, tables);
  Value products = rows.rowsOf(forms);
  if (!products)
    return false;
  RankedTensorType type = root.getType();
  Value sum = b.reshape(rows.combine(products, chosen.weight, choices / tokens), type.getShape());
  for (Value other : others)
    if (!isZero(other))
      sum = b.add(other, sum);
  root.replaceAllUsesWith(sum);
  return true;
}

} // namespace

void recomposeLoopedExperts(func::FuncOp function, RowTables tables) {
  Block &block = function.getBody().front();
  SmallVector<AddOp> roots;
  for (AddOp sum : block.getOps<AddOp>())
    if (isRootOfSum(sum))
      roots.push_back(sum);
  // Roots do not use one another's terms: what is replaced stays until the end.
  for (AddOp root : roots)
    recompose(root, tables);
}

} // namespace moe::ir
