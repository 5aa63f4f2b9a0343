//===- ObjectCode.cpp - x86-64 object files -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/ObjectCode.h"

#include "codegen/kernel/Lowering.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include <mutex>

using namespace mlir;

namespace moe::codegen {

namespace {

constexpr StringRef triple = "x86_64-unknown-linux-gnu";

class CpuObjectCompiler final : public ObjectCompiler {
public:
  CpuObjectCompiler(MLIRContext *context, CpuTarget target);
  FailureOr<std::string> compile(ModuleOp module, bool keepLlvmIr, CompileReport &report) const override;

private:
  CpuTarget target;
  std::string features;
  KernelLowering lowering;
  const llvm::Target *backend = nullptr;
};

MathInstructions instructionsOf(const CpuTarget &target) {
  if (target.vectorBits < 512)
    return MathInstructions::None;
  return llvm::is_contained(target.features, "avx512bf16") ? MathInstructions::Avx512Bf16 : MathInstructions::Avx512F;
}

CpuObjectCompiler::CpuObjectCompiler(MLIRContext *context, CpuTarget cpu)
    : target(std::move(cpu)), lowering(context, instructionsOf(target)) {
  SmallVector<std::string> enabled;
  for (const std::string &feature : target.features)
    enabled.push_back("+" + feature);
  features = llvm::join(enabled, ",");
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  std::string error;
  backend = llvm::TargetRegistry::lookupTarget(llvm::Triple(triple), error);
}

FailureOr<std::string> CpuObjectCompiler::compile(ModuleOp module, bool keepLlvmIr, CompileReport &report) const {
  if (!backend)
    return module.emitError("this build of LLVM has no back end for ") << triple;
  Stopwatch watch;
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> llvmModule = lowering.lower(module, context);
  if (!llvmModule)
    return failure();
  watch.addTo(report.lowerSeconds);

  std::unique_ptr<llvm::TargetMachine> machine(
      backend->createTargetMachine(llvm::Triple(triple), "x86-64", features, llvm::TargetOptions(), llvm::Reloc::PIC_));
  llvmModule->setTargetTriple(machine->getTargetTriple());
  llvmModule->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *llvmModule) {
    function.addFnAttr("target-cpu", "x86-64");
    function.addFnAttr("target-features", features);
    function.addFnAttr("tune-cpu", target.tune);
    function.addFnAttr("prefer-vector-width", std::to_string(target.vectorBits));
    function.addFnAttr(llvm::Attribute::NoUnwind);
  }
  std::optional<std::string> object =
      compileLlvm(*llvmModule, *machine, llvm::CodeGenFileType::ObjectFile, keepLlvmIr, report);
  if (!object)
    return module.emitError("the back end cannot write object files");
  return std::move(*object);
}

} // namespace

std::unique_ptr<ObjectCompiler> createCpuObjectCompiler(MLIRContext *context, const CpuTarget &target) {
  return std::make_unique<CpuObjectCompiler>(context, target);
}

} // namespace moe::codegen
