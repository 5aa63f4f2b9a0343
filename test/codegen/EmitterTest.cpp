//===- EmitterTest.cpp - Plans, images and refusals ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "KernelRunner.h"

#include "codegen/cpu/CpuTarget.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::ir;
using namespace moe::codegen;
using namespace moe::codegen::test;

namespace {

/// func.func @f(inputs) { moe.fused emitter { body } }; `inputs` are the types of %0, %1, … of the body.
std::string region(StringRef emitter, ArrayRef<std::string> inputs, ArrayRef<std::string> outputs, StringRef body) {
  std::string outer, names, inner;
  for (auto [i, type] : llvm::enumerate(inputs)) {
    std::string comma = i ? ", " : "", number = std::to_string(i);
    outer += comma + "%x" + number + ": " + type;
    names += comma + "%x" + number;
    inner += comma + "%a" + number + ": " + type;
  }
  std::string types = llvm::join(inputs, ", "), results = llvm::join(outputs, ", ");
  return ("func.func @f(" + outer + ") { %y:" + std::to_string(outputs.size()) + " = moe.fused \"" + emitter + "\"(" +
          names + ") : (" + types + ") -> (" + results + ") { ^bb0(" + inner + "): " + body + " } return }")
      .str();
}

FailureOr<FusedPlan> planned(FusedOp op, StringRef processor) {
  std::string error;
  return createCpuTarget(processor, 1, error)->plan(op);
}

class Emitter : public testing::Test {
protected:
  std::unique_ptr<MLIRContext> context = makeContext();
  std::mt19937_64 random{1};

  Case parse(const std::string &text) {
    Case c = parseCase(*context, text, random);
    EXPECT_TRUE(c.op) << text;
    return c;
  }
  /// Diagnostic of the plan of a region that it must refuse.
  std::string refusal(const std::string &text) {
    Case c = parse(text);
    std::string message;
    ScopedDiagnosticHandler handler(context.get(), [&](Diagnostic &diagnostic) {
      message += diagnostic.str();
      return success();
    });
    EXPECT_TRUE(failed(planned(c.op, "x86-64-v3")));
    return message;
  }
};

const std::string gelu = R"(
  %b = moe.broadcast %a1 {dims = array<i64: 1>} : (tensor<3072xf32>) -> tensor<512x3072xf32>
  %s = moe.add %a0, %b : (tensor<512x3072xf32>, tensor<512x3072xf32>) -> tensor<512x3072xf32>
  %g = moe.gelu %s : (tensor<512x3072xf32>) -> tensor<512x3072xf32>
  moe.yield %g : tensor<512x3072xf32>)";

// An input that is read elsewhere than where the output is written must not be offered for in-place use.
TEST_F(Emitter, PlansInPlaceOnlyWhereSafe) {
  Case c = parse(region("loop", {"tensor<512x3072xf32>", "tensor<3072xf32>"}, {"tensor<512x3072xf32>"}, gelu));
  FailureOr<FusedPlan> plan = planned(c.op, "x86-64-v4");
  ASSERT_TRUE(succeeded(plan));
  ASSERT_EQ(plan->calls.size(), 1u);
  EXPECT_EQ(plan->calls[0].extent, 512);
  EXPECT_EQ(plan->calls[0].operands.size(), 3u);
  EXPECT_EQ(plan->scratchBytes, 0u);
  ASSERT_EQ(plan->inPlace.size(), 1u);
  EXPECT_EQ(plan->inPlace[0].input, 0u);

  Case t = parse(region("loop", {"tensor<32x32xf32>"}, {"tensor<32x32xf32>"}, R"(
    %t = moe.transpose %a0 {permutation = array<i64: 1, 0>} : (tensor<32x32xf32>) -> tensor<32x32xf32>
    moe.yield %t : tensor<32x32xf32>)"));
  plan = planned(t.op, "x86-64-v4");
  ASSERT_TRUE(succeeded(plan));
  EXPECT_TRUE(plan->inPlace.empty());
}

// One huge row and tall columns are cut into parts that depend on the shape only.
TEST_F(Emitter, SplitsLongReductions) {
  Case c = parse(region("row_reduce", {"tensor<6000000xf32>"}, {"tensor<f32>"}, R"(
    %q = moe.mul %a0, %a0 : (tensor<6000000xf32>, tensor<6000000xf32>) -> tensor<6000000xf32>
    %s = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0>} : (tensor<6000000xf32>) -> tensor<f32>
    moe.yield %s : tensor<f32>)"));
  FailureOr<FusedPlan> plan = planned(c.op, "x86-64-v4");
  ASSERT_TRUE(succeeded(plan));
  ASSERT_EQ(plan->calls.size(), 2u);
  EXPECT_EQ(plan->calls[0].extent, 64);
  EXPECT_EQ(plan->calls[1].extent, 1);
  EXPECT_GT(plan->scratchBytes, 0u);

  Case d = parse(region("column_reduce", {"tensor<4096x3072xf32>"}, {"tensor<3072xf32>"}, R"(
    %s = moe.reduce %a0 {kind = 0 : i32, dims = array<i64: 0>} : (tensor<4096x3072xf32>) -> tensor<3072xf32>
    moe.yield %s : tensor<3072xf32>)"));
  plan = planned(d.op, "x86-64-v4");
  ASSERT_TRUE(succeeded(plan));
  EXPECT_EQ(plan->calls.size(), 2u);
}

TEST_F(Emitter, RefusesWhatItCannotCompute) {
  EXPECT_NE(refusal(region("loop", {"tensor<8x4xf32>"}, {"tensor<8xf32>"}, R"(
    %s = moe.reduce %a0 {kind = 0 : i32, dims = array<i64: 1>} : (tensor<8x4xf32>) -> tensor<8xf32>
    moe.yield %s : tensor<8xf32>)"))
                .find("without reductions"),
            std::string::npos);
  EXPECT_NE(refusal(region("spiral", {"tensor<8xf32>"}, {"tensor<8xf32>"}, "moe.yield %a0 : tensor<8xf32>"))
                .find("unknown emitter 'spiral'"),
            std::string::npos);
  EXPECT_NE(refusal(region("loop", {"tensor<8xf64>"}, {"tensor<8xf64>"}, "moe.yield %a0 : tensor<8xf64>")).find("f64"),
            std::string::npos);
  EXPECT_NE(refusal(region("loop", {"tensor<8xf32>", "tensor<4xf32>"}, {"tensor<8xf32>", "tensor<4xf32>"},
                           "moe.yield %a0, %a1 : tensor<8xf32>, tensor<4xf32>"))
                .find("result 1 with 4 elements"),
            std::string::npos);
  // A reduction across rows of what rows reduce.
  EXPECT_NE(refusal(region("row_reduce", {"tensor<8x4xf32>"}, {"tensor<f32>"}, R"(
    %s = moe.reduce %a0 {kind = 0 : i32, dims = array<i64: 1>} : (tensor<8x4xf32>) -> tensor<8xf32>
    %t = moe.reduce %s {kind = 0 : i32, dims = array<i64: 0>} : (tensor<8xf32>) -> tensor<f32>
    moe.yield %t : tensor<f32>)")),
            "");
}

// Equal regions at different places share kernels; another size or constant is another kernel.
TEST_F(Emitter, DeduplicatesByStructure) {
  auto scaled = [&](const std::string &factor, const std::string &size) {
    std::string type = "tensor<" + size + "xf32>";
    return parse(region("loop", {type}, {type},
                        "%c = moe.constant {value = dense<" + factor + "> : " + type + "} : () -> " + type +
                            " %r = moe.mul %a0, %c {note = " + std::to_string(random()) + " : ui64} : (" + type + ", " +
                            type + ") -> " + type + " moe.yield %r : " + type));
  };
  Case a = scaled("2.0", "8"), same = scaled("2.0", "8"), other = scaled("3.0", "8"), longer = scaled("2.0", "9");
  KernelRunner runner(*context, "cpu:x86-64-v3");
  KernelCompiler &compiler = runner.compiler();
  auto kernels = compiler.add(a.op);
  ASSERT_TRUE(succeeded(kernels));
  EXPECT_EQ(*compiler.add(same.op), *kernels);
  EXPECT_NE(*compiler.add(other.op), *kernels);
  EXPECT_NE(*compiler.add(longer.op), *kernels);
  EXPECT_EQ(compiler.kernels().size(), 3u);
}

// The runtime loads an image without libraries: it exports its kernels and imports nothing.
TEST_F(Emitter, ImageNeedsNothing) {
  KernelRunner runner(*context, "cpu:native");
  std::string type = "tensor<1031xf32>", body, last = "%a0";
  for (StringRef op : {"exp", "log", "tanh", "erf", "sin", "cos", "sigmoid", "gelu", "sqrt", "rsqrt"}) {
    body += "%" + op.str() + " = moe." + op.str() + " " + last + " : (" + type + ") -> " + type + " ";
    last = "%" + op.str();
  }
  body += "%p = moe.pow " + last + ", %a0 : (" + type + ", " + type + ") -> " + type;
  body += " %h = moe.cast %p {to = bf16} : (" + type + ") -> tensor<1031xbf16>";
  body += " %k = moe.cast %p {to = f16} : (" + type +
          ") -> tensor<1031xf16> moe.yield %h, %k : tensor<1031xbf16>, "
          "tensor<1031xf16>";
  Case c = parse(region("loop", {type}, {"tensor<1031xbf16>", "tensor<1031xf16>"}, body));
  ASSERT_GE(runner.add(c.op), 0);
  ASSERT_TRUE(runner.load());
  auto buffer = llvm::MemoryBuffer::getMemBuffer(runner.image(), "image", false);
  auto object = llvm::object::ObjectFile::createELFObjectFile(buffer->getMemBufferRef());
  ASSERT_TRUE(static_cast<bool>(object));
  std::vector<std::string> exported;
  for (const auto &symbol : llvm::cast<llvm::object::ELFObjectFileBase>(**object).getDynamicSymbolIterators()) {
    uint32_t flags = llvm::cantFail(symbol.getFlags());
    std::string name = llvm::cantFail(symbol.getName()).str();
    EXPECT_FALSE(flags & llvm::object::BasicSymbolRef::SF_Undefined) << name;
    exported.push_back(name);
  }
  EXPECT_EQ(exported, std::vector<std::string>{runner.compiler().kernels()[0].symbol});
}

// Accesses that reshapes, transposes of leading dimensions and slices leave contiguous are loaded as vectors.
TEST_F(Emitter, ContiguousAccessesUseNoGathers) {
  Case c = parse(region("loop", {"tensor<4x16x8x64xf32>", "tensor<512xf32>"}, {"tensor<64x512xf32>"}, R"(
    %t = moe.transpose %a0 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<4x16x8x64xf32>) -> tensor<4x8x16x64xf32>
    %u = moe.transpose %t {permutation = array<i64: 0, 2, 1, 3>} : (tensor<4x8x16x64xf32>) -> tensor<4x16x8x64xf32>
    %v = moe.reshape %u : (tensor<4x16x8x64xf32>) -> tensor<64x512xf32>
    %b = moe.broadcast %a1 {dims = array<i64: 1>} : (tensor<512xf32>) -> tensor<64x512xf32>
    %s = moe.add %v, %b : (tensor<64x512xf32>, tensor<64x512xf32>) -> tensor<64x512xf32>
    moe.yield %s : tensor<64x512xf32>)"));
  KernelRunner runner(*context, "cpu:x86-64-v4");
  ASSERT_TRUE(succeeded(runner.compiler().add(c.op)));
  CompileOptions options;
  options.keepLlvmIr = true;
  CompileReport report;
  ASSERT_TRUE(succeeded(runner.compiler().compile(options, &report)));
  ASSERT_EQ(report.llvmIr.size(), 1u);
  EXPECT_EQ(report.llvmIr[0].find("masked"), std::string::npos) << report.llvmIr[0];
  EXPECT_NE(report.llvmIr[0].find("load <16 x float>"), std::string::npos);
  // Contraction would make a recomputed value differ from a stored one.
  EXPECT_EQ(report.llvmIr[0].find("contract"), std::string::npos);
}

// Random numbers that a later pass over a row reads from where the first one has left them are those that it would have
// drawn: at full vectors, at the masked rest of a row, in every row.
TEST_F(Emitter, LaterPassesSeeTheSameRandomNumbers) {
  const std::string full = "tensor<37x199xf32>", row = "tensor<37xf32>";
  auto binary = [](const char *result, const char *op, const char *x, const char *y, const std::string &type) {
    return std::string(" %") + result + " = moe." + op + " %" + x + ", %" + y + " : (" + type + ", " + type + ") -> " +
           type;
  };
  auto reduce = [&](const char *result, const char *x) {
    return std::string(" %") + result + " = moe.reduce %" + x + " {dims = array<i64: 1>, kind = 0 : i32} : (" + full +
           ") -> " + row;
  };
  auto spread = [&](const char *result, const char *x) {
    return std::string(" %") + result + " = moe.broadcast %" + x + " {dims = array<i64: 0>} : (" + row + ") -> " + full;
  };
  Case c = parse(region("row_reduce", {full, "tensor<2xi64>"}, {full, full},
                        " %r = moe.random_uniform %a1 {seed = 5 : i64, site = 2 : i64} : (tensor<2xi64>) -> " + full +
                            binary("s", "add", "a0", "r", full) + reduce("t", "s") + spread("u", "t") +
                            binary("d", "sub", "s", "u", full) + binary("e", "mul", "d", "r", full) + reduce("v", "e") +
                            spread("w", "v") + binary("f", "add", "w", "r", full) + " moe.yield %f, %r : " + full +
                            ", " + full));
  c.inputs[1].ints = {3, 1};
  for (const char *target : {"cpu:native", "cpu:x86-64-v3"}) {
    KernelRunner runner(*context, target);
    ASSERT_GE(runner.add(c.op), 0);
    ASSERT_TRUE(runner.load());
    auto bytes = runner.run(0, c.inputs, {});
    std::vector<HostTensor> expected = reference(c);
    EXPECT_LE(relativeError(fromBytes(bytes[0].data(), typeOf(c.op.getOutputs()[0])), expected[0]), 1e-5) << target;
    EXPECT_EQ(relativeError(fromBytes(bytes[1].data(), typeOf(c.op.getOutputs()[1])), expected[1]), 0) << target;
  }
}

// Layers whose dropouts differ in their sites share kernels, which take the keys. Which of several keys is meant where,
// and which part of which tensor is drawn, is code.
TEST_F(Emitter, SitesShareKernels) {
  const std::string type = "tensor<6x35xf32>";
  auto drawn = [&](int first, int second, const std::string &whole = "") {
    std::string rng = whole.empty() ? "tensor<2xi64>" : "tensor<3xi64>";
    auto draw = [&](const char *name, int site) {
      return std::string(" %") + name + " = moe.random_uniform %a0 {seed = 5 : i64, site = " + std::to_string(site) +
             " : i64" + whole + "} : (" + rng + ") -> " + type;
    };
    std::string binary = " : (" + type + ", " + type + ") -> " + type;
    Case c = parse(region("loop", {rng}, {type},
                          draw("r", first) + draw("s", second) + draw("t", first) + " %u = moe.sub %r, %s" + binary +
                              " %v = moe.mul %u, %t" + binary + " moe.yield %v : " + type));
    c.inputs[0].ints = {3, 1};
    if (!whole.empty())
      c.inputs[0].ints.push_back(70); // where the part starts
    return c;
  };
  std::vector<Case> cases;
  cases.push_back(drawn(2, 7));
  cases.push_back(drawn(4, 9)); // shares with the one before
  cases.push_back(drawn(4, 4));
  cases.push_back(drawn(2, 7, ", moe.whole_shape = array<i64: 12, 35>"));
  cases.push_back(drawn(2, 7, ", moe.whole_shape = array<i64: 6, 140>"));
  for (const char *target : {"cpu:native", "cpu:x86-64-v3", "cuda:simulated"}) {
    KernelRunner runner(*context, target);
    for (Case &c : cases)
      ASSERT_GE(runner.add(c.op), 0);
    EXPECT_EQ(runner.compiler().kernels().size(), 4u) << target;
    ASSERT_TRUE(runner.load());
    for (auto [number, c] : llvm::enumerate(cases)) {
      auto bytes = runner.run(static_cast<int>(number), c.inputs, {});
      EXPECT_EQ(relativeError(fromBytes(bytes[0].data(), typeOf(c.op.getOutputs()[0])), reference(c)[0]), 0)
          << target << " " << number;
    }
  }
}

// Ties, subnormals, overflow and NaN of the integer code that rounds to bfloat16, and of half precision.
TEST_F(Emitter, RoundsNarrowFloats) {
  KernelRunner runner(*context, "cpu:native");
  std::string type = "tensor<4099xf32>", half = "tensor<4099xf16>", brain = "tensor<4099xbf16>";
  Case c =
      parse(region("loop", {type}, {brain, half, type},
                   "%b = moe.cast %a0 {to = bf16} : (" + type + ") -> " + brain + " %h = moe.cast %a0 {to = f16} : (" +
                       type + ") -> " + half + " %w = moe.cast %b {to = f32} : (" + brain + ") -> " + type +
                       " moe.yield %b, %h, %w : " + brain + ", " + half + ", " + type));
  const double special[] = {NAN,
                            std::nan("0x7ffffffffffff"),
                            -NAN,
                            INFINITY,
                            -INFINITY,
                            0.0,
                            -0.0,
                            0x1.01p0,
                            0x1.03p0,
                            0x1.010002p0,
                            0x1.fffffep127,
                            0x1p-149,
                            0x1.8p-140,
                            65519.0,
                            65520.0,
                            0x1p-25,
                            0x1.8p-25};
  for (auto [i, value] : llvm::enumerate(special))
    c.inputs[0].floats[i] = value;
  ASSERT_GE(runner.add(c.op), 0);
  ASSERT_TRUE(runner.load());
  auto bytes = runner.run(0, c.inputs, {});
  const Type elements[] = {BFloat16Type::get(context.get()), Float16Type::get(context.get())};
  for (auto [number, element] : llvm::enumerate(elements)) {
    RankedTensorType narrow = RankedTensorType::get({4099}, element);
    std::vector<uint8_t> rounded = toBytes(c.inputs[0], element);
    HostTensor expected = fromBytes(rounded.data(), narrow), actual = fromBytes(bytes[number].data(), narrow);
    HostTensor widened = fromBytes(bytes[2].data(), typeOf(c.op.getOutputs()[2]));
    for (int64_t i = 0; i < 4099; ++i) {
      double x = expected.floats[i], y = actual.floats[i];
      EXPECT_TRUE(x == y ? std::signbit(x) == std::signbit(y) : std::isnan(x) && std::isnan(y))
          << c.inputs[0].floats[i] << " became " << y << ", not " << x;
      // A cast inside a region rounds although the value stays in a float32 register.
      if (number == 0)
        EXPECT_TRUE(widened.floats[i] == x || std::isnan(x)) << c.inputs[0].floats[i];
    }
  }
}

TEST(CpuTarget, Parse) {
  std::string error;
  std::optional<CpuTarget> v3 = CpuTarget::parse("x86-64-v3", error), v4 = CpuTarget::parse("x86-64-v4", error);
  ASSERT_TRUE(v3 && v4);
  EXPECT_EQ(v3->vectorBits, 256u);
  EXPECT_EQ(v4->vectorBits, 512u);
  EXPECT_TRUE(llvm::is_contained(v4->features, "avx512f"));
  EXPECT_FALSE(llvm::is_contained(v3->features, "avx512f"));
  EXPECT_FALSE(CpuTarget::parse("pentium", error));
  EXPECT_NE(error.find("pentium"), std::string::npos);
}

} // namespace
