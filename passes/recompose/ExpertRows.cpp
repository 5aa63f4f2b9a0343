//===- ExpertRows.cpp - What a graph computes per choice of an expert, in rows sorted by expert -------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/ExpertRows.h"

#include "ir/GroupedRows.h"

#include "llvm/ADT/Sequence.h"

using namespace mlir;

namespace moe::ir {

namespace {

int64_t product(ArrayRef<int64_t> sizes) {
  int64_t result = 1;
  for (int64_t size : sizes)
    result *= size;
  return result;
}

/// Rows of a block: padding is at most a block for each expert, an eighth of the rows if the choices are spread evenly.
int64_t blockRows(int64_t choices, int64_t experts) {
  int64_t rows = 64;
  while (rows > 8 && rows * experts * 4 > choices)
    rows /= 2;
  return rows;
}

bool isSplat(Value value) {
  auto constant = value.getDefiningOp<ConstantOp>();
  auto dense = constant ? dyn_cast<DenseElementsAttr>(constant.getValue()) : DenseElementsAttr();
  return dense && dense.isSplat();
}

/// The number that a constant repeats.
std::optional<double> splatNumber(Value value) {
  if (!isSplat(value) || !isa<FloatType>(typeOf(value).getElementType()))
    return std::nullopt;
  return cast<DenseElementsAttr>(value.getDefiningOp<ConstantOp>().getValue())
      .getSplatValue<APFloat>()
      .convertToDouble();
}

/// Divisors that no number makes zero: constants, and 1 + exp(x) as in a sigmoid that is written out.
bool isNeverZero(Value value) {
  if (std::optional<double> number = splatNumber(value))
    return *number != 0;
  auto sum = value.getDefiningOp<AddOp>();
  if (!sum)
    return false;
  for (auto [constant, term] : {std::pair(sum.getLhs(), sum.getRhs()), std::pair(sum.getRhs(), sum.getLhs())})
    if (std::optional<double> number = splatNumber(constant); number && *number > 0 && term.getDefiningOp<ExpOp>())
      return true;
  return false;
}

/// Operations on elements that are finite, and have finite slopes, wherever their operands are.
bool isTame(Operation *op) {
  if (auto quotient = dyn_cast<DivOp>(op))
    return isNeverZero(quotient.getRhs());
  return isa<AddOp, SubOp, MulOp, NegOp, AbsOp, MaxOp, MinOp, ExpOp, TanhOp, ErfOp, SigmoidOp, SinOp, CosOp, ReluOp,
             GeluOp, CompareOp, SelectOp, AndOp, OrOp, NotOp, CastOp>(op);
}

/// The operations that make the forms, if they are the same but for their operands.
Operation *commonOp(const Forms &forms) {
  Operation *first = forms[0].getDefiningOp();
  if (!first || first->getNumResults() != 1)
    return nullptr;
  for (Value form : forms) {
    Operation *op = form.getDefiningOp();
    if (!op || op->getName() != first->getName() || op->getAttrDictionary() != first->getAttrDictionary() ||
        op->getNumOperands() != first->getNumOperands() || form.getType() != forms[0].getType())
      return nullptr;
  }
  return first;
}

Forms operandsAt(const Forms &forms, unsigned operand) {
  return llvm::map_to_vector<6>(forms, [&](Value form) { return form.getDefiningOp()->getOperand(operand); });
}

/// `forms` are the parts of one tensor along its first dimension, in order: that tensor.
Value stackedTensor(const Forms &forms) {
  Value whole;
  for (auto [i, form] : llvm::enumerate(forms)) {
    auto part = behindReshapes(form).getDefiningOp<SliceOp>();
    if (!part || (whole && part.getInput() != whole))
      return {};
    whole = part.getInput();
    ArrayRef<int64_t> shape = typeOf(whole).getShape();
    auto at = static_cast<int64_t>(i);
    if (shape.empty() || shape[0] != static_cast<int64_t>(forms.size()) ||
        product(shape.drop_front()) != typeOf(form).getNumElements() || part.getStarts()[0] != at ||
        part.getLimits()[0] != at + 1)
      return {};
  }
  return whole;
}

/// The tensors [1, ...] that `whole` joins along its first dimension, without that dimension, if they are no parts of
/// anything else.
Forms joinedTensors(Value whole, int64_t count) {
  auto join = behindReshapes(whole).getDefiningOp<ConcatOp>();
  if (!join || join.getDim() != 0 || static_cast<int64_t>(join->getNumOperands()) != count)
    return {};
  ArrayRef<int64_t> shape = typeOf(whole).getShape().drop_front();
  Forms parts;
  for (Value part : join->getOperands()) {
    Value source = behindReshapes(part);
    if (typeOf(source).getShape() != shape)
      return {};
    parts.push_back(source);
  }
  return parts;
}

} // namespace

Value behindReshapes(Value value) {
  while (auto op = value.getDefiningOp<ReshapeOp>())
    value = op.getInput();
  return value;
}

std::optional<int64_t> prefixOf(RankedTensorType type, int64_t count) {
  int64_t size = 1;
  for (int64_t d = 0; d < type.getRank(); ++d) {
    size *= type.getDimSize(d);
    if (size == count)
      return d + 1;
  }
  return std::nullopt;
}

Value repeatedAlongRows(Value value, int64_t count) {
  std::optional<int64_t> prefix = prefixOf(typeOf(value), count);
  auto repeat = behindReshapes(value).getDefiningOp<BroadcastOp>();
  if (!prefix || !repeat || typeOf(repeat.getInput()).getNumElements() != count)
    return {};
  // All dimensions of the operand that are not of size one lead the result, so that the rest repeats them.
  std::optional<int64_t> leading = prefixOf(repeat.getType(), count);
  if (!leading)
    return {};
  for (auto [d, at] : llvm::enumerate(repeat.getDims()))
    if (at >= *leading && typeOf(repeat.getInput()).getDimSize(static_cast<unsigned>(d)) != 1)
      return {};
  return repeat.getInput();
}

ExpertRows::ExpertRows(TensorBuilder builder, Value index, int64_t tokens, int64_t perToken, int64_t experts,
                       bool gathered, RowTables wanted, int64_t together)
    : b(builder), index(index), count(gathered ? tokens * perToken : tokens), perForm(gathered ? 1 : perToken),
      choices(tokens * perToken), experts(experts), tables(wanted), gathered(gathered) {
  if (experts % tables.parts != 0)
    tables = {tables.groups * tables.parts, 1};
  if (tokens % (tables.groups * together) != 0)
    tables.groups = 1;
  block = blockRows(choices / tables.groups, experts);
  Value chosen = b.reshape(b.cast(index, b.builder.getI32Type()), {tables.groups, tokens / tables.groups, perToken});
  auto group = GroupRowsOp::create(b.builder, b.loc, chosen, experts, block, tables.parts);
  slot = group.getSlot();
  token = group.getToken();
  rows = typeOf(token).getDimSize(2);
  blockExpert = group.getBlockExpert();
}

int64_t ExpertRows::prefix(Value form) const {
  return prefixOf(typeOf(form), count).value_or(0);
}

SmallVector<int64_t> ExpertRows::rowShape(Value form) const {
  SmallVector<int64_t> shape{tables.groups, rows};
  llvm::append_range(shape, typeOf(form).getShape().drop_front(prefix(form)));
  return shape;
}

/// The dimensions of the operands of a product, one of which is a weight that is gathered by `index`.
struct ExpertRows::Sides {
  GatherOp gather;
  Value input;
  bool transposed;
};

std::optional<ExpertRows::Sides> ExpertRows::sidesOf(DotOp dot) const {
  auto weightOf = [&](Value operand) {
    auto gather = operand.getDefiningOp<GatherOp>();
    bool fits = gather && behindReshapes(gather.getIndex()) == behindReshapes(index) &&
                typeOf(gather.getTable()).getRank() == 3;
    return fits ? gather : GatherOp();
  };
  GatherOp left = weightOf(dot.getLhs()), right = weightOf(dot.getRhs());
  if (static_cast<bool>(left) == static_cast<bool>(right))
    return std::nullopt;
  GatherOp gather = left ? left : right;
  Value input = left ? dot.getRhs() : dot.getLhs();
  ArrayRef<int64_t> summed = left ? dot.getLhsContract() : dot.getRhsContract();
  int64_t choiceDims = typeOf(gather.getIndex()).getRank();
  SmallVector<int64_t> counting = llvm::to_vector(llvm::seq<int64_t>(0, choiceDims));
  // The choices are the batch, one dimension of the weight is summed over, and the input has one row per choice.
  if (dot.getLhsBatch() != ArrayRef<int64_t>(counting) || dot.getRhsBatch() != ArrayRef<int64_t>(counting) ||
      summed.size() != 1 || typeOf(input).getNumElements() != count * gather.getType().getDimSize(summed[0]))
    return std::nullopt;
  return Sides{gather, input, summed[0] == choiceDims + 1};
}

bool ExpertRows::isProduct(Value value) const {
  auto dot = value.getDefiningOp<DotOp>();
  return dot && gathered && sidesOf(dot);
}

bool ExpertRows::dependsOnExpert(const Forms &forms) {
  if (!gathered)
    return !llvm::all_equal(forms);
  Value value = forms[0];
  Operation *op = value.getDefiningOp();
  if (!op)
    return false;
  auto [at, isNew] = dependent.try_emplace(value.getAsOpaquePointer(), false);
  if (!isNew)
    return at->second;
  bool depends = isProduct(value);
  if (auto gather = dyn_cast<GatherOp>(op))
    depends = behindReshapes(gather.getIndex()) == behindReshapes(index);
  else if (isTame(op) || isa<BroadcastOp, ReshapeOp, SliceOp, ConcatOp>(op))
    depends = llvm::any_of(op->getOperands(), [&](Value operand) { return dependsOnExpert({operand}); });
  return dependent[value.getAsOpaquePointer()] = depends;
}

Value ExpertRows::rowsOf(const Forms &forms) {
  std::vector<void *> key;
  for (Value form : forms)
    key.push_back(form.getAsOpaquePointer());
  auto [at, isNew] = known.try_emplace(std::move(key));
  if (isNew) {
    Value result = compute(forms);
    at->second = result ? result : leaf(forms);
  }
  return at->second;
}

Value ExpertRows::compute(const Forms &forms) {
  if (!prefixOf(typeOf(forms[0]), count))
    return {};
  if (isSplat(forms[0]) && llvm::all_equal(forms)) {
    RankedTensorType type = withShape(typeOf(forms[0]), rowShape(forms[0]));
    auto number = cast<DenseElementsAttr>(forms[0].getDefiningOp<ConstantOp>().getValue());
    return b.make<ConstantOp>(type, cast<ElementsAttr>(number.resizeSplat(type)));
  }
  Operation *op = commonOp(forms);
  if (!op)
    return {};
  // What all choices of a token share is moved as it is, but what a repetition repeats may be smaller.
  if (auto repeat = dyn_cast<BroadcastOp>(op); repeat && !dependsOnExpert(forms))
    return broadcast(forms);
  if (!dependsOnExpert(forms))
    return {};
  if (isTame(op))
    return elementwise(forms);
  if (isa<DotOp>(op))
    return product(forms);
  if (auto gather = dyn_cast<GatherOp>(op); gather && gathered)
    return gatheredRow(gather);
  if (isa<BroadcastOp>(op))
    return broadcast(forms);
  if (isa<ReshapeOp>(op))
    return reshape(forms);
  if (isa<SliceOp>(op))
    return slice(forms);
  if (isa<ConcatOp>(op))
    return concat(forms);
  return {};
}

Value ExpertRows::leaf(const Forms &forms) {
  Value value = forms[0];
  if (!llvm::all_equal(forms) || !isa<FloatType>(typeOf(value).getElementType()) || !prefixOf(typeOf(value), count))
    return {};
  int64_t width = typeOf(value).getNumElements() / count;
  Value source = value;
  int64_t tokens = count, perToken = perForm;
  // Rows that are repeated for each of a token's choices are read from the token.
  if (auto repeat = behindReshapes(value).getDefiningOp<BroadcastOp>(); repeat && gathered) {
    RankedTensorType from = typeOf(repeat.getInput()), to = repeat.getType();
    int64_t outer = from.getNumElements() / width, inner = count / std::max<int64_t>(outer, 1);
    std::optional<int64_t> lead = prefixOf(to, outer);
    bool repeatsNext = width > 0 && outer > 0 && outer * width == from.getNumElements() && outer * inner == count &&
                       inner > 1 && outer % tables.groups == 0 && lead && *lead < to.getRank() &&
                       to.getDimSize(*lead) == inner;
    for (int64_t d : repeat.getDims())
      repeatsNext = repeatsNext && d != *lead;
    for (int64_t d = 0; repeatsNext && d < to.getRank(); ++d)
      repeatsNext = d == *lead || to.getDimSize(d) == 1 || llvm::is_contained(repeat.getDims(), d);
    if (repeatsNext) {
      source = repeat.getInput();
      tokens = outer;
      perToken = inner;
    }
  }
  Value moved = dispatch(b.reshape(source, {tables.groups, tokens / tables.groups, width}), tokens, perToken);
  return b.reshape(moved, rowShape(value));
}

SmallVector<int64_t> ExpertRows::choiceShape(int64_t tokens, int64_t perToken) const {
  return {tables.groups, tokens / tables.groups, perToken};
}

Value ExpertRows::zeroExperts(int64_t tokens, int64_t perToken) {
  return b.splat(RankedTensorType::get(choiceShape(tokens, perToken), b.builder.getI32Type()), 0);
}

Value ExpertRows::dispatch(Value value, int64_t tokens, int64_t perToken) {
  return b.make<DispatchOp>(value, zeroExperts(tokens, perToken), b.reshape(slot, choiceShape(tokens, perToken)), token,
                            Value());
}

Value ExpertRows::combine(Value value, Value weight, int64_t perToken) {
  int64_t tokens = choices / perToken, width = typeOf(value).getNumElements() / (tables.groups * rows);
  SmallVector<int64_t> table = choiceShape(tokens, perToken);
  Value sum = b.make<CombineOp>(b.reshape(value, {1, tables.groups, rows, width}), zeroExperts(tokens, perToken),
                                b.reshape(slot, table), token, weight ? b.reshape(weight, table) : Value());
  SmallVector<int64_t> shape{tokens};
  llvm::append_range(shape, typeOf(value).getShape().drop_front(2));
  return b.reshape(sum, shape);
}

Value ExpertRows::elementwise(const Forms &forms) {
  Operation *op = forms[0].getDefiningOp();
  SmallVector<Value> operands;
  for (unsigned i = 0; i < op->getNumOperands(); ++i) {
    Value operand = rowsOf(operandsAt(forms, i));
    if (!operand)
      return {};
    operands.push_back(operand);
  }
  OperationState state(b.loc, op->getName(), operands, withShape(typeOf(forms[0]), rowShape(forms[0])), op->getAttrs());
  return b.builder.create(state)->getResult(0);
}

Value ExpertRows::product(const Forms &forms) {
  return gathered ? gatheredProduct(forms[0].getDefiningOp<DotOp>()) : separateProduct(forms);
}

/// Rows in parts need one tensor that can be split as they are.
Value ExpertRows::joined(ArrayRef<Value> weights) {
  SmallVector<int64_t> one{1};
  llvm::append_range(one, typeOf(weights[0]).getShape());
  SmallVector<Value> parts;
  for (Value weight : weights)
    parts.push_back(b.reshape(weight, one));
  return b.make<ConcatOp>(parts, 0);
}

Value ExpertRows::multiply(Value rowsOfInput, ArrayRef<Value> weights, bool transposed) {
  if (tables.parts == 1)
    return b.make<GroupedDotOp>(rowsOfInput, blockExpert, weights, transposed);
  Value table = weights.size() == 1 ? weights[0] : joined(weights);
  return b.make<GroupedDotOp>(rowsOfInput, blockExpert, table, transposed, experts / tables.parts, tables.parts);
}

Value ExpertRows::gatheredProduct(DotOp dot) {
  std::optional<Sides> sides = sidesOf(dot);
  Value input = sides ? rowsOf({sides->input}) : Value();
  if (!input)
    return {};
  Forms weights = joinedTensors(sides->gather.getTable(), experts);
  if (weights.empty())
    weights = {sides->gather.getTable()};
  int64_t width = typeOf(sides->input).getNumElements() / count;
  return b.reshape(multiply(b.reshape(input, {tables.groups, rows, width}), weights, sides->transposed), rowShape(dot));
}

Value ExpertRows::separateProduct(const Forms &forms) {
  auto dot = forms[0].getDefiningOp<DotOp>();
  Forms inputs = operandsAt(forms, 0), weights = operandsAt(forms, 1);
  RankedTensorType input = typeOf(inputs[0]), weight = typeOf(weights[0]);
  std::optional<int64_t> leading = prefixOf(input, count);
  // The rows of the input lead, its last dimension is summed over, and the weights are matrices.
  if (!leading || *leading != input.getRank() - 1 || weight.getRank() != 2 || !dot.getLhsBatch().empty() ||
      dot.getLhsContract() != ArrayRef<int64_t>{input.getRank() - 1} || llvm::all_equal(weights))
    return {};
  Value inputRows = rowsOf(inputs);
  if (!inputRows)
    return {};
  Forms tables = weights;
  if (Value stacked = stackedTensor(weights); stacked && typeOf(stacked).getRank() == 3)
    tables = {stacked};
  return multiply(inputRows, tables, dot.getRhsContract()[0] == 1);
}

Value ExpertRows::perExpert(Value table) {
  SmallVector<int64_t> rest(typeOf(table).getShape().drop_front()), result{tables.groups, rows};
  llvm::append_range(result, rest);
  // Rows of parts belong to the table's parts: a product with ones, which splits it as it does weights.
  if (tables.parts > 1) {
    RankedTensorType ones = withShape(typeOf(table), {tables.groups, rows, 1});
    const int64_t width = typeOf(table).getNumElements() / experts;
    Value weights = b.reshape(table, {experts, 1, width});
    return b.reshape(multiply(b.splat(ones, 1), weights, false), result);
  }
  Value gatheredRows = b.make<GatherOp>(table, blockExpert);
  SmallVector<int64_t> shape{tables.groups, rows / block, block}, dims{0, 1};
  llvm::append_range(shape, rest);
  llvm::append_range(dims, llvm::seq<int64_t>(3, static_cast<int64_t>(shape.size())));
  return b.reshape(b.broadcast(gatheredRows, shape, dims), result);
}

Value ExpertRows::gatheredRow(GatherOp gather) {
  // A weight that no product reads would be repeated for all rows.
  if (typeOf(gather.getTable()).getRank() > 2 || !isa<FloatType>(gather.getType().getElementType()))
    return {};
  return b.reshape(perExpert(gather.getTable()), rowShape(gather));
}

Value ExpertRows::broadcast(const Forms &forms) {
  auto repeat = forms[0].getDefiningOp<BroadcastOp>();
  int64_t leading = prefix(repeat);
  SmallVector<int64_t> shape = rowShape(repeat), within, dims;
  for (int64_t d : repeat.getDims())
    (d < leading ? within : dims).push_back(d < leading ? d : d - leading + 2);
  Forms sources = operandsAt(forms, 0);
  if (static_cast<int64_t>(within.size()) == leading) {
    Value source = rowsOf(sources);
    if (!source)
      return {};
    dims.insert(dims.begin(), {0, 1});
    return b.broadcast(source, shape, dims);
  }
  if (!within.empty())
    return {};
  // One vector for all choices, or one for each expert.
  if (llvm::all_equal(sources))
    return b.broadcast(sources[0], shape, dims);
  Value table = stackedTensor(sources);
  if (!table)
    table = joined(sources);
  SmallVector<int64_t> all{experts};
  llvm::append_range(all, typeOf(sources[0]).getShape());
  Value each = perExpert(b.reshape(table, all));
  dims.insert(dims.begin(), {0, 1});
  return b.broadcast(each, shape, dims);
}

Value ExpertRows::reshape(const Forms &forms) {
  Forms sources = operandsAt(forms, 0);
  if (!prefixOf(typeOf(sources[0]), count))
    return {};
  Value source = rowsOf(sources);
  return source ? b.reshape(source, rowShape(forms[0])) : Value();
}

Value ExpertRows::slice(const Forms &forms) {
  auto op = forms[0].getDefiningOp<SliceOp>();
  RankedTensorType from = typeOf(op.getInput());
  std::optional<int64_t> leading = prefixOf(from, count);
  if (!leading || *leading != prefix(op))
    return {};
  SmallVector<int64_t> starts{0, 0}, limits{tables.groups, rows}, strides{1, 1};
  for (int64_t d = *leading; d < from.getRank(); ++d) {
    starts.push_back(op.getStarts()[d]);
    limits.push_back(op.getLimits()[d]);
    strides.push_back(op.getStrides()[d]);
  }
  Value source = rowsOf(operandsAt(forms, 0));
  return source ? b.make<SliceOp>(source, starts, limits, strides) : Value();
}

Value ExpertRows::concat(const Forms &forms) {
  auto op = forms[0].getDefiningOp<ConcatOp>();
  auto dim = static_cast<int64_t>(op.getDim());
  int64_t leading = prefix(op);
  if (dim < leading)
    return {};
  SmallVector<Value> parts;
  for (unsigned i = 0; i < op->getNumOperands(); ++i) {
    Forms part = operandsAt(forms, i);
    Value source = prefixOf(typeOf(part[0]), count) == leading ? rowsOf(part) : Value();
    if (!source)
      return {};
    parts.push_back(source);
  }
  return b.make<ConcatOp>(parts, dim - leading + 2);
}

} // namespace moe::ir
