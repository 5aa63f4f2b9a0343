//===- StepsMoe.cpp - Steps by kernels of the backend's own -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/WorkOperands.h"
#include "runtime/cuda/Errors.h"
#include "runtime/cuda/Scratch.h"
#include "runtime/cuda/Steps.h"
#include "runtime/cuda/kernels/Attention.h"
#include "runtime/cuda/kernels/GroupedGemm.h"
#include "runtime/cuda/kernels/Route.h"
#include "runtime/cuda/kernels/ScatterAdd.h"

namespace moe::cuda {
namespace {

using cpu::requireFloat32;

Status requireScratch(uint64_t needed, uint64_t given, const char *work) {
  if (needed <= given)
    return {};
  return error(std::string("the plan gives ") + work + " too little scratch memory", {},
               "it needs " + std::to_string(needed) + " bytes, the plan has " + std::to_string(given),
               "compile the model again with the moec of this release");
}

/// Launches kernels of the backend's own.
template <typename Shape, typename Pointers> class KernelsStep final : public StepLaunch {
public:
  using Launch = cudaError_t (*)(const Shape &, const Pointers &, cudaStream_t);

  /// `what` is done, as an error says it.
  KernelsStep(Launch launch, const Shape &shape, const Pointers &pointers, const char *what)
      : launch(launch), shape(shape), pointers(pointers), what(what) {}

  Status enqueue(cudaStream_t stream) override { return check(launch(shape, pointers, stream), what); }

private:
  Launch launch;
  Shape shape;
  Pointers pointers;
  const char *what;
};

template <typename Shape, typename Pointers>
std::unique_ptr<StepLaunch> launchOf(cudaError_t (*launch)(const Shape &, const Pointers &, cudaStream_t),
                                     const Shape &shape, const Pointers &pointers, const char *what) {
  return std::make_unique<KernelsStep<Shape, Pointers>>(launch, shape, pointers, what);
}

Status checkAttention(const plan::Step &step) {
  if (Status status = cpu::requireComputeType(step, "CUDA", "attention"); !status)
    return status;
  return requireScratch(attentionScratchBytes(step.attention()), step.attention().scratch_bytes(), "attention");
}

Status checkGroupedGemm(const plan::Step &step) {
  const plan::GroupedGemm &gemm = step.grouped_gemm();
  if (Status status = cpu::requireComputeType(step, "CUDA", "products of grouped rows"); !status)
    return status;
  if (gemm.separate() && gemm.experts() > kMostSeparateExperts)
    return error("the CUDA backend takes the weights of at most " + std::to_string(kMostSeparateExperts) +
                     " experts one by one",
                 {}, "the plan has " + std::to_string(gemm.experts()));
  return {};
}

} // namespace

Status checkMoeStep(const plan::Step &step) {
  if (step.has_attention())
    return checkAttention(step);
  if (step.has_grouped_gemm())
    return checkGroupedGemm(step);
  if (step.has_scatter_add()) {
    if (Status status = requireFloat32(step, "CUDA", "additions to rows"); !status)
      return status;
    return requireScratch(scatterAddScratchBytes(step.scatter_add()), step.scatter_add().scratch_bytes(),
                          "an addition to rows");
  }
  const plan::Route &route = step.route();
  if (Status status = requireFloat32(step, "CUDA", "routing"); !status)
    return status;
  if (route.experts() > maximumExperts)
    return error("the CUDA backend routes to at most " + std::to_string(maximumExperts) + " experts", {},
                 "the plan has " + std::to_string(route.experts()));
  return requireScratch(routeScratchBytes(route), route.scratch_bytes(), "routing");
}

std::unique_ptr<StepLaunch> createAttentionStep(const plan::Step &step, const StepContext &context) {
  const Element element = step.operands(0).dtype() == plan::BF16 ? Element::Bf16 : Element::Float32;
  const AttentionShape shape{cpu::sizesOf(step.attention()), element};
  if (step.attention().backward())
    return launchOf(attentionBackward, shape, cpu::attentionBackwardOperands(step, context),
                    "launch the gradient of the attention");
  return launchOf(attentionForward, shape, cpu::attentionForwardOperands(step, context), "launch the attention");
}

std::unique_ptr<StepLaunch> createRouteStep(const plan::Step &step, const StepContext &context) {
  const RouteShape shape = cpu::shapeOf(step.route());
  if (step.route().backward())
    return launchOf(routeBackward, shape, cpu::routeBackwardOperands(step, context),
                    "launch the gradient of the routing");
  return launchOf(routeForward, shape, cpu::routeForwardOperands(step, context), "launch the routing");
}

std::unique_ptr<StepLaunch> createGroupedGemmStep(const plan::Step &step, const StepContext &context,
                                                  int32_t *outside) {
  const plan::GroupedGemm &gemm = step.grouped_gemm();
  const GroupedGemmShape shape{.blocks = gemm.blocks(),
                               .blockRows = gemm.block_rows(),
                               .experts = gemm.experts(),
                               .left = gemm.left(),
                               .right = gemm.right(),
                               .transposed = gemm.transposed(),
                               .separate = gemm.separate(),
                               .element = step.operands(0).dtype() == plan::BF16 ? Element::Bf16 : Element::Float32};
  GroupedGemmPointers pointers;
  cpu::Operands operands(step, context);
  operands.next(pointers.left);
  if (gemm.weight_grad())
    operands.next(pointers.right);
  operands.next(pointers.blockExpert);
  for (int64_t i = 0; i < (gemm.separate() ? gemm.experts() : 1); ++i)
    operands.next(pointers.weights[i]);
  if (!gemm.weight_grad())
    operands.next(pointers.result);
  pointers.outside = outside;
  return launchOf(gemm.weight_grad() ? groupedGemmWeightGrad : groupedGemm, shape, pointers,
                  "launch a product of grouped rows");
}

std::unique_ptr<StepLaunch> createScatterAddStep(const plan::Step &step, const StepContext &context, int32_t *outside) {
  ScatterAddPointers pointers;
  cpu::Operands(step, context).take(pointers.index, pointers.rows, pointers.table, pointers.scratch);
  pointers.index64 = step.operands(0).dtype() == plan::I64;
  pointers.outside = outside;
  return launchOf(scatterAdd, cpu::shapeOf(step.scatter_add()), pointers, "launch an addition to the rows of a table");
}

} // namespace moe::cuda
