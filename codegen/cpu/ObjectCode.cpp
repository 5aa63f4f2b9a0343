//===- ObjectCode.cpp - Conversion, LLVM passes, instruction selection --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/ObjectCode.h"

#include "codegen/cpu/NodeEmitter.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/DialectConversion.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/InstCombine/InstCombine.h"
#include "llvm/Transforms/Scalar/EarlyCSE.h"
#include "llvm/Transforms/Scalar/LICM.h"
#include "llvm/Transforms/Scalar/LoopPassManager.h"
#include "llvm/Transforms/Scalar/LoopRotation.h"
#include "llvm/Transforms/Scalar/SimplifyCFG.h"
#include <chrono>
#include <mutex>

using namespace mlir;

namespace moe::codegen {

namespace {

constexpr StringRef triple = "x86_64-unknown-linux-gnu";

/// Adds the time since its creation (or the last call) to a sum.
class Stopwatch {
public:
  void addTo(double &seconds) {
    auto now = std::chrono::steady_clock::now();
    seconds += std::chrono::duration<double>(now - start).count();
    start = now;
  }

private:
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

/// Kernels arrive as explicit vectors in simple loops; what is left is to move invariants and clean up.
void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::PassBuilder builder(&machine);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);

  llvm::LoopPassManager loopPasses;
  loopPasses.addPass(llvm::LoopRotatePass());
  loopPasses.addPass(llvm::LICMPass(llvm::LICMOptions()));
  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::EarlyCSEPass());
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(std::move(loopPasses), /*UseMemorySSA=*/true));
  passes.addPass(llvm::EarlyCSEPass(/*UseMemorySSA=*/true));
  passes.addPass(llvm::SimplifyCFGPass());
  for (llvm::Function &function : module)
    if (!function.isDeclaration())
      passes.run(function, functions);
}

} // namespace

void loadKernelDialects(MLIRContext *context) {
  DialectRegistry registry;
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  context->appendDialectRegistry(registry);
  context->loadDialect<arith::ArithDialect, cf::ControlFlowDialect, LLVM::LLVMDialect, math::MathDialect,
                       scf::SCFDialect, vector::VectorDialect>();
}

struct ObjectCompiler::State {
  explicit State(MLIRContext *context) : converter(context), conversionTarget(*context) {}

  CpuTarget target;
  std::string features;
  LLVMTypeConverter converter;
  LLVMConversionTarget conversionTarget;
  FrozenRewritePatternSet patterns;
  const llvm::Target *backend = nullptr;
};

ObjectCompiler::ObjectCompiler(MLIRContext *context, const CpuTarget &target)
    : state(std::make_unique<State>(context)) {
  state->target = target;
  SmallVector<std::string> features;
  for (const std::string &feature : target.features)
    features.push_back("+" + feature);
  state->features = llvm::join(features, ",");

  RewritePatternSet patterns(context);
  populateSCFToControlFlowConversionPatterns(patterns);
  cf::populateControlFlowToLLVMConversionPatterns(state->converter, patterns);
  arith::populateArithToLLVMConversionPatterns(state->converter, patterns);
  populateMathToLLVMConversionPatterns(state->converter, patterns);
  populateVectorToLLVMConversionPatterns(state->converter, patterns);
  state->patterns = FrozenRewritePatternSet(std::move(patterns));
  state->conversionTarget.addLegalOp<ModuleOp>();

  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  std::string error;
  state->backend = llvm::TargetRegistry::lookupTarget(llvm::Triple(triple), error);
}

ObjectCompiler::~ObjectCompiler() = default;

FailureOr<std::string> ObjectCompiler::compile(ModuleOp module, bool keepLlvmIr, CompileReport &report) const {
  if (!state->backend)
    return module.emitError("this build of LLVM has no back end for ") << triple;
  Stopwatch watch;
  expandMath(module);
  if (failed(applyPartialConversion(module, state->conversionTarget, state->patterns)))
    return failure();
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> llvmModule = translateModuleToLLVMIR(module, context);
  if (!llvmModule)
    return module.emitError("cannot be translated to LLVM IR");
  watch.addTo(report.lowerSeconds);

  std::unique_ptr<llvm::TargetMachine> machine(state->backend->createTargetMachine(
      llvm::Triple(triple), "x86-64", state->features, llvm::TargetOptions(), llvm::Reloc::PIC_));
  llvmModule->setTargetTriple(machine->getTargetTriple());
  llvmModule->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *llvmModule) {
    function.addFnAttr("target-cpu", "x86-64");
    function.addFnAttr("target-features", state->features);
    function.addFnAttr("tune-cpu", state->target.tune);
    function.addFnAttr("prefer-vector-width", std::to_string(state->target.vectorBits));
    function.addFnAttr(llvm::Attribute::NoUnwind);
  }
  optimize(*llvmModule, *machine);
  watch.addTo(report.optimizeSeconds);
  if (keepLlvmIr) {
    llvm::raw_string_ostream stream(report.llvmIr.emplace_back());
    llvmModule->print(stream, nullptr);
  }

  SmallString<0> object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::ObjectFile))
    return module.emitError("the back end cannot write object files");
  passes.run(*llvmModule);
  watch.addTo(report.codegenSeconds);
  return std::string(object.begin(), object.end());
}

} // namespace moe::codegen
