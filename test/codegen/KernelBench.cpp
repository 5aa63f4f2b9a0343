//===- KernelBench.cpp - Generated kernels against a plain copy ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//
//
// Memory-bound regions are judged by bytes moved over time, beside memcpy of as many bytes in the same run, on one
// thread. Usage: moec_bench_codegen [TARGET] [SECONDS PER KERNEL [FILE FOR THE IMAGE]].
//
//===------------------------------------------------------------------------------------------------------------===//

#include "KernelRunner.h"

#include "ir/TensorBuilder.h"
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>

using namespace mlir;
using namespace moe::ir;
using namespace moe::codegen;
using namespace moe::codegen::test;

namespace {

using Inputs = ArrayRef<Value>;
using Body = std::function<SmallVector<Value>(TensorBuilder &, Inputs)>;

struct Bench {
  const char *name;
  const char *emitter;
  std::vector<RankedTensorType> inputs;
  Body body;
};

FusedOp build(MLIRContext &context, OpBuilder &outer, const Bench &bench) {
  Location loc = UnknownLoc::get(&context);
  auto *block = new Block;
  OpBuilder inner(&context);
  inner.setInsertionPointToEnd(block);
  SmallVector<Value> operands, arguments;
  for (RankedTensorType type : bench.inputs) {
    operands.push_back(UnrealizedConversionCastOp::create(outer, loc, type, ValueRange{}).getResult(0));
    arguments.push_back(block->addArgument(type, loc));
  }
  TensorBuilder b(inner, loc);
  SmallVector<Value> outputs = bench.body(b, arguments);
  YieldOp::create(inner, loc, outputs);
  auto op = FusedOp::create(outer, loc, ValueRange(outputs).getTypes(), operands, bench.emitter);
  op.getBody().push_back(block);
  return op;
}

/// The finer operations of the coarse one that `make` creates.
template <typename OpTy, typename... Args> SmallVector<Value> decomposed(TensorBuilder &b, Args &&...args) {
  auto op = OpTy::create(b.builder, b.loc, std::forward<Args>(args)...);
  OpBuilder builder(b.builder);
  builder.setInsertionPoint(op);
  FailureOr<SmallVector<Value>> results = op.decompose(builder);
  op->erase();
  return *results;
}

double secondsPer(double budget, const std::function<void()> &work) {
  using clock = std::chrono::steady_clock;
  work();
  double best = INFINITY, total = 0;
  while (total < budget) {
    auto start = clock::now();
    work();
    double seconds = std::chrono::duration<double>(clock::now() - start).count();
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

std::vector<Bench> benches(MLIRContext &context) {
  Type f32 = Float32Type::get(&context), i32 = IntegerType::get(&context, 32), i64 = IntegerType::get(&context, 64);
  auto type = [](ArrayRef<int64_t> shape, Type element) { return RankedTensorType::get(shape, element); };
  auto norm = [](TensorBuilder &b, Inputs in) {
    return decomposed<LayerNormOp>(b, in[0], in[1], in[2], b.builder.getF64FloatAttr(1e-5));
  };
  auto loss = [](TensorBuilder &b, Inputs in) {
    return decomposed<SoftmaxCrossEntropyOp>(b, in[0], in[1], b.builder.getI64IntegerAttr(1));
  };
  auto sumRows = [](TensorBuilder &b, Inputs in) { return SmallVector<Value>{b.reduce(ReduceKind::Sum, in[0], {0})}; };
  auto adam = [](TensorBuilder &b, Inputs in) {
    Value p = in[0], g = b.mul(in[1], b.broadcastScalar(in[4], in[1]));
    Value m = b.add(b.mul(in[2], 0.9), b.mul(g, 0.1));
    Value v = b.add(b.mul(in[3], 0.999), b.mul(b.mul(g, g), 0.001));
    Value step = b.div(b.mul(m, b.broadcastScalar(in[5], m)), b.add(b.sqrt(v), 1e-8));
    return SmallVector<Value>{b.sub(p, step), m, v};
  };
  RankedTensorType flat = type({6000000}, f32), wide = type({4096, 3072}, f32), narrow = type({4096, 768}, f32);
  return {
      {"add",
       "loop",
       {wide, wide},
       [](TensorBuilder &b, Inputs in) { return SmallVector<Value>{b.add(in[0], in[1])}; }},
      {"bias + gelu(erf)",
       "loop",
       {wide, type({3072}, f32)},
       [](TensorBuilder &b, Inputs in) {
         Value x = b.add(in[0], b.broadcastLast(in[1], in[0]));
         return SmallVector<Value>{
             GeluOp::create(b.builder, b.loc, x, GeluKindAttr::get(b.builder.getContext(), GeluKind::Erf)).getResult()};
       }},
      {"dropout + residual",
       "loop",
       {narrow, narrow, type({2}, i64)},
       [](TensorBuilder &b, Inputs in) {
         Value dropped = decomposed<DropoutOp>(b, in[0], in[2], b.builder.getF64FloatAttr(0.1),
                                               b.builder.getI64IntegerAttr(1), b.builder.getI64IntegerAttr(2))[0];
         return SmallVector<Value>{b.add(in[1], dropped)};
       }},
      {"layer_norm 768", "row_reduce", {narrow, type({768}, f32), type({768}, f32)}, norm},
      {"cross entropy 260", "row_reduce", {type({4096, 260}, f32), type({4096}, i32)}, loss},
      {"cross entropy 50000", "row_reduce", {type({512, 50000}, f32), type({512}, i32)}, loss},
      {"sum of squares",
       "row_reduce",
       {flat},
       [](TensorBuilder &b, Inputs in) { return SmallVector<Value>{b.sumAll(b.mul(in[0], in[0]))}; }},
      {"bias gradient", "column_reduce", {wide}, sumRows},
      {"gain gradient",
       "column_reduce",
       {narrow, narrow, type({4096}, f32), type({4096}, f32)},
       [](TensorBuilder &b, Inputs in) {
         Value normal = b.mul(b.sub(in[1], b.broadcastRows(in[2], in[1])), b.broadcastRows(in[3], in[1]));
         return SmallVector<Value>{b.reduce(ReduceKind::Sum, b.mul(in[0], normal), {0}),
                                   b.reduce(ReduceKind::Sum, in[0], {0})};
       }},
      {"gather rows",
       "gather_scatter",
       {narrow, type({8192}, i32)},
       [](TensorBuilder &b, Inputs in) { return SmallVector<Value>{b.make<GatherOp>(in[0], in[1])}; }},
      {"adam", "multi_tensor", {flat, flat, flat, flat, type({}, f32), type({}, f32)}, adam},
      {"transpose",
       "loop",
       {type({2048, 1024}, f32)},
       [](TensorBuilder &b, Inputs in) { return SmallVector<Value>{b.transpose(in[0], {1, 0})}; }},
  };
}

} // namespace

int main(int argc, char **argv) {
  double budget = argc > 2 ? std::atof(argv[2]) : 0.3;
  std::unique_ptr<MLIRContext> context = makeContext();
  KernelRunner runner(*context, argc > 1 ? argv[1] : "cpu:native");
  OpBuilder outer(context.get());
  OwningOpRef<ModuleOp> module = ModuleOp::create(outer, UnknownLoc::get(context.get()));
  outer.setInsertionPointToStart(module->getBody());
  std::vector<Bench> all = benches(*context);
  std::vector<FusedOp> ops;
  for (const Bench &bench : all) {
    ops.push_back(build(*context, outer, bench));
    if (runner.add(ops.back()) < 0)
      return 1;
  }
  CompileReport report;
  auto start = std::chrono::steady_clock::now();
  if (!runner.load(&report))
    return 1;
  if (argc > 3)
    std::ofstream(argv[3], std::ios::binary) << runner.image();
  double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%u regions compiled in %.0f ms: emit %.0f, lower %.0f, optimise %.0f, code %.0f (CPU time), link %.0f; "
              "image %zu bytes\n",
              report.regions, wall * 1e3, report.emitSeconds * 1e3, report.lowerSeconds * 1e3,
              report.optimizeSeconds * 1e3, report.codegenSeconds * 1e3, report.linkSeconds * 1e3,
              runner.image().size());
  std::printf("%-22s %9s %9s %9s %9s %7s\n", "region", "MB", "ms", "GB/s", "memcpy", "ratio");
  std::mt19937_64 random(1);
  for (auto [number, bench] : llvm::enumerate(all)) {
    const FusedPlan &plan = runner.plan(static_cast<int>(number));
    std::vector<std::vector<uint8_t>> memory;
    auto allocate = [&](size_t bytes) {
      memory.emplace_back(bytes + 64);
      return reinterpret_cast<uint8_t *>((reinterpret_cast<uintptr_t>(memory.back().data()) + 63) / 64 * 64);
    };
    std::vector<uint8_t *> in, out;
    for (RankedTensorType type : bench.inputs) {
      std::vector<uint8_t> bytes = toBytes(drawTensor(type, random, 0, 255), type.getElementType());
      in.push_back(allocate(bytes.size()));
      std::memcpy(in.back(), bytes.data(), bytes.size());
    }
    for (Value output : ops[number].getOutputs())
      out.push_back(allocate(tensorBytes(typeOf(output))));
    uint8_t *scratch = allocate(plan.scratchBytes);
    double seconds = secondsPer(budget, [&] {
      for (auto [call, planned] : llvm::enumerate(plan.calls)) {
        std::vector<void *> pointers;
        for (const PlannedOperand &operand : planned.operands)
          pointers.push_back(operand.kind == PlannedOperand::Kind::Input    ? in[operand.index]
                             : operand.kind == PlannedOperand::Kind::Output ? out[operand.index]
                                                                            : scratch);
        MoeKernelArgs arguments{pointers.data(), nullptr, nullptr};
        runner.function(static_cast<int>(number), static_cast<unsigned>(call))(&arguments, 0, planned.extent);
      }
    });
    // memcpy that moves as many bytes (half read, half written).
    auto half = static_cast<size_t>(plan.cost.bytes / 2);
    std::vector<uint8_t> from(half, 1), to(half, 2);
    double copy = secondsPer(budget, [&] {
      std::memcpy(to.data(), from.data(), half);
      asm volatile("" : : "r"(to.data()) : "memory");
    });
    std::printf("%-22s %9.1f %9.3f %9.1f %9.1f %7.2f\n", bench.name, plan.cost.bytes / 1e6, seconds * 1e3,
                plan.cost.bytes / seconds / 1e9, plan.cost.bytes / copy / 1e9, copy / seconds);
  }
  return 0;
}
