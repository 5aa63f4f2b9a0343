//===- LayoutCases.cpp - Operations cut into the parts of several ranks -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/ir/LayoutCases.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "test/ir/GradientSupport.h"

#include <numeric>

using namespace mlir;

namespace moe::test {

const std::vector<OperationCase> &furtherLayoutCases() {
  static const CaseInput whole = {0, 0, {3, -1, 2, 0, 1, 5}}, other = {0, 0, {2, -1, 4, 0, 7, 1}},
                         flags = {0, 0, {1, 0, 0, 1, 1, 1}}, flagsToo = {0, 0, {0, 0, 1, 1, 0, 1}},
                         rng = {0, 0, {4, 1}}, expert = {0, 0, {0, 1, 2, 0, 1, 2}}, slot = {0, 0, {0, -1, 1, 0, 1, 0}};
  static const std::vector<OperationCase> cases = {
      {"moe.not %0 : (tensor<2x3xi1>) -> tensor<2x3xi1>", {flags}},
      {"moe.is_finite %0 : (tensor<2x3xf64>) -> tensor<2x3xi1>"},
      {"moe.and %0, %1 : (tensor<6xi1>, tensor<6xi1>) -> tensor<6xi1>", {flags, flagsToo}},
      {"moe.or %0, %1 : (tensor<6xi1>, tensor<6xi1>) -> tensor<6xi1>", {flags, flagsToo}},
      {"moe.compare %0, %1 {predicate = 2 : i32} : (tensor<2x3xi64>, tensor<2x3xi64>) -> tensor<2x3xi1>",
       {whole, other}},
      {"moe.div %0, %1 : (tensor<4xf64>, tensor<4xf64>) -> tensor<4xf64>", {{1, 2}, {1, 2}}},
      {"moe.sort %0 : (tensor<3x2x5xf64>) -> (tensor<3x2x5xf64>, tensor<3x2x5xi32>)"},
      {"moe.random_uniform %0 {seed = 3 : i64, site = 8 : i64} : (tensor<2xi64>) -> tensor<4x2xf64>", {rng}},
      {"moe.reshape %0 : (tensor<2x3x5xf64>) -> tensor<6x5xf64>"},
      {"moe.reshape %0 : (tensor<6x5xf64>) -> tensor<3x2x5xf64>"},
      {"moe.reshape %0 : (tensor<6x1x4xf64>) -> tensor<6x2x2x1xf64>"},
      {"moe.slice %0 {starts = array<i64: 0, 1>, limits = array<i64: 4, 5>, strides = array<i64: 1, 2>} "
       ": (tensor<4x5xf64>) -> tensor<4x2xf64>"},
      {"moe.pad %0 {low = array<i64: 0, 1>, high = array<i64: 0, 2>, interior = array<i64: 0, 1>} "
       ": (tensor<4x2xf64>) -> tensor<4x6xf64>"},
      {"moe.iota {dim = 1 : i64} : () -> tensor<4x3x2xi64>"},
      {"moe.constant {value = dense<2.5> : tensor<4x3xf64>} : () -> tensor<4x3xf64>"},
      {"moe.constant {value = dense<[1.0, 2.0]> : tensor<2xf64>} : () -> tensor<2xf64>"},
      {"moe.scatter_add %0, %1 : (tensor<2x3xi64>, tensor<2x3x5xf64>) -> tensor<4x5xf64>",
       {CaseInput{0, 0, {3, -1, 2, 0, 1, 3}}}},
      {"moe.route_backward %0, %1, %2, %3, %4, %5 : (tensor<2x3x1xf64>, tensor<2xf64>, tensor<2x3x4xf64>, "
       "tensor<2x3x1xi32>, tensor<2x3x1xi32>, tensor<2x4xf64>) -> tensor<2x3x4xf64>",
       {{}, {}, {0.1, 0.9}, expert, slot, {0, 1}}},
      {"moe.attention_backward %0, %1, %2, %3, %4, %5 {scale = 0.5 : f64, causal} : (tensor<2x3x4x5xf64>, "
       "tensor<2x3x4x5xf64>, tensor<2x3x2x5xf64>, tensor<2x3x2x5xf64>, tensor<2x3x4x5xf64>, tensor<2x4x3xf64>) -> "
       "(tensor<2x3x4x5xf64>, tensor<2x3x2x5xf64>, tensor<2x3x2x5xf64>)",
       {{}, {}, {}, {}, {}, {3, 4}}},
  };
  return cases;
}

std::string Distribution::name() const {
  if (!factor && partial.empty())
    return "replicated";
  std::string text = factor ? "factor " + std::to_string(*factor) : "partial";
  for (unsigned operand : partial)
    text += " " + std::to_string(operand);
  return text + " on " + std::to_string(ranks);
}

std::vector<Distribution> distributions(Operation *op) {
  ir::LayoutRule rule = cast<ir::MoeOpInterface>(op).getLayoutRule();
  std::map<int, int64_t> common;
  auto collect = [&](ArrayRef<ir::LayoutRule::Dims> tensors, TypeRange types) {
    for (auto [dims, type] : llvm::zip_equal(tensors, types))
      for (auto [d, factor] : llvm::enumerate(dims))
        if (factor != ir::LayoutRule::whole)
          common[factor] = std::gcd(common[factor], cast<RankedTensorType>(type).getDimSize(d));
  };
  collect(rule.operands, op->getOperandTypes());
  collect(rule.results, op->getResultTypes());
  std::vector<Distribution> found;
  for (auto [factor, size] : common)
    for (int64_t ranks = 2; ranks <= size; ++ranks)
      if (size % ranks == 0) {
        found.push_back({ranks, factor, {}});
        break;
      }
  for (const auto &set : rule.linear)
    found.push_back({2, std::nullopt, set});
  return found;
}

RankedTensorType localType(RankedTensorType type, const ir::LayoutRule::Dims &dims, const Distribution &how,
                           bool partial) {
  MLIRContext *context = type.getContext();
  SmallVector<int64_t> shape(type.getShape());
  auto kind = partial ? ir::AxisKind::Partial : ir::AxisKind::Replicate;
  int64_t dim = 0;
  for (auto [d, factor] : llvm::enumerate(dims))
    if (how.factor == factor) {
      kind = ir::AxisKind::Shard;
      dim = static_cast<int64_t>(d);
      shape[d] /= how.ranks;
    }
  auto layout = ir::LayoutAttr::get(context, StringAttr::get(context, "data"), static_cast<int32_t>(kind), dim);
  return RankedTensorType::get(shape, type.getElementType(), layout);
}

namespace {

/// Attributes that repeat sizes of the operand.
void localiseAttributes(Operation *op) {
  OpBuilder b(op->getContext());
  if (auto slice = dyn_cast<ir::SliceOp>(op)) {
    SmallVector<int64_t> limits(slice.getLimits());
    for (auto [d, limit] : llvm::enumerate(limits))
      limit = std::min(limit, ir::typeOf(slice.getInput()).getDimSize(static_cast<int64_t>(d)));
    slice.setLimits(limits);
  }
  if (auto constant = dyn_cast<ir::ConstantOp>(op)) {
    auto value = cast<DenseElementsAttr>(constant.getValue());
    if (value.isSplat())
      constant.setValueAttr(
          cast<ElementsAttr>(Attribute(DenseElementsAttr::get(constant.getType(), value.getSplatValue<Attribute>()))));
    else
      constant.setValueAttr(cast<ElementsAttr>(Attribute(value.reshape(constant.getType()))));
  }
}

} // namespace

OwningOpRef<ModuleOp> localModule(ModuleOp module, const Distribution &how) {
  Operation *global = subject(module);
  ir::LayoutRule rule = cast<ir::MoeOpInterface>(global).getLayoutRule();
  OpBuilder b(module.getContext());
  OwningOpRef<ModuleOp> local = ModuleOp::create(module.getLoc());
  b.setInsertionPointToEnd(local->getBody());
  SmallVector<Type> arguments, results;
  for (auto [i, type] : llvm::enumerate(global->getOperandTypes()))
    arguments.push_back(
        localType(cast<RankedTensorType>(type), rule.operands[i], how, llvm::is_contained(how.partial, i)));
  // A factor that no operand has splits a repeated value: results without it are whole.
  bool summed = how.factor && llvm::is_contained(rule.summed, *how.factor);
  for (auto [i, type] : llvm::enumerate(global->getResultTypes()))
    results.push_back(localType(cast<RankedTensorType>(type), rule.results[i], how, summed || !how.partial.empty()));
  auto function = func::FuncOp::create(b, module.getLoc(), "f", b.getFunctionType(arguments, results));
  Block *block = function.addEntryBlock();
  b.setInsertionPointToEnd(block);
  Operation *op = b.insert(global->clone());
  op->setOperands(block->getArguments());
  for (auto [result, type] : llvm::zip_equal(op->getResults(), results))
    result.setType(type);
  localiseAttributes(op);
  func::ReturnOp::create(b, module.getLoc(), op->getResults());
  return local;
}

namespace {

/// Copies the part of `whole` that begins at `start` along `dim` to `part`, or back.
void copyPart(ir::HostTensor &whole, ir::HostTensor &part, int64_t dim, int64_t start, bool back) {
  int64_t inner = 1, outer = 1;
  for (int64_t d = dim + 1; d < static_cast<int64_t>(whole.shape.size()); ++d)
    inner *= whole.shape[d];
  for (int64_t d = 0; d < dim; ++d)
    outer *= whole.shape[d];
  int64_t block = part.shape[dim] * inner;
  auto copy = [&](auto &large, auto &small) {
    for (int64_t o = 0; o < outer; ++o) {
      auto at = large.begin() + (o * whole.shape[dim] + start) * inner, from = small.begin() + o * block;
      back ? std::copy(from, from + block, at) : std::copy(at, at + block, from);
    }
  };
  whole.isFloat ? copy(whole.floats, part.floats) : copy(whole.ints, part.ints);
}

ir::LayoutAttr layoutOf(RankedTensorType type) {
  return cast<ir::LayoutAttr>(type.getEncoding());
}

} // namespace

std::vector<ir::HostTensor> scatter(const ir::HostTensor &value, RankedTensorType type, int64_t ranks, uint64_t seed) {
  std::vector<ir::HostTensor> parts(static_cast<size_t>(ranks), value);
  switch (layoutOf(type).kind(0)) {
  case ir::AxisKind::Replicate:
    break;
  case ir::AxisKind::Shard:
    for (int64_t rank = 0; rank < ranks; ++rank) {
      ir::HostTensor whole = value;
      int64_t dim = layoutOf(type).getDims()[0];
      parts[rank] = ir::HostTensor(type);
      parts[rank].isFloat = value.isFloat;
      copyPart(whole, parts[rank], dim, rank * type.getDimSize(dim), false);
    }
    break;
  case ir::AxisKind::Partial:
    for (int64_t rank = 1; rank < ranks; ++rank) {
      std::vector<double> summand = randomNumbers(value.size(), -2, 2, seed + static_cast<uint64_t>(rank));
      for (size_t i = 0; i < summand.size(); ++i) {
        parts[rank].floats[i] = summand[i];
        parts[0].floats[i] -= summand[i];
      }
    }
    break;
  }
  return parts;
}

std::optional<ir::HostTensor> assemble(const std::vector<ir::HostTensor> &parts, RankedTensorType type) {
  ir::HostTensor whole = parts.front();
  switch (layoutOf(type).kind(0)) {
  case ir::AxisKind::Replicate:
    for (const ir::HostTensor &part : parts)
      for (int64_t i = 0; i < whole.size(); ++i)
        if (part.at(i) != whole.at(i))
          return std::nullopt;
    break;
  case ir::AxisKind::Shard: {
    int64_t dim = layoutOf(type).getDims()[0], size = type.getDimSize(dim);
    SmallVector<int64_t> shape(type.getShape());
    shape[dim] *= static_cast<int64_t>(parts.size());
    whole = ir::HostTensor(RankedTensorType::get(shape, type.getElementType()));
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      ir::HostTensor part = parts[rank];
      copyPart(whole, part, dim, static_cast<int64_t>(rank) * size, true);
    }
    break;
  }
  case ir::AxisKind::Partial:
    for (size_t rank = 1; rank < parts.size(); ++rank)
      for (int64_t i = 0; i < whole.size(); ++i)
        whole.floats[i] += parts[rank].floats[i];
    break;
  }
  return whole;
}

} // namespace moe::test
