//===- CudaEmitter.cpp - Kernels for the threads of a GPU ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "codegen/cuda/CudaEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;

namespace moe::codegen::cuda {

//===----------------------------------------------------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------------------------------------------------===//

ThreadContext::ThreadContext(NodeEmitter &e, unsigned threads) : e(e), threads(threads) {
  auto number = [&](Value index) -> Value { return arith::IndexCastUIOp::create(e.b, e.indexType(), index); };
  threadIndex = number(gpu::ThreadIdOp::create(e.b, gpu::Dimension::x));
  blockIndex = number(gpu::BlockIdOp::create(e.b, gpu::Dimension::x));
}

Value ThreadContext::global() {
  if (!globalIndex) {
    Value first = arith::MulIOp::create(e.b, blockIndex, e.constant(threads));
    globalIndex = arith::AddIOp::create(e.b, first, threadIndex);
  }
  return globalIndex;
}

void ThreadContext::barrier() {
  gpu::BarrierOp::create(e.b);
}

Value ThreadContext::shuffleXor(Value value, unsigned mask) {
  Type i32 = e.b.getI32Type(), i64 = e.b.getI64Type(), type = value.getType();
  auto exchange = [&](Value word) -> Value {
    return gpu::ShuffleOp::create(e.b, word, static_cast<int32_t>(mask), 32, gpu::ShuffleMode::XOR).getShuffleResult();
  };
  if (type.isInteger(1))
    return arith::TruncIOp::create(e.b, type, exchange(arith::ExtUIOp::create(e.b, i32, value)));
  if (type.isF32())
    return arith::BitcastOp::create(e.b, type, exchange(arith::BitcastOp::create(e.b, i32, value)));
  if (type != i64)
    return exchange(value);
  Value half = arith::ConstantOp::create(e.b, e.b.getI64IntegerAttr(32));
  Value low = exchange(arith::TruncIOp::create(e.b, i32, value));
  Value high = exchange(arith::TruncIOp::create(e.b, i32, arith::ShRUIOp::create(e.b, value, half)));
  Value upper = arith::ShLIOp::create(e.b, arith::ExtUIOp::create(e.b, i64, high), half);
  return arith::OrIOp::create(e.b, upper, arith::ExtUIOp::create(e.b, i64, low));
}

Value ThreadContext::sharedSlot(Value index) {
  if (!shared) {
    // At the top of the kernel, where it serves every later use.
    auto function = e.b.getInsertionBlock()->getParent()->getParentOfType<LLVM::LLVMFuncOp>();
    OpBuilder::InsertionGuard guard(e.b);
    e.b.setInsertionPointToStart(&function.getBody().front());
    shared = LLVM::CallOp::create(e.b, TypeRange(LLVM::LLVMPointerType::get(e.b.getContext())), sharedMemorySymbol,
                                  ValueRange())
                 .getResult();
  }
  return e.pointerAt(shared, e.b.getI64Type(), index);
}

//===----------------------------------------------------------------------------------------------------------------===//
// What the loop structures share
//===----------------------------------------------------------------------------------------------------------------===//

Value isBelow(NodeEmitter &e, Value value, int64_t limit) {
  return arith::CmpIOp::create(e.b, arith::CmpIPredicate::ult, value, e.constant(limit));
}

void openVector(NodeEmitter &e, ArrayRef<unsigned> dims, Value vector, Scope &scope) {
  int64_t lanes = e.strategy.lanes;
  Value position = lanes == 1 ? vector : Value(arith::MulIOp::create(e.b, vector, e.constant(lanes)));
  setDims(e, dims, position, scope);
  scope.vectorDim = lanes == 1 ? -1 : static_cast<int>(dims.back());
}

Type partialType(NodeEmitter &e, NodeId reduction) {
  Type type = e.registerType(e.graph.nodes[reduction].type);
  return type.isInteger(1) ? Type(e.b.getI8Type()) : type;
}

Value toPartial(NodeEmitter &e, Value value) {
  if (!getElementTypeOrSelf(value.getType()).isInteger(1))
    return value;
  Type byte = e.b.getI8Type();
  return arith::ExtUIOp::create(e.b, isa<VectorType>(value.getType()) ? Type(e.vectorOf(byte)) : byte, value);
}

Value fromPartial(NodeEmitter &e, Value value, NodeId reduction) {
  Type bit = e.b.getI1Type();
  if (!e.graph.nodes[reduction].type.isInteger(1))
    return value;
  return arith::TruncIOp::create(e.b, isa<VectorType>(value.getType()) ? Type(e.vectorOf(bit)) : bit, value);
}

//===----------------------------------------------------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------------------------------------------------===//

static void emitKernel(ModuleOp module, const Strategy &strategy, unsigned number, StringRef symbol) {
  ImplicitLocOpBuilder b(module.getLoc(), module.getContext());
  const PlannedCall &call = strategy.plan.calls[number];
  Type pointer = LLVM::LLVMPointerType::get(b.getContext()), nothing = LLVM::LLVMVoidType::get(b.getContext());
  b.setInsertionPointToEnd(module.getBody());
  SmallVector<Type> parameters(call.operands.size(), pointer);
  parameters.append(strategy.plan.numbers.size(), b.getI64Type());
  auto kernel = LLVM::LLVMFuncOp::create(b, symbol, LLVM::LLVMFunctionType::get(nothing, parameters));
  kernel->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(), b.getUnitAttr());
  kernel->setAttr(NVVM::NVVMDialect::getMaxntidAttrName(),
                  b.getDenseI32ArrayAttr({static_cast<int32_t>(call.threads)}));
  // Without this the assembler spills a register or two where that makes room for one more block.
  kernel->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(), b.getI32IntegerAttr(1));
  markPointers(kernel, strategy, call);
  // What nobody writes while the kernel runs may go through the read-only cache.
  for (auto [position, operand] : llvm::enumerate(call.operands))
    if (operand.kind == PlannedOperand::Kind::Input && kernel.getArgAttr(position, "llvm.noalias"))
      kernel.setArgAttr(position, "llvm.readonly", b.getUnitAttr());
  b.setInsertionPointToStart(kernel.addEntryBlock(b));
  NodeEmitter e(b, strategy);
  bindParameters(e, kernel, call);
  ThreadContext t(e, call.threads);
  switch (strategy.kind) {
  case LoopKind::Pointwise:
    emitPointwise(e, t);
    break;
  case LoopKind::Rows:
    emitRows(e, t, call.threads);
    break;
  case LoopKind::SplitRows:
    emitSplitRows(e, t, number);
    break;
  case LoopKind::Columns:
    emitColumns(e, t, number);
    break;
  }
  LLVM::ReturnOp::create(b, ValueRange{});
}

void emitKernels(ModuleOp module, const Strategy &strategy, ArrayRef<std::string> symbols) {
  OpBuilder b(module.getContext());
  b.setInsertionPointToStart(module.getBody());
  if (llvm::any_of(strategy.plan.calls, [](const PlannedCall &call) { return call.sharedBytes > 0; }))
    LLVM::LLVMFuncOp::create(b, module.getLoc(), sharedMemorySymbol,
                             LLVM::LLVMFunctionType::get(LLVM::LLVMPointerType::get(b.getContext()), {}));
  for (auto [number, symbol] : llvm::enumerate(symbols))
    emitKernel(module, strategy, static_cast<unsigned>(number), symbol);
}

} // namespace moe::codegen::cuda
