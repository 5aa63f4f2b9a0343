//===- StepsMoe.cpp - Attention, routing and scatter-add steps ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/GroupedGemm.h"
#include "runtime/cpu/Steps.h"
#include "runtime/cpu/WorkOperands.h"
#include "runtime/cpu/kernels/Attention.h"
#include "runtime/cpu/kernels/Route.h"
#include "runtime/cpu/kernels/ScatterAdd.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace moe::cpu {
namespace {

/// Least work per thread: about ten microseconds, a few times what waking a thread costs.
constexpr int64_t kRouteElements = 8192;
constexpr int64_t kScatterElements = 32768;

class AttentionForwardStep final : public StepRunner {
public:
  AttentionForwardStep(const plan::Step &step, const StepContext &context, const AttentionShape &shape)
      : pool(context.pool), shape(shape), items(attentionItems(shape, false)),
        pointers(attentionForwardOperands(step, context)) {}

  Status run() override {
    pool.parallelFor(items, 1, [this](int64_t begin, int64_t end, int thread) {
      attentionForward(shape, pointers, begin, end, thread);
    });
    return {};
  }

private:
  ThreadPool pool;
  AttentionShape shape;
  int64_t items;
  AttentionForwardPointers pointers;
};

class AttentionBackwardStep final : public StepRunner {
public:
  AttentionBackwardStep(const plan::Step &step, const StepContext &context, const AttentionShape &shape)
      : pool(context.pool), shape(shape), items(attentionItems(shape, true)),
        pointers(attentionBackwardOperands(step, context)) {}

  Status run() override {
    pool.parallelFor(items, 1, [this](int64_t begin, int64_t end, int thread) {
      attentionBackward(shape, pointers, begin, end, thread);
    });
    return {};
  }

private:
  ThreadPool pool;
  AttentionShape shape;
  int64_t items;
  AttentionBackwardPointers pointers;
};

class RouteForwardStep final : public StepRunner {
public:
  RouteForwardStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), shape(shapeOf(step.route())), pointers(routeForwardOperands(step, context)) {}

  Status run() override {
    pool.parallelFor(shape.groups * shape.tokens, 1 + kRouteElements / shape.experts,
                     [this](int64_t begin, int64_t end, int) { routeRows(shape, pointers, begin, end); });
    pool.parallelFor(shape.groups, 1 + kRouteElements / (shape.experts + shape.tokens),
                     [this](int64_t begin, int64_t end, int) { routeGroups(shape, pointers, begin, end); });
    return {};
  }

private:
  ThreadPool pool;
  RouteShape shape;
  RouteForwardPointers pointers;
};

class RouteBackwardStep final : public StepRunner {
public:
  RouteBackwardStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), shape(shapeOf(step.route())), pointers(routeBackwardOperands(step, context)) {}

  Status run() override {
    pool.parallelFor(shape.groups * shape.tokens, 1 + kRouteElements / shape.experts,
                     [this](int64_t begin, int64_t end, int) { routeBackward(shape, pointers, begin, end); });
    return {};
  }

private:
  ThreadPool pool;
  RouteShape shape;
  RouteBackwardPointers pointers;
};

class GroupedGemmStep final : public StepRunner {
public:
  explicit GroupedGemmStep(GroupedGemm gemm) : gemm(std::move(gemm)) {}
  Status run() override { return gemm.run(); }

private:
  GroupedGemm gemm;
};

template <typename Index> class ScatterAddStep final : public StepRunner {
public:
  ScatterAddStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), shape(shapeOf(step.scatter_add())) {
    Operands(step, context).take(index, rows, table);
  }

  Status run() override {
    // In units of cache lines; a unit touches every row, and the table if that is zeroed first.
    int64_t units = (shape.width + scatterAddGrain - 1) / scatterAddGrain;
    int64_t unitElements = (shape.rows + (shape.accumulate ? 0 : shape.tableRows)) * scatterAddGrain;
    int64_t beyond = 0;
    pool.parallelFor(units, 1 + kScatterElements / (1 + unitElements), [&](int64_t begin, int64_t end, int part) {
      int64_t last = std::min(end * scatterAddGrain, shape.width);
      int64_t count = scatterAdd(shape, index, rows, table, begin * scatterAddGrain, last);
      if (part == 0) // every part sees all indices
        beyond = count;
    });
    if (beyond > 0)
      return error(std::to_string(beyond) + " indices lie beyond the table", {},
                   "the table has " + std::to_string(shape.tableRows) + " rows");
    return {};
  }

private:
  ThreadPool pool;
  ScatterAddShape shape;
  const Index *index = nullptr;
  const float *rows = nullptr;
  float *table = nullptr;
};

} // namespace

Expected<std::unique_ptr<StepRunner>> createAttentionStep(const plan::Step &step, const StepContext &context) {
  const plan::Attention &attention = step.attention();
  if (Status status = requireComputeType(step, "CPU", "attention"); !status)
    return tl::unexpected(std::move(status.error()));
  const AttentionShape shape{sizesOf(attention), context.isa, step.operands(0).dtype() == plan::BF16};
  uint64_t needed = attentionScratchBytes(shape, context.pool.threads(), attention.backward());
  if (Status status = requireScratch(needed, attention.scratch_bytes(), "attention"); !status)
    return tl::unexpected(std::move(status.error()));
  if (attention.scratch_bytes() > 0 &&
      reinterpret_cast<uintptr_t>(context.address(step, step.operands_size() - 1)) % 64 != 0)
    return error("the scratch of attention is not aligned to 64 bytes", {}, {}, {}, ExitCode::Internal);
  if (attention.backward())
    return std::make_unique<AttentionBackwardStep>(step, context, shape);
  return std::make_unique<AttentionForwardStep>(step, context, shape);
}

Expected<std::unique_ptr<StepRunner>> createRouteStep(const plan::Step &step, const StepContext &context) {
  const plan::Route &route = step.route();
  if (route.backward())
    return std::make_unique<RouteBackwardStep>(step, context);
  uint64_t needed = routeScratchBytes(shapeOf(route));
  if (Status status = requireScratch(needed, route.scratch_bytes(), "routing"); !status)
    return tl::unexpected(std::move(status.error()));
  if (route.scratch_bytes() > 0 &&
      reinterpret_cast<uintptr_t>(context.address(step, step.operands_size() - 1)) % 8 != 0)
    return error("the scratch of routing is not aligned to 8 bytes", {}, {}, {}, ExitCode::Internal);
  return std::make_unique<RouteForwardStep>(step, context);
}

Expected<std::unique_ptr<StepRunner>> createGroupedGemmStep(const plan::Step &step, const StepContext &context) {
  const plan::GroupedGemm &gemm = step.grouped_gemm();
  plan::DType dtype = step.operands(0).dtype();
  if (Status status = requireComputeType(step, "CPU", "products of grouped rows"); !status)
    return tl::unexpected(std::move(status.error()));
  uint64_t needed = groupedGemmScratchBytes(gemm, dtype, context.pool.threads());
  if (Status status = requireScratch(needed, gemm.scratch_bytes(), "a product of grouped rows"); !status)
    return tl::unexpected(std::move(status.error()));
  Operands operands(step, context);
  GroupedGemmPointers pointers;
  operands.next(pointers.left);
  if (gemm.weight_grad())
    operands.next(pointers.right);
  operands.next(pointers.blockExpert);
  pointers.weights.resize(gemm.separate() ? static_cast<size_t>(gemm.experts()) : 1);
  for (void *&weight : pointers.weights)
    operands.next(weight);
  if (!gemm.weight_grad())
    operands.next(pointers.result);
  if (gemm.scratch_bytes() > 0)
    operands.next(pointers.scratch);
  auto grouped = GroupedGemm::create(gemm, dtype, context.pool, std::move(pointers));
  if (!grouped)
    return tl::unexpected(std::move(grouped.error()));
  return std::make_unique<GroupedGemmStep>(std::move(*grouped));
}

Expected<std::unique_ptr<StepRunner>> createScatterAddStep(const plan::Step &step, const StepContext &context) {
  if (Status status = requireFloat32(step, "CPU", "scatter-add"); !status)
    return tl::unexpected(std::move(status.error()));
  if (step.operands(0).dtype() == plan::I32)
    return std::make_unique<ScatterAddStep<int32_t>>(step, context);
  return std::make_unique<ScatterAddStep<int64_t>>(step, context);
}

} // namespace moe::cpu
