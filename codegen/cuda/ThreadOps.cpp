//===- ThreadOps.cpp - Threads, barriers and shuffles on a GPU or on the simulated device -------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/ThreadOps.h"

#include "codegen/cuda/CudaEmitter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace moe::codegen::cuda {

namespace {

/// How one device writes the four things.
class ThreadOps {
public:
  virtual ~ThreadOps() = default;
  virtual Value thread(ImplicitLocOpBuilder &b) = 0;
  virtual Value block(ImplicitLocOpBuilder &b) = 0;
  virtual void barrier(ImplicitLocOpBuilder &b) = 0;
  virtual Value shuffleXor(ImplicitLocOpBuilder &b, Value value, Value mask) = 0;
  virtual Value shared(ImplicitLocOpBuilder &b) = 0;
};

void replaceOps(ModuleOp module, ThreadOps &device) {
  SmallVector<Operation *> found;
  module.walk([&](Operation *op) {
    auto call = dyn_cast<LLVM::CallOp>(op);
    if (isa<gpu::ThreadIdOp, gpu::BlockIdOp, gpu::BarrierOp, gpu::ShuffleOp>(op) ||
        (call && call.getCallee() == sharedMemorySymbol))
      found.push_back(op);
  });
  for (Operation *op : found) {
    ImplicitLocOpBuilder b(op->getLoc(), op);
    auto index = [&](Value number) { return arith::IndexCastUIOp::create(b, b.getIndexType(), number); };
    TypeSwitch<Operation *>(op)
        .Case([&](gpu::ThreadIdOp id) { id.replaceAllUsesWith(index(device.thread(b)).getResult()); })
        .Case([&](gpu::BlockIdOp id) { id.replaceAllUsesWith(index(device.block(b)).getResult()); })
        .Case([&](gpu::BarrierOp) { device.barrier(b); })
        .Case([&](gpu::ShuffleOp shuffle) {
          // Kernels use the value only: every lane of the warp takes part.
          shuffle.getShuffleResult().replaceAllUsesWith(device.shuffleXor(b, shuffle.getValue(), shuffle.getOffset()));
        })
        .Case([&](LLVM::CallOp call) { call.getResult().replaceAllUsesWith(device.shared(b)); });
    op->erase();
  }
  if (Operation *declaration = module.lookupSymbol(sharedMemorySymbol))
    declaration->erase();
}

class NvvmOps final : public ThreadOps {
public:
  explicit NvvmOps(ModuleOp module) : module(module) {}

  Value thread(ImplicitLocOpBuilder &b) override { return NVVM::ThreadIdXOp::create(b, b.getI32Type()); }
  Value block(ImplicitLocOpBuilder &b) override { return NVVM::BlockIdXOp::create(b, b.getI32Type()); }
  void barrier(ImplicitLocOpBuilder &b) override { NVVM::Barrier0Op::create(b); }
  Value shuffleXor(ImplicitLocOpBuilder &b, Value value, Value mask) override {
    Type i32 = b.getI32Type();
    Value all = LLVM::ConstantOp::create(b, i32, b.getI32IntegerAttr(-1));
    Value clamp = LLVM::ConstantOp::create(b, i32, b.getI32IntegerAttr(31));
    return NVVM::ShflOp::create(b, i32, all, value, mask, clamp, NVVM::ShflKind::bfly, UnitAttr());
  }
  Value shared(ImplicitLocOpBuilder &b) override {
    constexpr StringLiteral name = "moec_shared_memory";
    constexpr unsigned sharedSpace = 3;
    Type pointer = LLVM::LLVMPointerType::get(b.getContext(), sharedSpace);
    if (!module.lookupSymbol(name)) {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(module.getBody());
      // Its size is that of the launch.
      LLVM::GlobalOp::create(b, LLVM::LLVMArrayType::get(b.getI8Type(), 0), /*isConstant=*/false,
                             LLVM::Linkage::External, name, Attribute(), /*alignment=*/16, sharedSpace);
    }
    Value address = LLVM::AddressOfOp::create(b, pointer, name);
    return LLVM::AddrSpaceCastOp::create(b, LLVM::LLVMPointerType::get(b.getContext()), address);
  }

private:
  ModuleOp module;
};

class SimulationOps final : public ThreadOps {
public:
  explicit SimulationOps(ModuleOp module) : module(module) {}

  Value thread(ImplicitLocOpBuilder &b) override { return call(b, "moe_sim_thread", b.getI32Type(), {}); }
  Value block(ImplicitLocOpBuilder &b) override { return call(b, "moe_sim_block", b.getI32Type(), {}); }
  void barrier(ImplicitLocOpBuilder &b) override { call(b, "moe_sim_barrier", {}, {}); }
  Value shuffleXor(ImplicitLocOpBuilder &b, Value value, Value mask) override {
    return call(b, "moe_sim_shuffle_xor", b.getI32Type(), {value, mask});
  }
  Value shared(ImplicitLocOpBuilder &b) override {
    return call(b, "moe_sim_shared", LLVM::LLVMPointerType::get(b.getContext()), {});
  }

private:
  Value call(ImplicitLocOpBuilder &b, StringRef name, Type result, ValueRange operands) {
    Type type = result ? result : Type(LLVM::LLVMVoidType::get(b.getContext()));
    if (!module.lookupSymbol(name)) {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(module.getBody());
      LLVM::LLVMFuncOp::create(b, name, LLVM::LLVMFunctionType::get(type, SmallVector<Type>(operands.getTypes())));
    }
    auto made = LLVM::CallOp::create(b, result ? TypeRange(result) : TypeRange(), name, operands);
    return result ? made.getResult() : Value();
  }

  ModuleOp module;
};

/// void symbol(void *const *arguments) { symbol_body(*(void **)arguments[0], …, *(int64_t *)arguments[n], …); }
void wrapKernel(ModuleOp module, LLVM::LLVMFuncOp kernel) {
  std::string symbol = kernel.getSymName().str();
  kernel.setSymName(symbol + "_body");
  kernel.setLinkage(LLVM::Linkage::Internal);
  kernel->removeAttr(NVVM::NVVMDialect::getKernelFuncAttrName());
  kernel->removeAttr(NVVM::NVVMDialect::getMaxntidAttrName());
  kernel->removeAttr(NVVM::NVVMDialect::getMinctasmAttrName());
  ImplicitLocOpBuilder b(kernel.getLoc(), module.getContext());
  b.setInsertionPointToEnd(module.getBody());
  Type pointer = LLVM::LLVMPointerType::get(b.getContext()), nothing = LLVM::LLVMVoidType::get(b.getContext());
  auto outer = LLVM::LLVMFuncOp::create(b, symbol, LLVM::LLVMFunctionType::get(nothing, {pointer}));
  b.setInsertionPointToStart(outer.addEntryBlock(b));
  Values arguments;
  for (unsigned i = 0; i < kernel.getNumArguments(); ++i) {
    Value slot =
        LLVM::GEPOp::create(b, pointer, pointer, outer.getArgument(0), ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
    Type type = kernel.getArgument(i).getType();
    arguments.push_back(LLVM::LoadOp::create(b, type, LLVM::LoadOp::create(b, pointer, slot)));
  }
  LLVM::CallOp::create(b, kernel, arguments);
  LLVM::ReturnOp::create(b, ValueRange{});
}

} // namespace

void lowerToNvvm(ModuleOp module) {
  NvvmOps ops(module);
  replaceOps(module, ops);
}

void lowerToSimulation(ModuleOp module) {
  SimulationOps ops(module);
  replaceOps(module, ops);
  SmallVector<LLVM::LLVMFuncOp> kernels;
  for (auto function : module.getOps<LLVM::LLVMFuncOp>())
    if (function->hasAttr(NVVM::NVVMDialect::getKernelFuncAttrName()))
      kernels.push_back(function);
  for (LLVM::LLVMFuncOp kernel : kernels)
    wrapKernel(module, kernel);
}

ArrayRef<StringRef> simulationImports() {
  static constexpr StringRef names[] = {"moe_sim_thread", "moe_sim_block", "moe_sim_barrier", "moe_sim_shuffle_xor",
                                        "moe_sim_shared"};
  return names;
}

} // namespace moe::codegen::cuda
