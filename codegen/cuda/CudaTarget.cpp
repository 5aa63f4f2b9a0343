//===- CudaTarget.cpp - GPUs, and the simulated device ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/CudaTarget.h"

#include "codegen/cpu/ObjectCode.h"
#include "codegen/cuda/CudaEmitter.h"
#include "codegen/cuda/CudaPlanner.h"
#include "codegen/cuda/Ptx.h"
#include "codegen/cuda/ThreadOps.h"
#include "codegen/kernel/PlanType.h"
#include "runtime/cuda/Scratch.h"

using namespace mlir;

namespace moe::codegen {

namespace {

class CudaTarget : public KernelTarget {
public:
  StringRef device() const override { return "cuda"; }
  ArrayRef<std::string> features() const override { return {}; }
  int threads() const override { return 1; }
  FailureOr<Strategy> chooseStrategy(ir::FusedOp op) const override { return cuda::chooseStrategy(op); }
  void emitKernels(ModuleOp module, const Strategy &strategy, ArrayRef<std::string> symbols) const override {
    cuda::emitKernels(module, strategy, symbols);
  }
  uint64_t libraryScratchBytes(const plan::Step &step, ArrayRef<Type> /*types*/) const override {
    switch (step.work_case()) {
    case plan::Step::kGemm:
      return moe::cuda::gemmWorkspaceBytes(step.gemm());
    case plan::Step::kAttention:
      return moe::cuda::attentionScratchBytes(step.attention());
    case plan::Step::kRoute:
      return moe::cuda::routeScratchBytes(step.route());
    case plan::Step::kScatterAdd:
      return moe::cuda::scatterAddScratchBytes(step.scatter_add());
    default:
      return 0;
    }
  }
};

class GpuTarget final : public CudaTarget {
public:
  GpuTarget(StringRef chip, const CudaTargetOptions &options)
      : chip(chip), ptxas(options.assemble ? cuda::findPtxas() : std::string()) {}

  StringRef name() const override { return chip; }
  std::string codeKey() const override { return chip; }
  std::unique_ptr<ObjectCompiler> createObjectCompiler(MLIRContext *context) const override {
    return cuda::createPtxCompiler(context, chip);
  }
  FailureOr<KernelImage> link(Location location, ArrayRef<const std::string *> objects) const override {
    FailureOr<std::string> ptx = cuda::joinPtx(location, objects);
    if (failed(ptx))
      return failure();
    if (ptxas.empty())
      return KernelImage{"ptx", std::move(*ptx)};
    FailureOr<std::string> cubin = cuda::assemble(location, ptxas, chip, *ptx);
    if (failed(cubin))
      return failure();
    return KernelImage{"cubin", std::move(*cubin)};
  }

private:
  std::string chip, ptxas;
};

/// Lowers the threads first, then compiles as for a CPU.
class SimulationCompiler final : public ObjectCompiler {
public:
  explicit SimulationCompiler(std::unique_ptr<ObjectCompiler> cpu) : cpu(std::move(cpu)) {}
  FailureOr<std::string> compile(ModuleOp module, bool keepLlvmIr, CompileReport &report) const override {
    cuda::lowerToSimulation(module);
    return cpu->compile(module, keepLlvmIr, report);
  }

private:
  std::unique_ptr<ObjectCompiler> cpu;
};

class SimulatedTarget final : public CudaTarget {
public:
  explicit SimulatedTarget(CpuTarget host) : host(std::move(host)) {}

  StringRef name() const override { return "simulated"; }
  std::string codeKey() const override { return "simulated"; }
  std::unique_ptr<ObjectCompiler> createObjectCompiler(MLIRContext *context) const override {
    return std::make_unique<SimulationCompiler>(createCpuObjectCompiler(context, host));
  }
  FailureOr<KernelImage> link(Location location, ArrayRef<const std::string *> objects) const override {
    FailureOr<std::string> image = linkSharedObject(location, objects, cuda::simulationImports());
    if (failed(image))
      return failure();
    return KernelImage{"host", std::move(*image)};
  }

private:
  CpuTarget host;
};

} // namespace

std::unique_ptr<KernelTarget> createCudaTarget(StringRef name, std::string &error, const CudaTargetOptions &options) {
  if (name == "sm_80" || name == "sm_90" || name == "sm_100")
    return std::make_unique<GpuTarget>(name, options);
  if (name != "simulated") {
    error = "unknown GPU '" + name.str() + "'; known: " + kCudaTargets.str();
    return nullptr;
  }
  std::optional<CpuTarget> host = CpuTarget::parse("x86-64-v3", error);
  return host ? std::make_unique<SimulatedTarget>(std::move(*host)) : nullptr;
}

} // namespace moe::codegen
