//===- KernelEmitter.cpp - Functions of the kernel ABI and common loops -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/KernelEmitter.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;

namespace moe::codegen {

//===----------------------------------------------------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------------------------------------------------===//

Span wholeSpan(NodeEmitter &e, unsigned dim) {
  int64_t size = e.strategy.sizeOf(dim);
  return {dim, e.constant(0), e.constant(size), size, size % e.strategy.lanes == 0};
}

Span chunkSpan(NodeEmitter &e, unsigned dim, Value chunkIndex, int64_t chunk) {
  int64_t size = e.strategy.sizeOf(dim), lanes = e.strategy.lanes;
  if (chunk >= size)
    return wholeSpan(e, dim);
  Value low = arith::MulIOp::create(e.b, chunkIndex, e.constant(chunk));
  Value high = arith::AddIOp::create(e.b, low, e.constant(chunk));
  if (size % chunk != 0)
    high = arith::MinSIOp::create(e.b, high, e.constant(size));
  return {dim, low, high, chunk, size % lanes == 0 && chunk % lanes == 0};
}

void vectorLoop(NodeEmitter &e, const Span &span, unsigned unroll, const Scope &scope, Values &carried,
                llvm::function_ref<void(Scope &, MutableArrayRef<Value>)> body) {
  int64_t lanes = e.strategy.lanes;
  size_t group = carried.size() / unroll;
  auto run = [&](Value index, Values &values, unsigned copy, Value mask) {
    Scope inner = scope;
    inner.vectorDim = static_cast<int>(span.dim);
    inner.mask = mask;
    inner.dims[span.dim] =
        copy == 0 ? index : Value(arith::AddIOp::create(e.b, index, e.constant(static_cast<int64_t>(copy) * lanes)));
    body(inner, MutableArrayRef<Value>(values).slice(copy * group, group));
  };
  Value length = arith::SubIOp::create(e.b, span.high, span.low), position = span.low;
  auto endOf = [&](int64_t step) {
    Value full = arith::SubIOp::create(e.b, length, remainder(e, length, step));
    return Value(arith::AddIOp::create(e.b, span.low, full));
  };
  for (int64_t copies = unroll; copies >= 1; copies = copies > 1 ? 1 : 0) {
    if (span.maxLength < copies * lanes)
      continue;
    Value end = endOf(copies * lanes);
    carried = forLoop(e, position, end, copies * lanes, carried, [&](Value index, Values &values) {
      for (unsigned copy = 0; copy < copies; ++copy)
        run(index, values, copy, {});
    });
    position = end;
  }
  if (span.whole)
    return;
  Value rest = arith::SubIOp::create(e.b, span.high, position);
  Value isSome = arith::CmpIOp::create(e.b, arith::CmpIPredicate::sgt, rest, e.constant(0));
  auto branch = scf::IfOp::create(e.b, ValueRange(carried).getTypes(), isSome, /*withElse=*/!carried.empty());
  OpBuilder::InsertionGuard guard(e.b);
  Block &then = branch.getThenRegion().front();
  if (carried.empty())
    e.b.setInsertionPoint(then.getTerminator());
  else
    e.b.setInsertionPointToEnd(&then);
  Type i32 = e.b.getI32Type();
  Scope plain = scope;
  plain.vectorDim = static_cast<int>(span.dim);
  Value limit = e.spread(arith::TruncIOp::create(e.b, i32, rest), plain);
  Value mask = arith::CmpIOp::create(e.b, arith::CmpIPredicate::slt, e.laneNumbers(i32), limit);
  Values values = carried;
  run(position, values, 0, mask);
  if (!carried.empty()) {
    scf::YieldOp::create(e.b, values);
    e.b.setInsertionPointToEnd(&branch.getElseRegion().front());
    scf::YieldOp::create(e.b, carried);
    carried.assign(branch.getResults().begin(), branch.getResults().end());
  }
}

void nest(NodeEmitter &e, ArrayRef<unsigned> dims, const Span &last, unsigned unroll, uint64_t available,
          unsigned stage, ArrayRef<NodeId> roots, const Scope &scope, Values &carried,
          llvm::function_ref<void(Scope &, MutableArrayRef<Value>)> body) {
  Scope here = scope;
  e.hoist(roots, available, stage, here);
  if (dims.size() == 1) {
    vectorLoop(e, last, unroll, here, carried, body);
    return;
  }
  unsigned dim = dims.front();
  carried = forLoop(e, e.constant(0), e.constant(e.strategy.sizeOf(dim)), 1, carried, [&](Value index, Values &values) {
    here.dims[dim] = index;
    nest(e, dims.drop_front(), last, unroll, available | uint64_t{1} << dim, stage, roots, here, values, body);
  });
}

//===----------------------------------------------------------------------------------------------------------------===//
// Functions
//===----------------------------------------------------------------------------------------------------------------===//

static void emitCall(ModuleOp module, const Strategy &strategy, unsigned number, StringRef symbol) {
  ImplicitLocOpBuilder b(module.getLoc(), module.getContext());
  const PlannedCall &call = strategy.plan.calls[number];
  Type pointer = LLVM::LLVMPointerType::get(b.getContext()), i64 = b.getI64Type();
  Type nothing = LLVM::LLVMVoidType::get(b.getContext());

  // The body takes bare pointers: `noalias` on parameters is what lets LLVM keep values in registers.
  SmallVector<Type> parameters(call.operands.size(), pointer);
  parameters.append(strategy.plan.numbers.size() + 2, i64);
  b.setInsertionPointToEnd(module.getBody());
  auto body = LLVM::LLVMFuncOp::create(b, (symbol + "_body").str(), LLVM::LLVMFunctionType::get(nothing, parameters),
                                       LLVM::Linkage::Internal);
  markPointers(body, strategy, call);
  b.setInsertionPointToStart(body.addEntryBlock(b));
  NodeEmitter e(b, strategy);
  bindParameters(e, body, call);
  Value begin = body.getArgument(parameters.size() - 2), end = body.getArgument(parameters.size() - 1);
  switch (strategy.kind) {
  case LoopKind::Pointwise:
    emitPointwise(e, begin, end);
    break;
  case LoopKind::Rows:
    emitRows(e, begin, end);
    break;
  case LoopKind::SplitRows:
    emitSplitRows(e, number, begin, end);
    break;
  case LoopKind::Columns:
    emitColumns(e, number, begin, end);
    break;
  }
  LLVM::ReturnOp::create(b, ValueRange{});

  // struct MoeKernelArgs (runtime/abi/KernelAbi.h) begins with the arrays of pointers and of numbers.
  b.setInsertionPointToEnd(module.getBody());
  auto kernel = LLVM::LLVMFuncOp::create(b, symbol, LLVM::LLVMFunctionType::get(nothing, {pointer, i64, i64}));
  b.setInsertionPointToStart(kernel.addEntryBlock(b));
  Values arguments;
  auto append = [&](int32_t field, Type type, size_t count) {
    Value member = LLVM::GEPOp::create(b, pointer, pointer, kernel.getArgument(0), ArrayRef<LLVM::GEPArg>{field});
    Value array = LLVM::LoadOp::create(b, pointer, member);
    for (int32_t i = 0; i < static_cast<int32_t>(count); ++i) {
      Value slot = LLVM::GEPOp::create(b, pointer, type, array, ArrayRef<LLVM::GEPArg>{i});
      arguments.push_back(LLVM::LoadOp::create(b, type, slot));
    }
  };
  append(0, pointer, call.operands.size());
  append(1, i64, strategy.plan.numbers.size());
  arguments.append({kernel.getArgument(1), kernel.getArgument(2)});
  LLVM::CallOp::create(b, body, arguments);
  LLVM::ReturnOp::create(b, ValueRange{});
}

void emitCpuKernels(ModuleOp module, const Strategy &strategy, ArrayRef<std::string> symbols) {
  for (auto [number, symbol] : llvm::enumerate(symbols))
    emitCall(module, strategy, static_cast<unsigned>(number), symbol);
}

} // namespace moe::codegen
