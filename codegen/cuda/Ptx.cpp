//===- Ptx.cpp - PTX text and cubins ------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/Ptx.h"

#include "codegen/cuda/ThreadOps.h"
#include "codegen/kernel/Lowering.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include <mutex>
#include <tuple>

using namespace mlir;

namespace moe::codegen::cuda {

namespace {

constexpr StringRef triple = "nvptx64-nvidia-cuda";

/// The oldest PTX that knows the chip and that CUDA 12.0 reads, or the first one after it that knows the chip.
StringRef ptxFeature(StringRef chip) {
  return chip == "sm_100" ? "+ptx86" : "+ptx80";
}

class PtxCompiler final : public ObjectCompiler {
public:
  PtxCompiler(MLIRContext *context, StringRef chip) : chip(chip), lowering(context) {
    static std::once_flag once;
    std::call_once(once, [] {
      LLVMInitializeNVPTXTargetInfo();
      LLVMInitializeNVPTXTarget();
      LLVMInitializeNVPTXTargetMC();
      LLVMInitializeNVPTXAsmPrinter();
    });
    std::string error;
    backend = llvm::TargetRegistry::lookupTarget(llvm::Triple(triple), error);
  }

  FailureOr<std::string> compile(ModuleOp module, bool keepLlvmIr, CompileReport &report) const override;

private:
  std::string chip;
  KernelLowering lowering;
  const llvm::Target *backend = nullptr;
};

FailureOr<std::string> PtxCompiler::compile(ModuleOp module, bool keepLlvmIr, CompileReport &report) const {
  if (!backend)
    return module.emitError("this build of LLVM has no back end for ") << triple;
  Stopwatch watch;
  lowerToNvvm(module);
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> llvmModule = lowering.lower(module, context);
  if (!llvmModule)
    return failure();
  watch.addTo(report.lowerSeconds);
  std::unique_ptr<llvm::TargetMachine> machine(
      backend->createTargetMachine(llvm::Triple(triple), chip, ptxFeature(chip), llvm::TargetOptions(), std::nullopt,
                                   std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  llvmModule->setTargetTriple(machine->getTargetTriple());
  llvmModule->setDataLayout(machine->createDataLayout());
  for (llvm::Function &function : *llvmModule)
    function.addFnAttr(llvm::Attribute::NoUnwind);
  std::optional<std::string> text =
      compileLlvm(*llvmModule, *machine, llvm::CodeGenFileType::AssemblyFile, keepLlvmIr, report);
  if (!text)
    return module.emitError("the back end cannot write PTX");
  return std::move(*text);
}

/// Is `line` one of those that open a PTX module?
bool isHeader(StringRef line) {
  return line.starts_with(".version") || line.starts_with(".target") || line.starts_with(".address_size");
}

} // namespace

std::unique_ptr<ObjectCompiler> createPtxCompiler(MLIRContext *context, StringRef chip) {
  return std::make_unique<PtxCompiler>(context, chip);
}

FailureOr<std::string> joinPtx(Location location, ArrayRef<const std::string *> modules) {
  std::string joined;
  bool hasShared = false;
  for (auto [number, module] : llvm::enumerate(modules)) {
    SmallVector<StringRef> lines;
    StringRef(*module).split(lines, '\n');
    for (StringRef line : lines) {
      StringRef text = line.ltrim();
      if (text.starts_with(".extern .func") || text.contains("__nv_"))
        return emitError(location) << "kernels call a function that no GPU has: " << text;
      // The size of shared memory is the launch's: all kernels share one declaration.
      bool isShared = text.starts_with(".extern .shared");
      if (text.starts_with("//") || (number > 0 && isHeader(text)) || (isShared && hasShared))
        continue;
      hasShared |= isShared;
      joined += line;
      joined += '\n';
    }
  }
  return joined;
}

std::string findPtxas() {
  if (auto found = llvm::sys::findProgramByName("ptxas"))
    return *found;
  SmallVector<std::string> folders;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH"})
    if (auto folder = llvm::sys::Process::GetEnv(variable))
      folders.push_back(*folder + "/bin");
  folders.push_back("/usr/local/cuda/bin");
  SmallVector<StringRef> views(folders.begin(), folders.end());
  auto found = llvm::sys::findProgramByName("ptxas", views);
  return found ? *found : std::string();
}

FailureOr<std::string> assemble(Location location, StringRef ptxas, StringRef chip, StringRef ptx) {
  SmallString<128> folder;
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("moec-ptx", folder))
    return emitError(location) << "cannot create a folder for temporary files: " << error.message();
  auto inFolder = [&](StringRef name) { return (folder + "/" + name).str(); };
  std::string source = inFolder("kernels.ptx"), output = inFolder("kernels.cubin"), log = inFolder("log");
  FailureOr<std::string> result = failure();
  std::error_code error;
  {
    llvm::raw_fd_ostream stream(source, error);
    stream << ptx;
    stream.close();
    if (!error && stream.has_error())
      error = stream.error();
    stream.clear_error();
  }
  std::string architecture = "-arch=" + chip.str(), message;
  StringRef arguments[] = {ptxas, architecture, "-O3", source, "-o", output};
  std::optional<StringRef> redirects[] = {"", log, log};
  if (error)
    emitError(location) << "cannot write the temporary file " << source << ": " << error.message();
  else if (llvm::sys::ExecuteAndWait(ptxas, arguments, std::nullopt, redirects, 0, 0, &message) != 0) {
    auto text = llvm::MemoryBuffer::getFile(log);
    emitError(location) << ptxas << " failed: " << message << (text ? (*text)->getBuffer() : StringRef());
  } else if (auto image = llvm::MemoryBuffer::getFile(output))
    result = (*image)->getBuffer().str();
  else
    emitError(location) << "cannot read what " << ptxas << " wrote: " << image.getError().message();
  std::ignore = llvm::sys::fs::remove_directories(folder); // a leftover in the folder for such things harms nobody
  return result;
}

} // namespace moe::codegen::cuda
