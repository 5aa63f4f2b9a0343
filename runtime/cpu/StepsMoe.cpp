//===- StepsMoe.cpp - Attention, routing and scatter-add steps ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Steps.h"
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

/// Hands out the operands of a step in their order.
class Operands {
public:
  Operands(const plan::Step &step, const StepContext &context) : step(step), context(context) {}
  template <typename T> void next(T *&pointer) { pointer = reinterpret_cast<T *>(context.address(step, index++)); }

private:
  const plan::Step &step;
  const StepContext &context;
  int index = 0;
};

AttentionShape attentionShape(const plan::Attention &a, Isa isa) {
  AttentionShape shape;
  shape.batch = a.batch();
  shape.heads = a.heads();
  shape.kvHeads = a.kv_heads();
  shape.queries = a.queries();
  shape.keys = a.keys();
  shape.headDim = a.head_dim();
  shape.scale = a.scale();
  shape.causal = a.causal();
  shape.dropout = a.dropout();
  shape.seed = a.seed();
  shape.site = a.site();
  shape.isa = isa;
  return shape;
}

class AttentionForwardStep final : public StepRunner {
public:
  AttentionForwardStep(const plan::Step &step, const StepContext &context, const AttentionShape &shape)
      : pool(context.pool), shape(shape), items(attentionItems(shape, false)) {
    Operands operands(step, context);
    operands.next(pointers.q);
    operands.next(pointers.k);
    operands.next(pointers.v);
    if (step.attention().has_padding())
      operands.next(pointers.padding);
    if (shape.dropout > 0)
      operands.next(pointers.rng);
    operands.next(pointers.out);
    operands.next(pointers.lse);
    if (step.attention().scratch_bytes() > 0)
      operands.next(pointers.scratch);
  }

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
      : pool(context.pool), shape(shape), items(attentionItems(shape, true)) {
    Operands operands(step, context);
    operands.next(pointers.dout);
    operands.next(pointers.q);
    operands.next(pointers.k);
    operands.next(pointers.v);
    operands.next(pointers.out);
    operands.next(pointers.lse);
    if (step.attention().has_padding())
      operands.next(pointers.padding);
    if (shape.dropout > 0)
      operands.next(pointers.rng);
    operands.next(pointers.dq);
    operands.next(pointers.dk);
    operands.next(pointers.dv);
    if (step.attention().scratch_bytes() > 0)
      operands.next(pointers.scratch);
  }

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

RouteShape routeShape(const plan::Route &r) {
  RouteShape shape;
  shape.groups = r.groups();
  shape.tokens = r.tokens();
  shape.experts = r.experts();
  shape.capacity = r.capacity();
  shape.topK = r.top_k();
  shape.policy = r.policy() == plan::Route::SAMPLING ? RoutePolicy::Sampling
                 : r.policy() == plan::Route::RANDOM ? RoutePolicy::Random
                                                     : RoutePolicy::All;
  shape.normalizeBeforeDropping = r.normalize_before_dropping();
  shape.batchPrioritized = r.batch_prioritized();
  return shape;
}

class RouteForwardStep final : public StepRunner {
public:
  RouteForwardStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), shape(routeShape(step.route())) {
    Operands operands(step, context);
    operands.next(pointers.logits);
    if (step.route().has_mask())
      operands.next(pointers.mask);
    if (shape.policy != RoutePolicy::All)
      operands.next(pointers.noise);
    operands.next(pointers.expert);
    operands.next(pointers.slot);
    operands.next(pointers.weight);
    operands.next(pointers.token);
    operands.next(pointers.aux);
    operands.next(pointers.probs);
    operands.next(pointers.firstFraction);
    operands.next(pointers.metrics);
    if (step.route().scratch_bytes() > 0)
      operands.next(pointers.scratch);
  }

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
      : pool(context.pool), shape(routeShape(step.route())) {
    Operands operands(step, context);
    operands.next(pointers.dweight);
    operands.next(pointers.daux);
    operands.next(pointers.probs);
    operands.next(pointers.expert);
    operands.next(pointers.slot);
    operands.next(pointers.firstFraction);
    operands.next(pointers.dlogits);
  }

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

template <typename Index> class ScatterAddStep final : public StepRunner {
public:
  ScatterAddStep(const plan::Step &step, const StepContext &context)
      : pool(context.pool), shape{step.scatter_add().rows(), step.scatter_add().width(),
                                  step.scatter_add().table_rows(), step.scatter_add().accumulate()} {
    Operands operands(step, context);
    operands.next(index);
    operands.next(rows);
    operands.next(table);
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
  if (Status status = requireFloat32(step, "attention"); !status)
    return tl::unexpected(std::move(status.error()));
  AttentionShape shape = attentionShape(attention, context.isa);
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
  uint64_t needed = routeScratchBytes(routeShape(route));
  if (Status status = requireScratch(needed, route.scratch_bytes(), "routing"); !status)
    return tl::unexpected(std::move(status.error()));
  if (route.scratch_bytes() > 0 &&
      reinterpret_cast<uintptr_t>(context.address(step, step.operands_size() - 1)) % 8 != 0)
    return error("the scratch of routing is not aligned to 8 bytes", {}, {}, {}, ExitCode::Internal);
  return std::make_unique<RouteForwardStep>(step, context);
}

Expected<std::unique_ptr<StepRunner>> createScatterAddStep(const plan::Step &step, const StepContext &context) {
  if (Status status = requireFloat32(step, "scatter-add"); !status)
    return tl::unexpected(std::move(status.error()));
  if (step.operands(0).dtype() == plan::I32)
    return std::make_unique<ScatterAddStep<int32_t>>(step, context);
  return std::make_unique<ScatterAddStep<int64_t>>(step, context);
}

} // namespace moe::cpu
