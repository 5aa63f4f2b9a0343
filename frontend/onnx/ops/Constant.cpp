//===- Constant.cpp -----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/NodeContext.h"
#include "frontend/onnx/OpTable.h"
#include <cmath>

using namespace mlir;

namespace moe::frontend {
namespace {

void constant(NodeContext &n) {
  if (const onnx::AttributeProto *value = n.attribute("value"))
    return n.output(0, n.constantOf(value->t()));
  if (n.attribute("value_int"))
    return n.output(
        0, n.splat(RankedTensorType::get({}, n.builder.getI64Type()), static_cast<double>(n.integer("value_int", 0))));
  if (const onnx::AttributeProto *value = n.attribute("value_float")) {
    Value number = n.splat(RankedTensorType::get({}, n.builder.getF32Type()), value->f());
    if (std::optional<double> exact = n.exact("value_float"); exact && number)
      number.getDefiningOp()->setAttr(kExactAttribute, n.builder.getF64FloatAttr(*exact));
    return n.output(0, number);
  }
  if (std::optional<Shape> values = n.integerList("value_ints"))
    return n.output(0, n.constant(*values));
  if (const onnx::AttributeProto *value = n.attribute("value_floats")) {
    auto type = RankedTensorType::get({value->floats_size()}, n.builder.getF32Type());
    llvm::SmallVector<float> floats(value->floats().begin(), value->floats().end());
    return n.output(0, n.make<ir::ConstantOp>(type, DenseElementsAttr::get(type, llvm::ArrayRef<float>(floats))));
  }
  n.fail("it holds neither a tensor nor numbers");
  n.output(0, {});
}

void constantOfShape(NodeContext &n) {
  std::optional<Shape> shape = n.integers(0);
  if (!shape)
    return n.output(0, {});
  Value number;
  if (const onnx::AttributeProto *value = n.attribute("value"))
    number = n.reshape(n.constantOf(value->t()), {});
  else
    number = n.splat(RankedTensorType::get({}, n.builder.getF32Type()), 0.0);
  n.output(0, n.broadcastTo(number, *shape));
}

void shapeOf(NodeContext &n) {
  Value x = n.input(0);
  Shape shape = n.shape(x);
  const auto rank = static_cast<int64_t>(shape.size());
  auto clamp = [&](int64_t position) {
    return std::clamp<int64_t>(position < 0 ? position + rank : position, 0, rank);
  };
  int64_t start = clamp(n.integer("start", 0)), end = clamp(n.integer("end", rank));
  n.output(0, n.constant(llvm::ArrayRef<int64_t>(shape).slice(start, std::max<int64_t>(end - start, 0))));
}

void sizeOf(NodeContext &n) {
  Value x = n.input(0);
  int64_t count = 1;
  for (int64_t extent : n.shape(x))
    count *= extent;
  n.output(0, n.reshape(n.constant({count}), {}));
}

/// start, start + step, … below limit: an affine function of an iota.
void range(NodeContext &n) {
  Value start = n.input(0), step = n.input(2);
  std::optional<double> first = n.scalar(0), limit = n.scalar(1), stride = n.scalar(2);
  if (n.failed() || !first || !limit || !stride)
    return n.output(0, {});
  if (*stride == 0.0) {
    n.fail("the step is zero");
    return n.output(0, {});
  }
  double extent = std::max(std::ceil((*limit - *first) / *stride), 0.0);
  RankedTensorType type = n.type({static_cast<int64_t>(std::min(extent, 1e15))}, n.element(start));
  if (n.failed())
    return n.output(0, {});
  // Iota is of integers; a range of floats is a cast of one.
  auto counts = RankedTensorType::get(type.getShape(), n.builder.getI64Type());
  Value index = n.make<ir::IotaOp>(isa<FloatType>(type.getElementType()) ? counts : type, int64_t(0));
  index = n.cast(index, type.getElementType());
  Value scaled = *stride == 1.0 ? index : n.make<ir::MulOp>(index, n.broadcastTo(step, type.getShape()));
  n.output(0, *first == 0.0 ? scaled : n.make<ir::AddOp>(scaled, n.broadcastTo(start, type.getShape())));
}

/// Keeps the upper or lower triangle of the last two dimensions, shifted by `k`.
void triangle(NodeContext &n) {
  Value x = n.input(0);
  int64_t shift = n.hasInput(1) ? static_cast<int64_t>(n.scalar(1).value_or(0.0)) : 0;
  Shape shape = n.shape(x);
  if (!n.failed() && shape.size() < 2)
    n.fail("its operand has fewer than two dimensions");
  if (n.failed())
    return n.output(0, {});
  auto rank = static_cast<int64_t>(shape.size());
  RankedTensorType indices = n.type(shape, n.builder.getI64Type());
  Value row = n.make<ir::IotaOp>(indices, rank - 2), column = n.make<ir::IotaOp>(indices, rank - 1);
  Value diagonal = shift == 0 ? row : n.make<ir::AddOp>(row, n.splatLike(row, static_cast<double>(shift)));
  bool upper = n.integer("upper", 1) != 0;
  Value kept = n.make<ir::CompareOp>(upper ? ir::ComparePredicate::GE : ir::ComparePredicate::LE, column, diagonal);
  n.output(0, n.make<ir::SelectOp>(kept, x, n.splatLike(x, 0.0)));
}

constexpr OpEntry kOps[] = {
    {"", "Constant", 1, constant}, {"", "ConstantOfShape", 9, constantOfShape},
    {"", "Shape", 1, shapeOf},     {"", "Size", 1, sizeOf},
    {"", "Range", 11, range},      {"", "Trilu", 14, triangle},
};

} // namespace

llvm::ArrayRef<OpEntry> constantOps() {
  return kOps;
}

} // namespace moe::frontend
