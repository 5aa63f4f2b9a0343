//===- RandomRegion.cpp - Expression trees over shapes ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "RandomRegion.h"

#include "ir/TensorBuilder.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen::test {

namespace {

using Shape = SmallVector<int64_t>;

class Generator {
public:
  Generator(MLIRContext &context, std::mt19937_64 &random)
      : context(context), random(random), inner(&context), b(inner, UnknownLoc::get(&context)) {
    inner.setInsertionPointToEnd(&block);
  }

  Case make(StringRef emitter);

private:
  int64_t draw(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return draw(1, 100) <= percent; }
  Shape shape(int64_t rank, int64_t maxElements);
  int64_t size() {
    static constexpr int64_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 96, 255, 256, 1031};
    return sizes[draw(0, std::size(sizes) - 1)];
  }
  RankedTensorType type(ArrayRef<int64_t> shape, Type element) { return RankedTensorType::get(shape, element); }
  Type f32() { return inner.getF32Type(); }
  Type i32() { return inner.getI32Type(); }
  Type i1() { return inner.getI1Type(); }

  Value input(RankedTensorType type, int64_t low = -2, int64_t high = 5);
  Value leaf(const Shape &shape);
  Value value(const Shape &shape, int depth);
  Value unary(Value x);
  Value binary(const Shape &shape, int depth);
  Value condition(const Shape &shape);
  Value access(const Shape &shape, int depth);
  Value gather(const Shape &shape, int depth);
  Value concat(const Shape &shape, int depth);
  Value reshape(const Shape &shape, int depth);
  /// [positive, at least 0.5].
  Value positive(Value x) { return b.add(b.make<AbsOp>(x), 0.5); }
  ReduceKind kind() { return static_cast<ReduceKind>(draw(0, 2)); }

  void rows(SmallVectorImpl<Value> &outputs);
  void columns(SmallVectorImpl<Value> &outputs);
  void pointwise(SmallVectorImpl<Value> &outputs);
  void indirect(SmallVectorImpl<Value> &outputs);
  void optimizer(SmallVectorImpl<Value> &outputs);

  MLIRContext &context;
  std::mt19937_64 &random;
  Block block;
  OpBuilder inner;
  TensorBuilder b;
  std::vector<HostTensor> inputs;
};

Shape Generator::shape(int64_t rank, int64_t maxElements) {
  Shape result;
  int64_t count = 1;
  for (int64_t d = 0; d < rank; ++d) {
    int64_t s = size();
    while (count * s > maxElements)
      s = std::max<int64_t>(1, s / 3);
    result.push_back(s);
    count *= s;
  }
  if (rank > 0)
    std::swap(result[draw(0, rank - 1)], result.back());
  return result;
}

Value Generator::input(RankedTensorType type, int64_t low, int64_t high) {
  inputs.push_back(drawTensor(type, random, low, high));
  return block.addArgument(type, b.loc);
}

Value Generator::leaf(const Shape &shape) {
  switch (draw(0, 11)) {
  case 0:
    return b.splat(type(shape, f32()), static_cast<double>(draw(-8, 8)) / 4);
  case 1:
    if (!shape.empty()) {
      // Large indices would swamp everything else, and make sin and cos worth as little as the last bit of a sum.
      Value index = b.iota(type(shape, i32()), draw(0, shape.size() - 1));
      return b.mul(b.cast(index, f32()), 0x1p-12);
    }
    break;
  case 2:
    return b.make<RandomUniformOp>(type(shape, f32()), input(type({2}, inner.getI64Type()), 0, 1000),
                                   uint64_t(draw(0, 9)), uint64_t(random()));
  case 3: {
    int64_t count = ShapedType::getNumElements(shape);
    if (count > 64)
      break;
    SmallVector<float> numbers;
    for (int64_t i = 0; i < count; ++i)
      numbers.push_back(static_cast<float>(draw(-16, 16)) / 8);
    return b.make<ConstantOp>(type(shape, f32()), DenseElementsAttr::get(type(shape, f32()), ArrayRef<float>(numbers)));
  }
  case 4:
    return b.cast(input(type(shape, inner.getBF16Type())), f32());
  case 5:
    return b.cast(input(type(shape, inner.getF16Type())), f32());
  case 6:
    return b.cast(input(type(shape, chance(50) ? Type(inner.getI64Type()) : i32())), f32());
  default:
    break;
  }
  // Often the same input twice.
  for (BlockArgument argument : block.getArguments())
    if (argument.getType() == type(shape, f32()) && chance(40))
      return argument;
  return input(type(shape, f32()));
}

Value Generator::unary(Value x) {
  switch (draw(0, 15)) {
  case 0:
    return b.neg(x);
  case 1:
    return b.make<AbsOp>(x);
  case 2:
    return b.exp(b.neg(b.make<AbsOp>(x)));
  case 3:
    return b.log(positive(x));
  case 4:
    return b.sqrt(positive(x));
  case 5:
    return b.rsqrt(positive(x));
  case 6:
    return b.tanh(x);
  case 7:
    return b.make<ErfOp>(x);
  case 8:
    return b.make<SigmoidOp>(x);
  case 9:
    return b.make<SinOp>(x);
  case 10:
    return b.make<CosOp>(x);
  case 11:
    return b.make<ReluOp>(x);
  case 12:
    return GeluOp::create(inner, b.loc, x, GeluKindAttr::get(&context, chance(50) ? GeluKind::Erf : GeluKind::Tanh))
        .getResult();
  case 13:
    return b.cast(b.cast(x, inner.getBF16Type()), f32());
  case 14:
    return b.cast(b.cast(x, i32()), f32());
  default:
    return b.cast(b.cast(x, i1()), f32());
  }
}

/// Comparisons read inputs only: whether a computed value lies on one side of another may depend on its last bit.
Value Generator::condition(const Shape &shape) {
  switch (draw(0, 4)) {
  case 0:
    return input(type(shape, i1()));
  case 1:
    return b.make<NotOp>(input(type(shape, i1())));
  case 2:
    return b.make<IsFiniteOp>(input(type(shape, f32())));
  case 3: {
    Value index = input(type(shape, i32()));
    Value shifted = b.div(index, b.add(input(type(shape, i32()), 1, 4), 1.0));
    return b.compare(static_cast<ComparePredicate>(draw(0, 5)), shifted, b.splatLike(index, 1));
  }
  default:
    return b.compare(static_cast<ComparePredicate>(draw(0, 5)), input(type(shape, f32())), input(type(shape, f32())));
  }
}

Value Generator::binary(const Shape &shape, int depth) {
  Value x = value(shape, depth - 1), y = value(shape, depth - 1);
  switch (draw(0, 7)) {
  case 0:
    return b.add(x, y);
  case 1:
    return b.sub(x, y);
  case 2:
    return b.mul(x, y);
  case 3:
    return b.div(x, positive(y));
  case 4:
    return b.max(x, y);
  case 5:
    return b.min(x, y);
  case 6:
    return b.select(condition(shape), x, y);
  default:
    return AddNOp::create(inner, b.loc, ValueRange{x, y, leaf(shape)}).getResult();
  }
}

Value Generator::concat(const Shape &shape, int depth) {
  size_t dim = draw(0, shape.size() - 1);
  if (shape[dim] < 2)
    return value(shape, depth - 1);
  Shape left = shape, right = shape;
  left[dim] = draw(1, shape[dim] - 1);
  right[dim] = shape[dim] - left[dim];
  Value x = value(left, depth - 1), y = value(right, depth - 1);
  return ConcatOp::create(inner, b.loc, ValueRange{x, y}, inner.getI64IntegerAttr(dim)).getResult();
}

Value Generator::reshape(const Shape &shape, int depth) {
  Shape other = shape;
  if (!other.empty() && chance(50)) {
    size_t dim = draw(0, other.size() - 1);
    for (int64_t factor : {2, 3, 5, 17})
      if (other[dim] % factor == 0) {
        other[dim] /= factor;
        other.insert(other.begin() + dim + draw(0, 1), factor);
        break;
      }
  } else if (other.size() > 1) {
    size_t dim = draw(0, other.size() - 2);
    other[dim] *= other[dim + 1];
    other.erase(other.begin() + dim + 1);
  } else {
    other.insert(other.begin() + draw(0, other.size()), 1);
  }
  return b.reshape(value(other, depth - 1), shape);
}

Value Generator::gather(const Shape &shape, int depth) {
  if (shape.empty())
    return leaf(shape);
  size_t rank = draw(1, shape.size());
  Shape tableShape{draw(1, 9)};
  tableShape.append(shape.begin() + rank, shape.end());
  Type element = chance(30) ? Type(inner.getI64Type()) : i32();
  Value index = input(type(ArrayRef<int64_t>(shape).take_front(rank), element), -1, tableShape[0] - 1);
  return b.make<GatherOp>(value(tableShape, depth - 1), index);
}

Value Generator::access(const Shape &shape, int depth) {
  size_t rank = shape.size();
  switch (draw(0, 6)) {
  case 0: {
    Shape source;
    SmallVector<int64_t> dims;
    for (size_t d = 0; d < rank; ++d)
      if (chance(60)) {
        dims.push_back(d);
        source.push_back(shape[d]);
      }
    return b.broadcast(value(source, depth - 1), shape, dims);
  }
  case 1: {
    SmallVector<int64_t> permutation;
    for (size_t d = 0; d < rank; ++d)
      permutation.push_back(d);
    std::shuffle(permutation.begin(), permutation.end(), random);
    Shape source(rank);
    for (size_t d = 0; d < rank; ++d)
      source[permutation[d]] = shape[d];
    return b.transpose(value(source, depth - 1), permutation);
  }
  case 2:
    return reshape(shape, depth);
  case 3: {
    Shape source = shape, starts(rank), limits(rank), strides(rank);
    for (size_t d = 0; d < rank; ++d) {
      starts[d] = draw(0, 2);
      strides[d] = chance(25) ? draw(2, 3) : 1;
      limits[d] = starts[d] + (shape[d] - 1) * strides[d] + 1;
      source[d] = limits[d] + draw(0, 2);
    }
    return b.make<SliceOp>(value(source, depth - 1), inner.getDenseI64ArrayAttr(starts),
                           inner.getDenseI64ArrayAttr(limits), inner.getDenseI64ArrayAttr(strides));
  }
  case 4: {
    Shape source = shape, low(rank), high(rank), interior(rank);
    for (size_t d = 0; d < rank; ++d) {
      if (shape[d] < 4 || chance(40))
        continue;
      interior[d] = chance(25) ? 1 : 0;
      int64_t room = shape[d] - (interior[d] ? (shape[d] % 2 ? 0 : 1) : 0);
      low[d] = interior[d] ? (shape[d] % 2 ? 0 : 1) : draw(0, 2);
      high[d] = interior[d] ? 0 : draw(0, 1);
      source[d] = interior[d] ? (room + 1) / 2 : shape[d] - low[d] - high[d];
    }
    return b.make<PadOp>(value(source, depth - 1), inner.getDenseI64ArrayAttr(low), inner.getDenseI64ArrayAttr(high),
                         inner.getDenseI64ArrayAttr(interior));
  }
  case 5:
    return rank == 0 ? leaf(shape) : concat(shape, depth);
  default:
    return gather(shape, depth);
  }
}

Value Generator::value(const Shape &shape, int depth) {
  if (depth <= 0)
    return leaf(shape);
  int64_t choice = draw(0, 9);
  if (choice < 3)
    return unary(value(shape, depth - 1));
  if (choice < 7)
    return binary(shape, depth);
  return access(shape, depth);
}

void Generator::pointwise(SmallVectorImpl<Value> &outputs) {
  Shape domain = shape(draw(0, 4), 20000);
  for (int64_t i = 0, count = draw(1, 3); i < count; ++i)
    outputs.push_back(value(domain, static_cast<int>(draw(1, 4))));
  if (chance(20))
    outputs.push_back(condition(domain));
  if (chance(20))
    outputs.push_back(b.cast(outputs[0], chance(50) ? Type(inner.getBF16Type()) : Type(inner.getF16Type())));
  if (chance(30))
    outputs.push_back(b.reshape(value(domain, 2), {ShapedType::getNumElements(domain)}));
}

void Generator::indirect(SmallVectorImpl<Value> &outputs) {
  Shape domain = shape(draw(1, 3), 20000);
  outputs.push_back(gather(domain, 2));
  outputs.push_back(b.add(gather(domain, 1), b.mul(gather(domain, 1), value(domain, 1))));
}

void Generator::optimizer(SmallVectorImpl<Value> &outputs) {
  Shape flat{draw(0, 1) ? size() * size() : size()};
  Value p = input(type(flat, f32())), g = input(type(flat, f32())), m = input(type(flat, f32()));
  Value v = b.make<AbsOp>(input(type(flat, f32())));
  auto scalar = [&] { return b.broadcastScalar(input(type({}, f32())), p); };
  Value skip = b.make<BroadcastOp>(type(flat, i1()), input(type({}, i1())), inner.getDenseI64ArrayAttr({}));
  Value newM = b.add(b.mul(m, 0.9), b.mul(g, scalar()));
  Value newV = b.add(b.mul(v, 0.99), b.mul(b.mul(g, g), 0.01));
  Value step = b.div(b.mul(newM, scalar()), b.add(b.sqrt(newV), 1e-8));
  outputs.push_back(b.select(skip, p, b.sub(p, step)));
  outputs.push_back(b.select(skip, m, newM));
  outputs.push_back(newV);
}

void Generator::rows(SmallVectorImpl<Value> &outputs) {
  Shape domain = chance(10) ? Shape{draw(1, 3), 65536 + draw(0, 40000)} : shape(draw(1, 3), 20000);
  bool isLong = domain.back() > 60000;
  int64_t first = isLong ? 1 : chance(15) ? 0 : static_cast<int64_t>(domain.size()) - draw(1, domain.size());
  SmallVector<int64_t> dims;
  for (size_t d = first; d < domain.size(); ++d)
    dims.push_back(d);
  // Now and then a reduction of a middle or leading dimension.
  if (!isLong && domain.size() > 1 && chance(15))
    dims.assign({draw(0, domain.size() - 2)});
  SmallVector<int64_t> kept;
  Shape keptShape;
  for (size_t d = 0; d < domain.size(); ++d)
    if (!llvm::is_contained(dims, static_cast<int64_t>(d))) {
      kept.push_back(d);
      keptShape.push_back(domain[d]);
    }
  double count = 1;
  for (int64_t d : dims)
    count *= static_cast<double>(domain[d]);
  int depth = isLong ? 1 : static_cast<int>(draw(0, 3));
  Value current = value(domain, depth), total;
  bool dependent = !isLong || chance(20);
  for (int64_t level = 0, levels = dependent ? draw(1, 3) : 1; level < levels; ++level) {
    ReduceKind combine = kind();
    // Sums of positive numbers: where terms cancel, the order of additions decides the result.
    Value reduced = b.reduce(combine, combine == ReduceKind::Sum ? positive(current) : current, dims);
    if (combine == ReduceKind::Sum)
      reduced = b.mul(reduced, 1.0 / count);
    total = reduced;
    if (chance(20))
      outputs.push_back(reduced);
    if (chance(25) && level == 0) {
      Value other = b.reduce(kind(), condition(domain), dims);
      if (cast<ReduceOp>(other.getDefiningOp()).getKind() == ReduceKind::Sum)
        cast<ReduceOp>(other.getDefiningOp()).setKind(ReduceKind::Max);
      outputs.push_back(other);
    }
    Value back = b.broadcast(chance(50) ? unary(reduced) : reduced, domain, kept);
    Value centred = b.sub(current, back);
    current = chance(50) ? b.mul(centred, back) : chance(50) ? centred : unary(centred);
  }
  if (chance(60))
    outputs.push_back(current);
  if (outputs.empty() || chance(40))
    outputs.push_back(b.add(total, value(keptShape, 1)));
  if (chance(20))
    outputs.push_back(b.reshape(value(domain, 1), {ShapedType::getNumElements(domain)}));
}

void Generator::columns(SmallVectorImpl<Value> &outputs) {
  Shape domain = shape(draw(2, 3), 40000);
  if (chance(20))
    domain = {draw(100, 400), size()};
  SmallVector<int64_t> dims;
  for (int64_t d = 0, count = draw(1, domain.size() - 1); d < count; ++d)
    dims.push_back(d);
  if (domain.size() == 3 && chance(25))
    dims.assign({1});
  Shape keptShape;
  SmallVector<int64_t> kept;
  for (size_t d = 0; d < domain.size(); ++d)
    if (!llvm::is_contained(dims, static_cast<int64_t>(d))) {
      kept.push_back(d);
      keptShape.push_back(domain[d]);
    }
  for (int64_t i = 0, count = draw(1, 2); i < count; ++i) {
    Value sum = b.reduce(kind(), value(domain, static_cast<int>(draw(0, 2))), dims);
    outputs.push_back(chance(50) ? b.add(unary(sum), value(keptShape, 1)) : sum);
  }
  if (chance(30))
    outputs.push_back(b.reduce(ReduceKind::Max, condition(domain), dims));
  if (chance(30))
    outputs.push_back(b.reduce(ReduceKind::Sum, input(type(domain, inner.getI64Type())), dims));
}

Case Generator::make(StringRef emitter) {
  SmallVector<Value> outputs;
  if (emitter == "loop")
    pointwise(outputs);
  else if (emitter == "gather_scatter")
    indirect(outputs);
  else if (emitter == "multi_tensor")
    optimizer(outputs);
  else if (emitter == "row_reduce")
    rows(outputs);
  else
    columns(outputs);
  YieldOp::create(inner, b.loc, outputs);

  Case c;
  OpBuilder outer(&context);
  c.module = ModuleOp::create(outer, b.loc);
  outer.setInsertionPointToStart(c.module->getBody());
  SmallVector<Value> operands;
  for (BlockArgument argument : block.getArguments())
    operands.push_back(UnrealizedConversionCastOp::create(outer, b.loc, argument.getType(), ValueRange{}).getResult(0));
  c.op = FusedOp::create(outer, b.loc, ValueRange(outputs).getTypes(), operands, emitter);
  auto *body = new Block;
  c.op.getBody().push_back(body);
  for (BlockArgument argument : block.getArguments())
    argument.replaceAllUsesWith(body->addArgument(argument.getType(), b.loc));
  body->getOperations().splice(body->end(), block.getOperations());
  c.inputs = std::move(inputs);
  return c;
}

} // namespace

Case randomCase(MLIRContext &context, StringRef emitter, std::mt19937_64 &random) {
  return Generator(context, random).make(emitter);
}

} // namespace moe::codegen::test
