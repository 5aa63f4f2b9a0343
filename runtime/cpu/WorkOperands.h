//===- WorkOperands.h - What the messages of a plan say of library work ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// How the kernels of a backend take their sizes and operands from a step: the same for all backends, whose kernels
// differ.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_WORKOPERANDS_H
#define MOEC_RUNTIME_CPU_WORKOPERANDS_H

#include "runtime/core/Diagnostic.h"
#include "runtime/cpu/kernels/AttentionOperands.h"
#include "runtime/cpu/kernels/Route.h"
#include "runtime/cpu/kernels/ScatterAdd.h"
#include "runtime/plan/plan.pb.h"

#include <string>

namespace moe::cpu {

inline AttentionSizes sizesOf(const plan::Attention &attention) {
  AttentionSizes sizes;
  sizes.batch = attention.batch();
  sizes.heads = attention.heads();
  sizes.kvHeads = attention.kv_heads();
  sizes.queries = attention.queries();
  sizes.keys = attention.keys();
  sizes.headDim = attention.head_dim();
  sizes.scale = attention.scale();
  sizes.causal = attention.causal();
  sizes.dropout = attention.dropout();
  sizes.seed = attention.seed();
  sizes.site = attention.site();
  sizes.softcap = attention.softcap();
  sizes.window = attention.window() < attention.keys() ? attention.window() : 0; // no key is further away than that
  return sizes;
}

inline RouteShape shapeOf(const plan::Route &route) {
  RouteShape shape;
  shape.groups = route.groups();
  shape.tokens = route.tokens();
  shape.experts = route.experts();
  shape.capacity = route.capacity();
  shape.topK = route.top_k();
  shape.policy = route.policy() == plan::Route::SAMPLING ? RoutePolicy::Sampling
                 : route.policy() == plan::Route::RANDOM ? RoutePolicy::Random
                                                         : RoutePolicy::All;
  shape.normalizeBeforeDropping = route.normalize_before_dropping();
  shape.batchPrioritized = route.batch_prioritized();
  return shape;
}

inline ScatterAddShape shapeOf(const plan::ScatterAdd &scatter) {
  return {scatter.rows(), scatter.width(), scatter.table_rows(), scatter.accumulate()};
}

/// Hands out the operands of a step in the order of plan.proto. `Context` has `std::byte *address(step, operand)`.
template <typename Context> class Operands {
public:
  Operands(const plan::Step &step, const Context &context) : step(step), context(context) {}
  template <typename T> void next(T *&pointer) { pointer = reinterpret_cast<T *>(context.address(step, index++)); }
  template <typename... T> void take(T *&...pointers) { (next(pointers), ...); }

private:
  const plan::Step &step;
  const Context &context;
  int index = 0;
};

template <typename Context>
AttentionForwardOperands attentionForwardOperands(const plan::Step &step, const Context &context) {
  AttentionForwardOperands p;
  Operands operands(step, context);
  operands.take(p.q, p.k, p.v);
  if (step.attention().has_padding())
    operands.next(p.padding);
  if (step.attention().dropout() > 0)
    operands.next(p.rng);
  if (step.attention().has_sinks())
    operands.next(p.sinks);
  operands.take(p.out, p.lse);
  if (step.attention().scratch_bytes() > 0)
    operands.next(p.scratch);
  return p;
}

template <typename Context>
AttentionBackwardOperands attentionBackwardOperands(const plan::Step &step, const Context &context) {
  AttentionBackwardOperands p;
  Operands operands(step, context);
  operands.take(p.dout, p.q, p.k, p.v, p.out, p.lse);
  if (step.attention().has_padding())
    operands.next(p.padding);
  if (step.attention().dropout() > 0)
    operands.next(p.rng);
  operands.take(p.dq, p.dk, p.dv);
  if (step.attention().scratch_bytes() > 0)
    operands.next(p.scratch);
  return p;
}

template <typename Context> RouteForwardPointers routeForwardOperands(const plan::Step &step, const Context &context) {
  RouteForwardPointers p;
  Operands operands(step, context);
  operands.next(p.logits);
  if (step.route().has_mask())
    operands.next(p.mask);
  if (step.route().policy() != plan::Route::ALL)
    operands.next(p.noise);
  operands.take(p.expert, p.slot, p.weight, p.token, p.aux, p.probs, p.firstFraction, p.metrics);
  if (step.route().scratch_bytes() > 0)
    operands.next(p.scratch);
  return p;
}

template <typename Context>
RouteBackwardPointers routeBackwardOperands(const plan::Step &step, const Context &context) {
  RouteBackwardPointers p;
  Operands(step, context).take(p.dweight, p.daux, p.probs, p.expert, p.slot, p.firstFraction, p.dlogits);
  return p;
}

/// Error unless all typed operands that are no integers or flags are float32. `backend`: "CPU", "CUDA".
inline Status requireFloat32(const plan::Step &step, const std::string &backend, const std::string &work) {
  for (const plan::Operand &operand : step.operands()) {
    if (operand.dtype() != plan::BF16 && operand.dtype() != plan::F16)
      continue;
    std::string message = "the ";
    message.append(backend).append(" backend computes ").append(work).append(" in float32 only");
    return error(message, {}, "an operand has type " + plan::DType_Name(operand.dtype()));
  }
  return {};
}

/// Error unless work of one type (attention, products of grouped rows) is in a type that its kernels have. `backend`:
/// "CPU", "CUDA".
inline Status requireComputeType(const plan::Step &step, const std::string &backend, const std::string &work) {
  const plan::DType type = step.operands(0).dtype(); // that of all, as the plan's structure demands
  if (type == plan::F32 || type == plan::BF16)
    return {};
  return error("the " + backend + " backend computes " + work + " in float32 and bfloat16 only", {},
               "its operands have type " + plan::DType_Name(type));
}

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_WORKOPERANDS_H
