//===- StepsMoe.cpp - Steps by kernels of the backend's own -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Errors.h"
#include "runtime/cuda/Scratch.h"
#include "runtime/cuda/Steps.h"
#include "runtime/cuda/kernels/Attention.h"
#include "runtime/cuda/kernels/Route.h"
#include "runtime/cuda/kernels/ScatterAdd.h"

namespace moe::cuda {
namespace {

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

Status requireFloat32(const plan::Step &step, const char *work) {
  for (const plan::Operand &operand : step.operands())
    if (operand.dtype() == plan::BF16 || operand.dtype() == plan::F16)
      return error(std::string("the CUDA backend computes ") + work + " in float32 only", {},
                   "an operand has type " + plan::DType_Name(operand.dtype()));
  return {};
}

Status requireScratch(uint64_t needed, uint64_t given, const char *work) {
  if (needed <= given)
    return {};
  return error(std::string("the plan gives ") + work + " too little scratch memory", {},
               "it needs " + std::to_string(needed) + " bytes, the plan has " + std::to_string(given),
               "compile the model again with the moec of this release");
}

AttentionShape shapeOf(const plan::Step &step, const plan::Attention &attention) {
  AttentionShape shape;
  shape.batch = attention.batch();
  shape.heads = attention.heads();
  shape.kvHeads = attention.kv_heads();
  shape.queries = attention.queries();
  shape.keys = attention.keys();
  shape.headDim = attention.head_dim();
  shape.scale = attention.scale();
  shape.causal = attention.causal();
  shape.dropout = attention.dropout();
  shape.seed = attention.seed();
  shape.site = attention.site();
  shape.element = step.operands(0).dtype() == plan::BF16 ? Element::Bf16 : Element::Float32;
  return shape;
}

class AttentionForwardStep final : public StepLaunch {
public:
  AttentionForwardStep(const plan::Step &step, const StepContext &context) : shape(shapeOf(step, step.attention())) {
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
  }

  Status enqueue(cudaStream_t stream) override {
    return check(attentionForward(shape, pointers, stream), "launch the attention");
  }

private:
  AttentionShape shape;
  AttentionForwardPointers pointers;
};

class AttentionBackwardStep final : public StepLaunch {
public:
  AttentionBackwardStep(const plan::Step &step, const StepContext &context) : shape(shapeOf(step, step.attention())) {
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
    operands.next(pointers.scratch);
  }

  Status enqueue(cudaStream_t stream) override {
    return check(attentionBackward(shape, pointers, stream), "launch the gradient of the attention");
  }

private:
  AttentionShape shape;
  AttentionBackwardPointers pointers;
};

RouteShape shapeOf(const plan::Route &route) {
  RouteShape shape;
  shape.groups = route.groups();
  shape.tokens = route.tokens();
  shape.experts = route.experts();
  shape.capacity = route.capacity();
  shape.topK = route.top_k();
  shape.policy = static_cast<cpu::RoutePolicy>(route.policy());
  shape.normalizeBeforeDropping = route.normalize_before_dropping();
  shape.batchPrioritized = route.batch_prioritized();
  return shape;
}

class RouteForwardStep final : public StepLaunch {
public:
  RouteForwardStep(const plan::Step &step, const StepContext &context) : shape(shapeOf(step.route())) {
    Operands operands(step, context);
    operands.next(pointers.logits);
    if (step.route().has_mask())
      operands.next(pointers.mask);
    if (step.route().policy() != plan::Route::ALL)
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

  Status enqueue(cudaStream_t stream) override {
    return check(routeForward(shape, pointers, stream), "launch the routing");
  }

private:
  RouteShape shape;
  RouteForwardPointers pointers;
};

class RouteBackwardStep final : public StepLaunch {
public:
  RouteBackwardStep(const plan::Step &step, const StepContext &context) : shape(shapeOf(step.route())) {
    Operands operands(step, context);
    operands.next(pointers.dweight);
    operands.next(pointers.daux);
    operands.next(pointers.probs);
    operands.next(pointers.expert);
    operands.next(pointers.slot);
    operands.next(pointers.firstFraction);
    operands.next(pointers.dlogits);
  }

  Status enqueue(cudaStream_t stream) override {
    return check(routeBackward(shape, pointers, stream), "launch the gradient of the routing");
  }

private:
  RouteShape shape;
  RouteBackwardPointers pointers;
};

class ScatterAddStep final : public StepLaunch {
public:
  ScatterAddStep(const plan::Step &step, const StepContext &context, int32_t *outside) {
    const plan::ScatterAdd &scatter = step.scatter_add();
    shape.rows = scatter.rows();
    shape.width = scatter.width();
    shape.tableRows = scatter.table_rows();
    shape.accumulate = scatter.accumulate();
    Operands operands(step, context);
    operands.next(pointers.index);
    operands.next(pointers.rows);
    operands.next(pointers.table);
    operands.next(pointers.scratch);
    pointers.index64 = step.operands(0).dtype() == plan::I64;
    pointers.outside = outside;
  }

  Status enqueue(cudaStream_t stream) override {
    return check(scatterAdd(shape, pointers, stream), "launch an addition to the rows of a table");
  }

private:
  ScatterAddShape shape;
  ScatterAddPointers pointers;
};

Status checkAttention(const plan::Step &step) {
  plan::DType type = step.operands(0).dtype();
  if (type != plan::F32 && type != plan::BF16)
    return error("the CUDA backend computes attention in float32 and bfloat16 only", {},
                 "its queries have type " + plan::DType_Name(type));
  return requireScratch(attentionScratchBytes(step.attention()), step.attention().scratch_bytes(), "attention");
}

} // namespace

Status checkMoeStep(const plan::Step &step) {
  if (step.has_attention())
    return checkAttention(step);
  if (step.has_scatter_add()) {
    if (Status status = requireFloat32(step, "additions to rows"); !status)
      return status;
    return requireScratch(scatterAddScratchBytes(step.scatter_add()), step.scatter_add().scratch_bytes(),
                          "an addition to rows");
  }
  const plan::Route &route = step.route();
  if (Status status = requireFloat32(step, "routing"); !status)
    return status;
  if (route.experts() > maximumExperts)
    return error("the CUDA backend routes to at most " + std::to_string(maximumExperts) + " experts", {},
                 "the plan has " + std::to_string(route.experts()));
  return requireScratch(routeScratchBytes(route), route.scratch_bytes(), "routing");
}

std::unique_ptr<StepLaunch> createAttentionStep(const plan::Step &step, const StepContext &context) {
  if (step.attention().backward())
    return std::make_unique<AttentionBackwardStep>(step, context);
  return std::make_unique<AttentionForwardStep>(step, context);
}

std::unique_ptr<StepLaunch> createRouteStep(const plan::Step &step, const StepContext &context) {
  if (step.route().backward())
    return std::make_unique<RouteBackwardStep>(step, context);
  return std::make_unique<RouteForwardStep>(step, context);
}

std::unique_ptr<StepLaunch> createScatterAddStep(const plan::Step &step, const StepContext &context, int32_t *outside) {
  return std::make_unique<ScatterAddStep>(step, context, outside);
}

} // namespace moe::cuda
