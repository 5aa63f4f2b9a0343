//===- NodeContext.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/NodeContext.h"
#include "frontend/onnx/Limits.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/xxhash.h"
#include <algorithm>
#include <charconv>
#include <cmath>

using namespace mlir;

namespace moe::frontend {
namespace {

/// What ONNX says the maximum or minimum of no numbers is: the least or the largest number of the type.
Attribute extremeOfNothing(Builder &builder, Type element, bool maximum) {
  if (isa<FloatType>(element))
    return builder.getFloatAttr(element, maximum ? -INFINITY : INFINITY);
  const unsigned width = element.getIntOrFloatBitWidth();
  if (width == 1)
    return builder.getBoolAttr(!maximum);
  if (element.isUnsignedInteger())
    return builder.getIntegerAttr(element, maximum ? llvm::APInt::getMinValue(width) : llvm::APInt::getMaxValue(width));
  return builder.getIntegerAttr(element, maximum ? llvm::APInt::getSignedMinValue(width)
                                                 : llvm::APInt::getSignedMaxValue(width));
}

/// Whether there are too many extents, or a product of them, some of them perhaps, leaves what sizes are computed with.
/// An extent of zero hides nothing: shapes are taken apart, and the other extents may meet again.
bool isTooLarge(llvm::ArrayRef<int64_t> shape) {
  int64_t count = 1;
  if (shape.size() > kMaxRank)
    return true;
  for (int64_t extent : shape) {
    if (extent > kMaxElements / count)
      return true;
    count *= std::max<int64_t>(extent, 1);
  }
  return false;
}

} // namespace

NodeContext::NodeContext(Program &program, Scope &scope, const onnx::NodeProto &node, int64_t opset)
    : program(program), scope(scope), node(node), opset(opset), builder(program.builder), loc(builder.getUnknownLoc()) {
  atOutput();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Operands and attributes
//===----------------------------------------------------------------------------------------------------------------===//

Value NodeContext::input(int index) {
  if (!hasInput(index)) {
    fail("operand " + llvm::Twine(index) + " is missing");
    return {};
  }
  if (isSequence(index)) {
    fail("operand '" + node.input(index) + "' is a sequence of tensors");
    return {};
  }
  if (program.isAbsent(scope, node.input(index))) {
    fail("operand '" + node.input(index) + "' is an optional value that holds nothing");
    return {};
  }
  Value value = program.lookup(scope, node.input(index));
  // The cause was reported where the operand is computed.
  if (!value)
    hasFailed = true;
  return value;
}

Sequence NodeContext::sequence(int index) {
  const Sequence *found = hasInput(index) ? program.lookupSequence(scope, node.input(index)) : nullptr;
  if (!found && input(index))
    fail("operand '" + node.input(index) + "' is a tensor, not a sequence");
  if (!found)
    return {};
  if (llvm::is_contained(*found, Value())) {
    hasFailed = true;
    return {};
  }
  return spend(Work::kElement * static_cast<double>(found->size())) ? *found : Sequence();
}

std::optional<Shape> NodeContext::integers(int index) {
  Value value = input(index);
  if (!value)
    return std::nullopt;
  std::optional<ir::HostTensor> constant = program.evaluate(value);
  if (!constant || constant->isFloat) {
    fail("operand '" + node.input(index) + "' must be known at compile time, but depends on inputs of the model");
    return std::nullopt;
  }
  return Shape(constant->ints.begin(), constant->ints.end());
}

std::optional<double> NodeContext::scalar(int index) {
  Value value = input(index);
  if (!value)
    return std::nullopt;
  std::optional<ir::HostTensor> constant = program.evaluate(value);
  if (!constant || constant->size() != 1) {
    fail("operand '" + node.input(index) + "' must be a number that is known at compile time");
    return std::nullopt;
  }
  return constant->at(0);
}

std::optional<Shape> NodeContext::axes(int index, int64_t rank, const char *name) {
  std::optional<Shape> result = integerList(name);
  if (!result && hasInput(index))
    result = integers(index);
  if (!result)
    return std::nullopt;
  for (int64_t &axis : *result)
    axis = normalizeAxis(axis, rank);
  llvm::sort(*result);
  if (std::adjacent_find(result->begin(), result->end()) != result->end())
    fail("the axes name a dimension twice");
  return result;
}

const onnx::AttributeProto *NodeContext::attribute(llvm::StringRef name) const {
  for (const onnx::AttributeProto &attribute : node.attribute())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

int64_t NodeContext::integer(llvm::StringRef name, int64_t otherwise) const {
  const onnx::AttributeProto *found = attribute(name);
  return found ? found->i() : otherwise;
}

double NodeContext::real(llvm::StringRef name, double otherwise) const {
  const onnx::AttributeProto *found = attribute(name);
  if (!found)
    return otherwise;
  if (std::optional<double> value = exact(name))
    return *value;
  char digits[64];
  auto [end, error] = std::to_chars(digits, digits + sizeof(digits), found->f());
  double value = found->f();
  std::from_chars(digits, end, value);
  return value;
}

std::optional<double> NodeContext::exact(llvm::StringRef name) const {
  for (const onnx::StringStringEntryProto &entry : node.metadata_props()) {
    llvm::StringRef key = entry.key();
    double value = 0.0;
    if (key.consume_front(kExactPrefix) && key == name && !llvm::StringRef(entry.value()).getAsDouble(value))
      return value;
  }
  return std::nullopt;
}

std::string NodeContext::text(llvm::StringRef name, llvm::StringRef otherwise) const {
  const onnx::AttributeProto *found = attribute(name);
  return found ? found->s() : otherwise.str();
}

std::optional<Shape> NodeContext::integerList(llvm::StringRef name) const {
  const onnx::AttributeProto *found = attribute(name);
  if (!found)
    return std::nullopt;
  return Shape(found->ints().begin(), found->ints().end());
}

int64_t NodeContext::normalizeAxis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank) {
    fail("axis " + llvm::Twine(axis) + " is out of range for a tensor of rank " + llvm::Twine(rank));
    return 0;
  }
  return axis < 0 ? axis + rank : axis;
}

int64_t NodeContext::axis(llvm::StringRef name, int64_t otherwise, int64_t rank) {
  return normalizeAxis(integer(name, otherwise), rank);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------------------------------------------------===//

void NodeContext::fail(const llvm::Twine &why) {
  if (!hasFailed)
    program.reportGap(scope, node, why.str());
  hasFailed = true;
}

bool NodeContext::spend(double cost) {
  if (!program.spend(cost)) {
    if (!hasFailed)
      program.reportLimit(scope, node);
    hasFailed = true;
  }
  return !hasFailed;
}

void NodeContext::output(int index, Value value) {
  if (wantsOutput(index))
    scope.values[node.output(index)] = hasFailed ? Value() : value;
}

void NodeContext::outputSequence(int index, Sequence values) {
  if (!wantsOutput(index))
    return;
  if (hasFailed)
    scope.values[node.output(index)] = Value();
  else
    scope.sequences[node.output(index)] = std::move(values);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Emission
//===----------------------------------------------------------------------------------------------------------------===//

Operation *NodeContext::finish(OperationState &state, Infer infer) {
  if (!spend(Work::kOperation + Work::kValue * state.operands.size()))
    return nullptr;
  std::string message;
  ScopedDiagnosticHandler handler(builder.getContext(), [&](mlir::Diagnostic &diagnostic) {
    message += (message.empty() ? "" : "; ") + diagnostic.str();
    return success();
  });
  if (infer) {
    llvm::SmallVector<Type> types;
    if (llvm::failed(infer(builder.getContext(), loc, state.operands,
                           state.attributes.getDictionary(builder.getContext()), state.getRawProperties(), {},
                           types))) {
      fail(message);
      return nullptr;
    }
    if (llvm::any_of(types, [](Type type) { return isTooLarge(cast<RankedTensorType>(type).getShape()); })) {
      fail(llvm::Twine("a result would have ") + kTooLarge);
      return nullptr;
    }
    state.types.assign(types.begin(), types.end());
  }
  Operation *op = builder.create(state);
  if (llvm::failed(verify(op))) {
    op->erase();
    fail(message);
    return nullptr;
  }
  auto isEmpty = [](Value value) { return ir::typeOf(value).getNumElements() == 0; };
  if (op->getNumResults() > 1 &&
      (llvm::any_of(op->getOperands(), isEmpty) || llvm::any_of(op->getResults(), isEmpty))) {
    op->erase();
    fail("it has no translation for tensors without elements");
    return nullptr;
  }
  return op;
}

Value NodeContext::folded(Operation *op) {
  Value value = program.fold(op->getResult(0));
  if (!value) {
    op->erase();
    fail("it has no translation for tensors without elements");
  }
  return value;
}

void NodeContext::at(llvm::StringRef suffix) {
  position = nodeName(node) + "/" + suffix.str();
  loc = program.location(scope, position);
}

void NodeContext::atOutput() {
  position = node.output_size() > 0 && !node.output(0).empty() ? node.output(0) : nodeName(node);
  loc = program.location(scope, position);
}

int64_t NodeContext::site() const {
  return static_cast<int64_t>(llvm::xxh3_64bits(llvm::StringRef(scope.path + position)));
}

Shape NodeContext::shape(Value value) const {
  if (!value)
    return {};
  return Shape(ir::typeOf(value).getShape());
}

Type NodeContext::element(Value value) const {
  return value ? ir::typeOf(value).getElementType() : Type();
}

RankedTensorType NodeContext::type(llvm::ArrayRef<int64_t> shape, Type element) {
  if (llvm::any_of(shape, [](int64_t extent) { return extent < 0; }) || isTooLarge(shape)) {
    fail(llvm::Twine("a result would have a negative extent or ") + kTooLarge);
    return RankedTensorType::get({}, element);
  }
  return RankedTensorType::get(shape, element);
}

Value NodeContext::splat(RankedTensorType type, double value) {
  Type element = type.getElementType();
  Attribute number;
  if (isa<FloatType>(element)) {
    number = builder.getFloatAttr(element, value);
  } else {
    // All bits of an unsigned number are written as -1 too.
    const unsigned width = element.getIntOrFloatBitWidth();
    const double end = std::ldexp(1.0, static_cast<int>(std::min(width, 63U)));
    if (std::trunc(value) != value || value < -std::ldexp(1.0, static_cast<int>(width) - 1) || value >= end) {
      fail("its operand of integers would meet the number " + llvm::Twine(std::to_string(value)) +
           ", which their type does not have");
      value = 0;
    }
    number = builder.getIntegerAttr(element, llvm::APInt(width, static_cast<uint64_t>(static_cast<int64_t>(value)),
                                                         /*isSigned=*/true, /*implicitTrunc=*/true));
  }
  return make<ir::ConstantOp>(type, DenseElementsAttr::get(type, number));
}

Value NodeContext::splatLike(Value like, double value) {
  if (!like)
    return {};
  Value number = splat(RankedTensorType::get({}, element(like)), value);
  return broadcastTo(number, shape(like));
}

Value NodeContext::constant(llvm::ArrayRef<int64_t> values) {
  auto type = RankedTensorType::get({static_cast<int64_t>(values.size())}, builder.getI64Type());
  return make<ir::ConstantOp>(type, DenseElementsAttr::get(type, values));
}

Value NodeContext::constantOf(const onnx::TensorProto &tensor) {
  std::string elements;
  Type element = program.elementType(tensor.data_type());
  std::optional<int64_t> count = elementCount(tensor);
  if (!element || !count || tensor.data_location() == onnx::TensorProto::EXTERNAL ||
      !program.session.model.readElements(tensor, elements)) {
    fail("its tensor cannot be read: element type " + onnx::TensorProto::DataType_Name(tensor.data_type()) +
         ", or a shape that does not fit its elements");
    return {};
  }
  if (!spend(Work::kConstantByte * static_cast<double>(elements.size())))
    return {};
  RankedTensorType tensorType = type(Shape(tensor.dims().begin(), tensor.dims().end()), element);
  return make<ir::ConstantOp>(tensorType, toAttribute(tensorType, elements));
}

Value NodeContext::reshape(Value value, llvm::ArrayRef<int64_t> to) {
  if (!value || shape(value) == to)
    return value;
  RankedTensorType result = type(to, element(value));
  if (!hasFailed && result.getNumElements() != ir::typeOf(value).getNumElements())
    fail("cannot reshape " + llvm::Twine(ir::typeOf(value).getNumElements()) + " elements to " +
         llvm::Twine(result.getNumElements()));
  return make<ir::ReshapeOp>(result, value);
}

Value NodeContext::transpose(Value value, llvm::ArrayRef<int64_t> permutation) {
  if (!value || llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size())))
    return value;
  return make<ir::TransposeOp>(value, permutation);
}

Value NodeContext::broadcast(Value value, llvm::ArrayRef<int64_t> to, llvm::ArrayRef<int64_t> dims) {
  if (!value || shape(value) == to)
    return value;
  return make<ir::BroadcastOp>(type(to, element(value)), value, dims);
}

Value NodeContext::broadcastTo(Value value, llvm::ArrayRef<int64_t> to) {
  if (!value)
    return {};
  Shape from = shape(value), kept, dims;
  int64_t shift = static_cast<int64_t>(to.size()) - static_cast<int64_t>(from.size());
  for (auto [i, extent] : llvm::enumerate(from)) {
    int64_t target = static_cast<int64_t>(i) + shift;
    if (target < 0 || (extent != 1 && extent != to[target])) {
      fail("shapes do not broadcast");
      return {};
    }
    // An extent of 1 that is repeated is not a dimension of the operand of moe.broadcast.
    if (extent == to[target]) {
      kept.push_back(extent);
      dims.push_back(target);
    }
  }
  if (from == to)
    return value;
  return broadcast(reshape(value, kept), to, dims);
}

Shape NodeContext::commonShape(llvm::ArrayRef<Value> values) {
  Shape result;
  for (Value value : values) {
    Shape other = shape(value);
    if (other.size() > result.size())
      result.insert(result.begin(), other.size() - result.size(), 1);
    size_t shift = result.size() - other.size();
    for (auto [i, extent] : llvm::enumerate(other)) {
      int64_t &mine = result[i + shift];
      if (mine != extent && mine != 1 && extent != 1) {
        std::string shapes;
        llvm::raw_string_ostream stream(shapes);
        llvm::interleaveComma(values, stream, [&](Value each) { stream << ir::typeOf(each); });
        fail("operands of types " + shapes + " do not broadcast to one shape");
        return {};
      }
      if (mine == 1)
        mine = extent;
    }
  }
  return result;
}

Value NodeContext::cast(Value value, Type to) {
  if (!value || element(value) == to)
    return value;
  return make<ir::CastOp>(value, to);
}

Value NodeContext::reduce(Value value, ir::ReduceKind kind, llvm::ArrayRef<int64_t> dims, bool keepDims) {
  if (!value)
    return {};
  Shape kept = shape(value);
  const bool ofNothing = llvm::any_of(dims, [&](int64_t dim) { return kept[dim] == 0; });
  Value result = value;
  if (ofNothing && (kind == ir::ReduceKind::Max || kind == ir::ReduceKind::Min)) {
    Shape rest;
    for (auto [dim, extent] : llvm::enumerate(kept))
      if (!llvm::is_contained(dims, static_cast<int64_t>(dim)))
        rest.push_back(extent);
    RankedTensorType restType = type(rest, element(value));
    Attribute bound = extremeOfNothing(builder, element(value), kind == ir::ReduceKind::Max);
    result = make<ir::ConstantOp>(restType, DenseElementsAttr::get(restType, bound));
  } else if (!dims.empty()) {
    result = make<ir::ReduceOp>(value, kind, dims);
  }
  if (!keepDims)
    return result;
  for (int64_t dim : dims)
    kept[dim] = 1;
  return reshape(result, kept);
}

Value NodeContext::dot(Value a, Value b, llvm::ArrayRef<int64_t> aBatch, llvm::ArrayRef<int64_t> bBatch,
                       llvm::ArrayRef<int64_t> aContract, llvm::ArrayRef<int64_t> bContract) {
  return make<ir::DotOp>(a, b, aBatch, bBatch, aContract, bContract);
}

Value NodeContext::dropout(Value value, double rate) {
  if (rate < 0.0 || rate >= 1.0) {
    fail("a dropout ratio must lie in [0, 1)");
    return {};
  }
  if (program.mode == Mode::Evaluation || rate == 0.0)
    return value;
  return make<ir::DropoutOp>(value, program.rng(), builder.getF64FloatAttr(rate),
                             builder.getI64IntegerAttr(program.session.options.seed),
                             builder.getI64IntegerAttr(site()));
}

} // namespace moe::frontend
