//===- CpuTarget.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/CpuTarget.h"

#include "codegen/cpu/CpuPlanner.h"
#include "codegen/cpu/KernelEmitter.h"
#include "codegen/cpu/ObjectCode.h"
#include "codegen/kernel/PlanType.h"
#include "runtime/cpu/Gemm.h"
#include "runtime/cpu/GroupedGemm.h"
#include "runtime/cpu/WorkOperands.h"
#include "runtime/cpu/kernels/Attention.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

namespace moe::codegen {

// Levels of the x86-64 psABI, as runtime/cpu/kernels/Isa.h tells them apart.
static constexpr llvm::StringRef v3Features[] = {"avx",   "avx2",  "bmi",    "bmi2",   "cx16",   "f16c", "fma",
                                                 "lzcnt", "movbe", "popcnt", "sse4.1", "sse4.2", "ssse3"};
static constexpr llvm::StringRef v4Features[] = {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"};
// What oneDNN's bf16 products use beyond that, in groups that it takes as a whole (`levelOf` in runtime/cpu/Gemm.cpp).
static constexpr llvm::StringRef bf16Features[] = {"avx512bf16", "avx512vnni"};
static constexpr llvm::StringRef amxFeatures[] = {"amx-bf16", "amx-int8", "amx-tile"};

static CpuTarget level(llvm::StringRef name, llvm::StringRef tune, bool v4) {
  CpuTarget target{name.str(), tune.str(), {}, v4 ? 512u : 256u};
  for (llvm::StringRef feature : v3Features)
    target.features.push_back(feature.str());
  if (v4)
    for (llvm::StringRef feature : v4Features)
      target.features.push_back(feature.str());
  llvm::sort(target.features);
  return target;
}

std::optional<CpuTarget> CpuTarget::parse(llvm::StringRef text, std::string &error) {
  if (text == "x86-64-v3" || text == "x86-64-v4")
    return level(text, text, text.ends_with("4"));
  if (text != "native") {
    error = "unknown CPU '" + text.str() + "'; known: native, x86-64-v3, x86-64-v4";
    return std::nullopt;
  }
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  auto present = [&](llvm::StringRef feature) { return host.lookup(feature); };
  for (llvm::StringRef feature : v3Features)
    if (!present(feature)) {
      error = "this processor lacks the feature '" + feature.str() + "'; kernels need at least x86-64-v3";
      return std::nullopt;
    }
  CpuTarget target = level(text, llvm::sys::getHostCPUName(), llvm::all_of(v4Features, present));
  if (target.vectorBits == 512)
    for (llvm::ArrayRef<llvm::StringRef> group : {llvm::ArrayRef(bf16Features), llvm::ArrayRef(amxFeatures)}) {
      if (!llvm::all_of(group, present))
        break;
      for (llvm::StringRef feature : group)
        target.features.push_back(feature.str());
    }
  llvm::sort(target.features);
  return target;
}

namespace {

class CpuKernelTarget final : public KernelTarget {
public:
  CpuKernelTarget(CpuTarget processor, int threads) : processor(std::move(processor)), threadCount(threads) {}

  llvm::StringRef device() const override { return "cpu"; }
  llvm::StringRef name() const override { return processor.name; }
  llvm::ArrayRef<std::string> features() const override { return processor.features; }
  int threads() const override { return threadCount; }
  std::string codeKey() const override {
    return llvm::join(processor.features, ",") + ";" + processor.tune + ";" + std::to_string(processor.vectorBits);
  }
  mlir::FailureOr<Strategy> chooseStrategy(ir::FusedOp op) const override {
    return chooseCpuStrategy(op, processor.vectorBits);
  }
  void emitKernels(mlir::ModuleOp module, const Strategy &strategy,
                   llvm::ArrayRef<std::string> symbols) const override {
    emitCpuKernels(module, strategy, symbols);
  }
  std::unique_ptr<ObjectCompiler> createObjectCompiler(mlir::MLIRContext *context) const override {
    return createCpuObjectCompiler(context, processor);
  }
  mlir::FailureOr<KernelImage> link(mlir::Location location,
                                    llvm::ArrayRef<const std::string *> objects) const override {
    mlir::FailureOr<std::string> image = linkSharedObject(location, objects);
    if (failed(image))
      return mlir::failure();
    return KernelImage{"elf", std::move(*image)};
  }
  std::string whyNotIn(mlir::Type element) const override {
    // oneDNN has no bf16 products below AVX-512.
    return element.isBF16() && processor.vectorBits < 512 ? "products in bf16 need AVX-512, as cpu:x86-64-v4 has it"
                                                          : "";
  }
  uint64_t libraryScratchBytes(const plan::Step &step, llvm::ArrayRef<mlir::Type> types) const override {
    switch (step.work_case()) {
    case plan::Step::kGemm:
      // Scratch depends on the instructions that oneDNN may use. It takes a limit once per process; where a second
      // target comes too late, the size may be wrong, and moerun says so before it runs.
      (void)cpu::limitGemmIsa(processor.features);
      return cpu::gemmScratchBytes(step.gemm(),
                                   {toPlanType(types[0]), toPlanType(types[1]), toPlanType(types[2]),
                                    step.gemm().has_bias() ? toPlanType(types[3]) : plan::F32},
                                   threadCount);
    case plan::Step::kGroupedGemm:
      (void)cpu::limitGemmIsa(processor.features);
      return cpu::groupedGemmScratchBytes(step.grouped_gemm(), toPlanType(types[0]), threadCount);
    case plan::Step::kAttention:
      return cpu::attentionScratchBytes({cpu::sizesOf(step.attention()), {}, types[0].isBF16()}, threadCount,
                                        step.attention().backward());
    case plan::Step::kRoute:
      return step.route().backward() ? 0 : cpu::routeScratchBytes(cpu::shapeOf(step.route()));
    default:
      return 0;
    }
  }

private:
  CpuTarget processor;
  int threadCount;
};

} // namespace

std::unique_ptr<KernelTarget> createCpuTarget(llvm::StringRef name, int threads, std::string &error) {
  std::optional<CpuTarget> cpu = CpuTarget::parse(name, error);
  return cpu ? std::make_unique<CpuKernelTarget>(std::move(*cpu), threads) : nullptr;
}

} // namespace moe::codegen
