//===- CudaRegionTest.cpp - CUDA kernels against the interpreter, and what their PTX holds ------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "RandomRegion.h"

#include "codegen/cuda/CudaTarget.h"
#include "codegen/cuda/Ptx.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::ir;
using namespace moe::codegen;
using namespace moe::codegen::test;

namespace {

std::string text(Operation *op) {
  std::string result;
  llvm::raw_string_ostream stream(result);
  op->print(stream);
  return result;
}

/// As in RandomRegionTest.cpp.
double tolerance(Type element) {
  return element.isBF16() ? 4e-3 : element.isF16() ? 5e-4 : 1e-5;
}

constexpr KernelRunner::Run kAscending{};
constexpr KernelRunner::Run kDescending{nullptr, false, moe::sim::Order::Descending, 0xFF};
constexpr KernelRunner::Run kInPlace{nullptr, true, moe::sim::Order::Descending, 0xFF};

/// Opposite orders of threads, other garbage in shared memory and in-place outputs must not change a bit.
void expectRight(KernelRunner &runner, int region, Case &c) {
  std::vector<HostTensor> expected = reference(c);
  auto result = runner.run(region, c.inputs, kAscending);
  EXPECT_EQ(result, runner.run(region, c.inputs, kDescending)) << "the order of threads changes bits\n" << text(c.op);
  EXPECT_EQ(result, runner.run(region, c.inputs, kInPlace)) << "in place\n" << text(c.op);
  for (auto [number, output] : llvm::enumerate(c.op.getOutputs())) {
    HostTensor actual = fromBytes(result[number].data(), typeOf(output));
    EXPECT_LE(relativeError(actual, expected[number]), tolerance(typeOf(output).getElementType()))
        << "result " << number << "\n"
        << text(c.op);
  }
}

void checkRandom(StringRef emitter, int count, uint64_t seed) {
  std::unique_ptr<MLIRContext> context = makeContext();
  KernelRunner runner(*context, "cuda:simulated");
  std::mt19937_64 random(seed);
  std::vector<Case> cases;
  std::vector<int> regions;
  for (int i = 0; i < count; ++i) {
    cases.push_back(randomCase(*context, emitter, random));
    ASSERT_TRUE(succeeded(verify(*cases.back().module))) << text(cases.back().op);
    regions.push_back(runner.add(cases.back().op));
    ASSERT_GE(regions.back(), 0) << text(cases.back().op);
  }
  ASSERT_TRUE(runner.load());
  for (int i = 0; i < count; ++i) {
    expectRight(runner, regions[i], cases[i]);
    if (testing::Test::HasFailure())
      return;
  }
}

TEST(CudaRegion, Loop) {
  checkRandom("loop", 220, 11);
}
TEST(CudaRegion, RowReduce) {
  checkRandom("row_reduce", 160, 12);
}
TEST(CudaRegion, ColumnReduce) {
  checkRandom("column_reduce", 100, 13);
}
TEST(CudaRegion, GatherScatter) {
  checkRandom("gather_scatter", 60, 14);
}
TEST(CudaRegion, MultiTensor) {
  checkRandom("multi_tensor", 20, 15);
}

/// softmax along the last dimension, times a mask that is drawn: two levels of reduction and values kept between them.
std::string softmax(const std::string &rows, const std::string &columns) {
  std::string full = "tensor<" + rows + "x" + columns + "xf32>", row = "tensor<" + rows + "xf32>";
  std::string wide = " {dims = array<i64: 0>} : (" + row + ") -> " + full;
  std::string two = " : (" + full + ", " + full + ") -> " + full;
  return "func.func @f(%x0: " + full + ") { %y:2 = moe.fused \"row_reduce\"(%x0) : (" + full + ") -> (" + full + ", " +
         row + ") { ^bb0(%a: " + full + "): %m = moe.reduce %a {kind = 1 : i32, dims = array<i64: 1>} : (" + full +
         ") -> " + row + " %mb = moe.broadcast %m" + wide + " %d = moe.sub %a, %mb" + two + " %e = moe.exp %d : (" +
         full + ") -> " + full + " %s = moe.reduce %e {kind = 0 : i32, dims = array<i64: 1>} : (" + full + ") -> " +
         row + " %sb = moe.broadcast %s" + wide + " %p = moe.div %e, %sb" + two + " moe.yield %p, %s : " + full + ", " +
         row + " } return }";
}

/// Sum over `dim` of a matrix of squares.
std::string sumOfSquares(const std::string &emitter, const std::string &rows, const std::string &columns, int dim) {
  std::string full = "tensor<" + rows + "x" + columns + "xf32>";
  std::string result = "tensor<" + (dim == 0 ? columns : rows) + "xf32>";
  return "func.func @f(%x0: " + full + ") { %y = moe.fused \"" + emitter + "\"(%x0) : (" + full + ") -> (" + result +
         ") { ^bb0(%a: " + full + "): %q = moe.mul %a, %a : (" + full + ", " + full + ") -> " + full +
         " %s = moe.reduce %q {kind = 0 : i32, dims = array<i64: " + std::to_string(dim) + ">} : (" + full + ") -> " +
         result + " moe.yield %s : " + result + " } return }";
}

// One size for each way in which a row is shared out: by a thread, a warp or a block, in registers or walked again,
// with whole vectors or single elements, with rows left over in the last block.
TEST(CudaRegion, TeamsOfAllSizes) {
  std::unique_ptr<MLIRContext> context = makeContext();
  KernelRunner runner(*context, "cuda:simulated");
  std::mt19937_64 random(16);
  std::vector<Case> cases;
  std::vector<int> regions;
  struct {
    const char *rows, *columns;
    unsigned blocks, threads, sharedBytes;
  } expected[] = {
      {"300", "8", 3, 128, 0},           // a thread per row
      {"5", "16", 1, 128, 0},            // the longest of these
      {"7", "17", 2, 128, 0},            // a warp per row, rows left over, fewer elements than lanes of a warp
      {"9", "192", 3, 128, 0},           // a warp that keeps single elements
      {"9", "260", 9, 64, 2 * 2 * 8},    // two warps that walk vectors again
      {"3", "2048", 3, 128, 2 * 4 * 8},  // a block that keeps vectors
      {"3", "8192", 3, 512, 2 * 16 * 8}, // the longest row that stays in registers
      {"2", "8196", 2, 512, 2 * 16 * 8}, // longer ones are read again
      {"2", "1031", 2, 512, 2 * 16 * 8}, // no two threads take as many elements
  };
  for (auto &shape : expected) {
    cases.push_back(parseCase(*context, softmax(shape.rows, shape.columns), random));
    regions.push_back(runner.add(cases.back().op));
    ASSERT_GE(regions.back(), 0);
    const PlannedCall &call = runner.plan(regions.back()).calls[0];
    EXPECT_EQ(call.blocks, shape.blocks) << shape.columns;
    EXPECT_EQ(call.threads, shape.threads) << shape.columns;
    EXPECT_EQ(call.sharedBytes, shape.sharedBytes) << shape.columns;
  }
  ASSERT_TRUE(runner.load());
  for (auto [region, c] : llvm::zip(regions, cases))
    expectRight(runner, region, c);
}

// Long rows and tall columns are shared out among blocks and combined by a second call.
TEST(CudaRegion, SecondCalls) {
  std::unique_ptr<MLIRContext> context = makeContext();
  KernelRunner runner(*context, "cuda:simulated");
  std::mt19937_64 random(17);
  struct {
    std::string text;
    size_t calls;
  } expected[] = {
      {sumOfSquares("row_reduce", "1", "100003", 1), 2},   {sumOfSquares("row_reduce", "3", "65536", 1), 2},
      {sumOfSquares("column_reduce", "1031", "96", 0), 2}, {sumOfSquares("column_reduce", "1031", "33", 0), 2},
      {sumOfSquares("column_reduce", "15", "64", 0), 1},   {sumOfSquares("column_reduce", "255", "3", 0), 1},
  };
  std::vector<Case> cases;
  std::vector<int> regions;
  for (auto &shape : expected) {
    cases.push_back(parseCase(*context, shape.text, random));
    regions.push_back(runner.add(cases.back().op));
    ASSERT_GE(regions.back(), 0);
    EXPECT_EQ(runner.plan(regions.back()).calls.size(), shape.calls) << shape.text;
  }
  ASSERT_TRUE(runner.load());
  for (auto [region, c] : llvm::zip(regions, cases))
    expectRight(runner, region, c);
}

/// PTX of one region.
std::string ptxOf(MLIRContext &context, const std::string &region) {
  std::mt19937_64 random(1);
  std::string error;
  std::unique_ptr<KernelTarget> target = createCudaTarget("sm_90", error, {.assemble = false});
  KernelCompiler compiler(&context, *target);
  Case c = parseCase(context, region, random);
  EXPECT_TRUE(succeeded(compiler.add(c.op)));
  FailureOr<KernelImage> image = compiler.compile();
  EXPECT_TRUE(succeeded(image));
  EXPECT_EQ(image->format, "ptx");
  return image->bytes;
}

/// gelu, whose result is narrowed, so that it can not lie in the bytes of an input.
std::string narrowing(const std::string &shape) {
  std::string in = "tensor<" + shape + "xf32>", out = "tensor<" + shape + "xbf16>";
  return "func.func @f(%x0: " + in + ") { %y = moe.fused \"loop\"(%x0) : (" + in + ") -> (" + out +
         ") { ^bb0(%a: " + in + "): %g = moe.gelu %a : (" + in + ") -> " + in + " %c = moe.cast %g {to = bf16} : (" +
         in + ") -> " + out + " moe.yield %c : " + out + " } return }";
}

std::string pointwise(const std::string &type) {
  std::string two = " : (" + type + ", " + type + ") -> " + type;
  return "func.func @f(%x0: " + type + ", %x1: " + type + ") { %y = moe.fused \"loop\"(%x0, %x1) : (" + type + ", " +
         type + ") -> (" + type + ") { ^bb0(%a: " + type + ", %b: " + type + "): %s = moe.mul %a, %b" + two +
         " %g = moe.gelu %s : (" + type + ") -> " + type + " moe.yield %g : " + type + " } return }";
}

// 16 bytes at a time, through the read-only path; nothing from a library, no stack; float32 inside for bfloat16.
TEST(CudaPtx, Accesses) {
  std::unique_ptr<MLIRContext> context = makeContext();
  std::string f32 = ptxOf(*context, pointwise("tensor<64x1024xf32>"));
  EXPECT_NE(f32.find("ld.global.v4.b32"), std::string::npos) << f32;
  EXPECT_NE(f32.find("st.global.v4.b32"), std::string::npos) << f32;
  std::string bf16 = ptxOf(*context, pointwise("tensor<64x1024xbf16>"));
  EXPECT_NE(bf16.find("ld.global.v4.b32"), std::string::npos) << bf16;
  EXPECT_NE(bf16.find("mul.rn.f32"), std::string::npos);
  EXPECT_EQ(bf16.find(".bf16"), std::string::npos) << "computed in bfloat16\n" << bf16;
  std::string odd = ptxOf(*context, pointwise("tensor<64x1023xf32>"));
  EXPECT_NE(odd.find("ld.global.v4.b32"), std::string::npos) << "two dimensions are one here\n" << odd;
  std::string narrow = ptxOf(*context, narrowing("64x1024"));
  EXPECT_NE(narrow.find("ld.global.nc.v4.b32"), std::string::npos) << narrow;
  for (const std::string &ptx : {f32, bf16, odd, narrow, ptxOf(*context, softmax("64", "1024"))}) {
    EXPECT_EQ(ptx.find(".extern .func"), std::string::npos);
    EXPECT_EQ(ptx.find("__nv_"), std::string::npos);
    EXPECT_EQ(ptx.find(".local"), std::string::npos) << ptx;
    EXPECT_EQ(ptx.find("atom."), std::string::npos);
    EXPECT_EQ(ptx.find("div.s64"), std::string::npos) << "64-bit indices\n" << ptx;
  }
}

// What the assembler says of random regions: no stack, no spills.
TEST(CudaPtx, NoStack) {
  std::string ptxas = cuda::findPtxas();
  if (ptxas.empty())
    GTEST_SKIP() << "the CUDA toolkit's ptxas is not here";
  std::unique_ptr<MLIRContext> context = makeContext();
  for (const char *chip : {"sm_80", "sm_90", "sm_100"}) {
    std::mt19937_64 random(18);
    std::string error;
    std::unique_ptr<KernelTarget> target = createCudaTarget(chip, error, {.assemble = false});
    KernelCompiler compiler(context.get(), *target);
    std::vector<Case> cases;
    for (const char *emitter : {"loop", "row_reduce", "column_reduce", "gather_scatter", "multi_tensor"})
      for (int i = 0; i < 12; ++i) {
        cases.push_back(randomCase(*context, emitter, random));
        ASSERT_TRUE(succeeded(compiler.add(cases.back().op)));
      }
    FailureOr<KernelImage> image = compiler.compile();
    ASSERT_TRUE(succeeded(image));
    SmallString<128> source, log;
    int file = -1;
    ASSERT_FALSE(llvm::sys::fs::createTemporaryFile("kernels", "ptx", file, source));
    llvm::raw_fd_ostream(file, /*shouldClose=*/true) << image->bytes;
    ASSERT_FALSE(llvm::sys::fs::createTemporaryFile("ptxas", "log", log));
    std::string architecture = std::string("-arch=") + chip;
    StringRef arguments[] = {ptxas, architecture, "-v", source, "-o", "/dev/null"};
    std::optional<StringRef> redirects[] = {"", StringRef(log), StringRef(log)};
    int code = llvm::sys::ExecuteAndWait(ptxas, arguments, std::nullopt, redirects);
    std::string report = (*llvm::MemoryBuffer::getFile(log))->getBuffer().str();
    llvm::sys::fs::remove(source);
    llvm::sys::fs::remove(log);
    ASSERT_EQ(code, 0) << report;
    SmallVector<StringRef> lines;
    StringRef(report).split(lines, '\n');
    int kernels = 0;
    StringRef kernel;
    for (StringRef line : lines) {
      if (line.contains("Function properties for"))
        kernel = line.rsplit(' ').second;
      if (line.contains("bytes stack frame")) {
        ++kernels;
        EXPECT_TRUE(line.contains("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"))
            << chip << " " << kernel.str() << line.str();
      }
    }
    EXPECT_GE(kernels, 60) << report;
  }
}

TEST(CudaTarget, Names) {
  std::string error;
  EXPECT_TRUE(createCudaTarget("sm_80", error));
  EXPECT_FALSE(createCudaTarget("sm_70", error));
  EXPECT_NE(error.find("sm_70"), std::string::npos);
}

} // namespace
