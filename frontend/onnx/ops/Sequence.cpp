//===- Sequence.cpp - Lists of tensors, which are known at compile time -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// Operand `index` as a position in a list of `count`, from the end if negative; fails if there is none.
std::optional<size_t> position(NodeContext &n, int index, size_t count) {
  std::optional<double> given = n.scalar(index);
  if (!given)
    return std::nullopt;
  auto at = static_cast<int64_t>(*given), size = static_cast<int64_t>(count);
  if (at < -size || at >= size) {
    n.fail("position " + llvm::Twine(at) + " is not in a sequence of " + llvm::Twine(size));
    return std::nullopt;
  }
  return static_cast<size_t>(at < 0 ? at + size : at);
}

void construct(NodeContext &n) {
  Sequence values;
  for (int i = 0; i < n.node.input_size(); ++i)
    values.push_back(n.input(i));
  n.outputSequence(0, std::move(values));
}

void at(NodeContext &n) {
  Sequence values = n.sequence(0);
  std::optional<size_t> place = n.failed() ? std::nullopt : position(n, 1, values.size());
  n.output(0, place ? values[*place] : Value());
}

void insert(NodeContext &n) {
  Sequence values = n.sequence(0);
  Value value = n.input(1);
  std::optional<size_t> place = values.size();
  // One place more than there are elements: the end.
  if (!n.failed() && n.hasInput(2))
    place = n.scalar(2) == static_cast<double>(values.size()) ? values.size() : position(n, 2, values.size());
  if (!n.failed() && place)
    values.insert(values.begin() + static_cast<std::ptrdiff_t>(*place), value);
  n.outputSequence(0, std::move(values));
}

void erase(NodeContext &n) {
  Sequence values = n.sequence(0);
  if (!n.failed() && values.empty())
    n.fail("the sequence is empty");
  std::optional<size_t> place;
  if (!n.failed())
    place = n.hasInput(1) ? position(n, 1, values.size()) : values.size() - 1;
  if (place)
    values.erase(values.begin() + static_cast<std::ptrdiff_t>(*place));
  n.outputSequence(0, std::move(values));
}

void length(NodeContext &n) {
  Sequence values = n.sequence(0);
  n.output(0, n.reshape(n.constant({static_cast<int64_t>(values.size())}), {}));
}

/// Parts of the sizes that operand 1 lists, or all of its size if it is one number, the last one perhaps smaller.
void split(NodeContext &n) {
  Value x = n.input(0);
  int64_t axis = n.axis("axis", 0, n.rank(x));
  if (n.failed())
    return n.outputSequence(0, {});
  const int64_t extent = n.shape(x)[axis];
  Shape sizes;
  const bool listed = n.hasInput(1) && n.rank(n.input(1)) == 1;
  std::optional<Shape> given = n.hasInput(1) ? n.integers(1) : Shape{1};
  if (!given)
    return n.outputSequence(0, {});
  const int64_t each = given->empty() ? 0 : given->front();
  if (listed)
    sizes = *given;
  else if (each > 0 && mayList(n, extent / each))
    for (int64_t start = 0, size = std::min(each, extent); start < extent; start += size)
      sizes.push_back(std::min(size, extent - start));
  int64_t total = 0;
  for (int64_t size : sizes)
    total += size < 0 || size > extent ? kMaxElements + 1 : size;
  if (total != extent)
    n.fail("the parts do not add up to the extent of the dimension");
  Sequence parts;
  for (int64_t start = 0; int64_t size : sizes) {
    if (n.failed())
      break;
    Value part = slicePart(n, x, axis, start, start + size);
    if (!n.hasInput(1) && n.integer("keepdims", 1) == 0) {
      Shape shape = n.shape(x);
      shape.erase(shape.begin() + axis);
      part = n.reshape(part, shape);
    }
    parts.push_back(part);
    start += size;
  }
  n.outputSequence(0, std::move(parts));
}

void concat(NodeContext &n) {
  Sequence values = n.sequence(0);
  if (!n.failed() && values.empty())
    n.fail("the sequence is empty");
  if (n.failed())
    return n.output(0, {});
  const bool stacked = n.integer("new_axis", 0) != 0;
  int64_t axis = n.axis("axis", 0, n.rank(values[0]) + (stacked ? 1 : 0));
  if (stacked && !n.failed())
    for (Value &value : values) {
      Shape shape = n.shape(value);
      if (axis > static_cast<int64_t>(shape.size())) {
        n.fail("the tensors differ in rank");
        break;
      }
      shape.insert(shape.begin() + axis, 1);
      value = n.reshape(value, shape);
    }
  n.output(0, n.failed() || values.size() == 1 ? values[0] : n.make<ir::ConcatOp>(ValueRange(values), axis));
}

/// An optional value is what it holds; one that holds nothing is known as such.
void optional(NodeContext &n) {
  if (n.hasInput(0))
    return passOn(n);
  if (n.wantsOutput(0))
    n.scope.absent.insert(n.node.output(0));
}

void hasElement(NodeContext &n) {
  const bool holds = n.hasInput(0) && !n.program.isAbsent(n.scope, n.node.input(0));
  // What is behind a gap is no answer.
  if (holds && !n.isSequence(0))
    (void)n.input(0);
  n.output(0, n.splat(RankedTensorType::get({}, n.builder.getI1Type()), holds ? 1.0 : 0.0));
}

constexpr OpEntry kOps[] = {
    {"", "SequenceEmpty", 11, construct},
    {"", "SequenceConstruct", 11, construct},
    {"", "SequenceAt", 11, at},
    {"", "SequenceInsert", 11, insert},
    {"", "SequenceErase", 11, erase},
    {"", "SequenceLength", 11, length},
    {"", "SplitToSequence", 11, split},
    {"", "ConcatFromSequence", 11, concat},
    {"", "Optional", 15, optional},
    {"", "OptionalHasElement", 15, hasElement},
    {"", "OptionalGetElement", 15, passOn},
};

} // namespace

llvm::ArrayRef<OpEntry> sequenceOps() {
  return kOps;
}

} // namespace moe::frontend
