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
      {"moe.grouped_dot_weight_grad %0, %1, %2 {experts = 3 : i64} : (tensor<2x4x6xf64>, tensor<2x4x4xf64>, "
       "tensor<2x2xi32>) -> tensor<3x6x4xf64>",
       {{}, {}, CaseInput{0, 0, {2, 0, -1, 0}}}},
      {"moe.grouped_dot_weight_grad %0, %1, %2 {experts = 2 : i64, separate} : (tensor<2x4x6xf64>, tensor<2x4x4xf64>, "
       "tensor<2x2xi32>) -> (tensor<6x4xf64>, tensor<6x4xf64>)",
       {{}, {}, CaseInput{0, 0, {1, 0, -1, 0}}}},
      // Rows of two parts, each with the gradients of its two experts.
      {"moe.grouped_dot_weight_grad %0, %1, %2 {experts = 4 : i64, part_experts = 2 : i64, parts = 2 : i64} : "
       "(tensor<2x8x3xf64>, tensor<2x8x2xf64>, tensor<2x4xi32>) -> tensor<4x3x2xf64>",
       {{}, {}, CaseInput{0, 0, {1, 0, -1, 1, 0, 1, 1, -1}}}},
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
  if (rule.free)
    return {};
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
  // Other operands are partial then: CollectivesTest, GridTest.
  for (int factor : rule.partialWith)
    common.erase(factor);
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

int64_t ranksOf(Mesh mesh) {
  int64_t ranks = 1;
  for (const Distribution &how : mesh)
    ranks *= how.ranks;
  return ranks;
}

std::string nameOf(Mesh mesh) {
  std::string text;
  for (const Distribution &how : mesh)
    text += (text.empty() ? "" : " x ") + how.name();
  return text;
}

static constexpr const char *kAxes[] = {"data", "expert"};

/// Type of the rank-local part of a value whose dimensions have the factors `dims`. `partial`: whether it is, axis by
/// axis, where it has not the factor (results), or by itself (operands).
static RankedTensorType localType(RankedTensorType type, const ir::LayoutRule::Dims &dims, Mesh mesh,
                                  llvm::function_ref<bool(const Distribution &)> partial) {
  MLIRContext *context = type.getContext();
  SmallVector<int64_t> shape(type.getShape()), split;
  SmallVector<StringAttr> axes;
  SmallVector<int32_t> kinds;
  for (const Distribution &how : mesh) {
    axes.push_back(StringAttr::get(context, kAxes[axes.size()]));
    auto kind = partial(how) ? ir::AxisKind::Partial : ir::AxisKind::Replicate;
    int64_t dim = 0;
    for (auto [d, factor] : llvm::enumerate(dims))
      if (how.factor == factor) {
        kind = ir::AxisKind::Shard;
        dim = static_cast<int64_t>(d);
        shape[d] /= how.ranks;
      }
    kinds.push_back(static_cast<int32_t>(kind));
    split.push_back(dim);
  }
  return RankedTensorType::get(shape, type.getElementType(), ir::LayoutAttr::get(context, axes, kinds, split));
}

OwningOpRef<ModuleOp> localModule(ModuleOp module, Mesh mesh) {
  Operation *global = subject(module);
  ir::LayoutRule rule = cast<ir::MoeOpInterface>(global).getLayoutRule();
  OpBuilder b(module.getContext());
  OwningOpRef<ModuleOp> local = ModuleOp::create(module.getLoc());
  SmallVector<StringAttr> axes;
  SmallVector<int64_t> sizes;
  for (auto [how, name] : llvm::zip(mesh, kAxes)) {
    axes.push_back(b.getStringAttr(name));
    sizes.push_back(how.ranks);
  }
  local.get()->setAttr("moe.mesh", ir::MeshAttr::get(module.getContext(), axes, sizes));
  b.setInsertionPointToEnd(local->getBody());
  SmallVector<Type> arguments, results;
  for (auto [i, type] : llvm::enumerate(global->getOperandTypes()))
    arguments.push_back(localType(cast<RankedTensorType>(type), rule.operands[i], mesh,
                                  [&, i = i](auto &how) { return llvm::is_contained(how.partial, i); }));
  // A factor that no operand has splits a repeated value: results without it are whole.
  for (auto [i, type] : llvm::enumerate(global->getResultTypes()))
    results.push_back(localType(cast<RankedTensorType>(type), rule.results[i], mesh, [&](auto &how) {
      return !how.partial.empty() || (how.factor && llvm::is_contained(rule.summed, *how.factor));
    }));
  auto function = func::FuncOp::create(b, module.getLoc(), "f", b.getFunctionType(arguments, results));
  Block *block = function.addEntryBlock();
  b.setInsertionPointToEnd(block);
  Operation *op = b.insert(global->clone());
  op->setOperands(block->getArguments());
  for (auto [result, type] : llvm::zip_equal(op->getResults(), results))
    result.setType(type);
  cast<ir::MoeOpInterface>(op).localize();
  // An adjoint, which is made for the part from the start.
  if (auto grad = dyn_cast<ir::GroupedDotWeightGradOp>(op); grad && !grad.getSeparate())
    grad.setExperts(ir::typeOf(grad.getGrads()[0]).getDimSize(0));
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

/// A tensor of zeros like `value`, with dimension `dim` of another size.
ir::HostTensor resized(const ir::HostTensor &value, int64_t dim, int64_t size) {
  ir::HostTensor result = value;
  result.shape[dim] = size;
  (value.isFloat ? result.floats.resize(value.floats.size() / value.shape[dim] * size)
                 : result.ints.resize(value.ints.size() / value.shape[dim] * size));
  return result;
}

/// The parts of `value` on the ranks of one axis.
std::vector<ir::HostTensor> scatterOnAxis(const ir::HostTensor &value, ir::LayoutAttr layout, unsigned axis,
                                          int64_t ranks, uint64_t seed) {
  std::vector<ir::HostTensor> parts(static_cast<size_t>(ranks), value);
  switch (layout.kind(axis)) {
  case ir::AxisKind::Replicate:
    break;
  case ir::AxisKind::Shard: {
    ir::HostTensor whole = value;
    int64_t dim = layout.getDims()[axis], size = value.shape[dim] / ranks;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      parts[rank] = resized(value, dim, size);
      copyPart(whole, parts[rank], dim, rank * size, false);
    }
    break;
  }
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

std::optional<ir::HostTensor> assembleOnAxis(llvm::ArrayRef<ir::HostTensor> parts, ir::LayoutAttr layout,
                                             unsigned axis) {
  ir::HostTensor whole = parts.front();
  switch (layout.kind(axis)) {
  case ir::AxisKind::Replicate:
    for (const ir::HostTensor &part : parts)
      for (int64_t i = 0; i < whole.size(); ++i)
        // Equal but for the order in which partial sums over another axis were added.
        if (std::abs(part.at(i) - whole.at(i)) > 1e-12 * std::max(1.0, std::abs(whole.at(i))))
          return std::nullopt;
    break;
  case ir::AxisKind::Shard: {
    int64_t dim = layout.getDims()[axis], size = whole.shape[dim];
    whole = resized(whole, dim, size * static_cast<int64_t>(parts.size()));
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      ir::HostTensor part = parts[rank];
      copyPart(whole, part, dim, static_cast<int64_t>(rank) * size, true);
    }
    break;
  }
  case ir::AxisKind::Partial:
    for (const ir::HostTensor &part : parts.drop_front())
      for (int64_t i = 0; i < whole.size(); ++i)
        whole.floats[i] += part.floats[i];
    break;
  }
  return whole;
}

} // namespace

std::vector<ir::HostTensor> scatter(const ir::HostTensor &value, RankedTensorType type, Mesh mesh, uint64_t seed) {
  std::vector<ir::HostTensor> parts = {value};
  for (auto [axis, how] : llvm::enumerate(mesh)) {
    std::vector<ir::HostTensor> finer;
    for (const ir::HostTensor &part : parts)
      for (ir::HostTensor &each : scatterOnAxis(part, layoutOf(type), static_cast<unsigned>(axis), how.ranks, seed++))
        finer.push_back(std::move(each));
    parts = std::move(finer);
  }
  return parts;
}

std::optional<ir::HostTensor> assemble(std::vector<ir::HostTensor> parts, RankedTensorType type, Mesh mesh) {
  for (size_t axis = mesh.size(); axis-- > 0;) {
    std::vector<ir::HostTensor> coarser;
    const auto ranks = static_cast<size_t>(mesh[axis].ranks);
    for (size_t first = 0; first < parts.size(); first += ranks) {
      auto joined =
          assembleOnAxis(llvm::ArrayRef(parts).slice(first, ranks), layoutOf(type), static_cast<unsigned>(axis));
      if (!joined)
        return std::nullopt;
      coarser.push_back(std::move(*joined));
    }
    parts = std::move(coarser);
  }
  return parts.front();
}

} // namespace moe::test
