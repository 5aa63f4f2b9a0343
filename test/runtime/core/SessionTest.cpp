//===- SessionTest.cpp - Sessions: what they run and what they refuse ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/runtime/core/TestSession.h"

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <new>
#include <set>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {
std::atomic<bool> counting = false;
std::atomic<int> allocations = 0;
} // namespace

// Every `new` of this process, the backend's included, comes here.
void *operator new(size_t bytes) {
  allocations += counting ? 1 : 0;
  if (void *memory = std::malloc(bytes))
    return memory;
  throw std::bad_alloc();
}
void operator delete(void *memory) noexcept {
  std::free(memory);
}
void operator delete(void *memory, size_t) noexcept {
  std::free(memory);
}

namespace {

const std::string &kernels() {
  static const std::string bytes = fileBytes(MOE_TEST_KERNELS);
  return bytes;
}

TEST(Session, CallsKernelsWithPointersAndSizes) {
  PlanBuilder builder;
  uint32_t add = addKernels(builder, kernels(), {"record_begin", "add_size"}) + 1;
  plan::Slice x = builder.state(1031 * 4), y = builder.state(1031 * 4);
  builder.program("update");
  plan::Step &step = addCall(builder, add, 1031, 16, {7});
  addOperand(step, x, Operand::READ, plan::F32, {1031});
  addOperand(step, y, Operand::WRITE, plan::F32, {1031});
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  for (int i = 0; i < 1031; ++i)
    view<float>(*session, x)[i] = static_cast<float>(i);
  ASSERT_TRUE(session->run(0));
  for (int i = 0; i < 1031; ++i)
    ASSERT_EQ(view<float>(*session, y)[i], static_cast<float>(i + 7));
}

/// The places where parts began when [0, extent) was cut.
std::set<int64_t> cuts(int threads, int64_t extent, int64_t grain) {
  PlanBuilder builder(threads);
  uint32_t record = addKernels(builder, kernels(), {"record_begin"});
  plan::Slice y = builder.state(extent * 8);
  builder.program("update");
  addOperand(addCall(builder, record, extent, grain), y, Operand::WRITE, plan::I64, {extent});
  auto session = open(builder.finish());
  if (!session || !session->run(0))
    return {};
  std::span<int64_t> begins = view<int64_t>(*session, y);
  EXPECT_TRUE(std::is_sorted(begins.begin(), begins.end()));
  return {begins.begin(), begins.end()};
}

TEST(Session, CutsExtentsByThreadsAndGrain) {
  EXPECT_EQ(cuts(1, 100, 1), (std::set<int64_t>{0}));
  EXPECT_EQ(cuts(4, 103, 1), (std::set<int64_t>{0, 26, 52, 78}));
  EXPECT_EQ(cuts(4, 103, 40), (std::set<int64_t>{0, 52})); // three parts would fall below the grain
  EXPECT_EQ(cuts(4, 103, 104), (std::set<int64_t>{0}));
  EXPECT_EQ(cuts(4, 3, 0), (std::set<int64_t>{0, 1, 2}));
}

TEST(Session, FillsAndCopies) {
  PlanBuilder builder;
  // Large enough for two threads, and odd.
  const uint64_t bytes = (1 << 20) + 3;
  plan::Slice from = builder.state(bytes), to = builder.state(bytes), filled = builder.state(bytes);
  builder.program("update");
  builder.addCopy(from, to);
  builder.addFill(filled, 0xab);
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  for (size_t i = 0; i < bytes; ++i)
    view<uint8_t>(*session, from)[i] = static_cast<uint8_t>(i * 31);
  ASSERT_TRUE(session->run(0));
  EXPECT_TRUE(std::ranges::equal(view<uint8_t>(*session, from), view<uint8_t>(*session, to)));
  EXPECT_EQ(std::ranges::count(view<uint8_t>(*session, filled), 0xab), static_cast<int64_t>(bytes));
}

TEST(Session, CopiesThePartThatAnIndexNames) {
  PlanBuilder builder;
  plan::Slice from = builder.staging(3 * 24), to = builder.state(24), index = builder.state(8);
  builder.program("update");
  plan::Step &step = builder.addCopy(from, to);
  step.mutable_copy()->set_index(true);
  addOperand(step, index, Operand::READ, plan::I64);
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  std::span<uint8_t> source = view<uint8_t>(*session, from);
  for (size_t i = 0; i < source.size(); ++i)
    source[i] = static_cast<uint8_t>(i);
  for (int64_t i : {2, 0, 1}) {
    view<int64_t>(*session, index)[0] = i;
    ASSERT_TRUE(session->run(0));
    EXPECT_TRUE(std::ranges::equal(source.subspan(i * 24, 24), view<uint8_t>(*session, to))) << i;
  }
  // 3 would end beyond the source, and the product of the largest with 24 would wrap around.
  for (int64_t i : {int64_t{3}, int64_t{-1}, std::numeric_limits<int64_t>::max()}) {
    view<int64_t>(*session, index)[0] = i;
    Status status = session->run(0);
    ASSERT_FALSE(status) << i;
    EXPECT_NE(status.error().str().find("program 'update', step 0 'copy'"), std::string::npos) << status.error().str();
  }
}

TEST(Session, RunsStepsInOrderAndProgramsByIndex) {
  PlanBuilder builder;
  plan::Slice a = builder.state(4), b = builder.state(4);
  builder.program("micro_step").set_signals(1);
  builder.addFill(a, 1).set_signal(1);
  builder.addCopy(a, b).add_waits(1);
  builder.addFill(a, 2);
  builder.program("update");
  builder.addCopy(a, b);
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  EXPECT_EQ(session->programIndex("micro_step"), 0);
  EXPECT_EQ(session->programIndex("update"), 1);
  EXPECT_EQ(session->programIndex("eval"), -1);
  ASSERT_TRUE(session->run(0));
  EXPECT_EQ(view<uint8_t>(*session, b)[0], 1);
  ASSERT_TRUE(session->run(1));
  EXPECT_EQ(view<uint8_t>(*session, b)[0], 2);
  EXPECT_FALSE(session->run(2));
  EXPECT_FALSE(session->run(-1));
}

TEST(Session, MeasuresStepsIfAsked) {
  PlanBuilder builder;
  plan::Slice small = builder.state(4), large = builder.state(uint64_t{64} << 20);
  builder.program("micro_step");
  builder.addFill(small, 1);
  builder.addFill(large, 1);
  PlanFile file = builder.finish();
  auto plain = open(file);
  ASSERT_TRUE(plain && plain->run(0));
  EXPECT_TRUE(plain->stepSeconds(0).empty());

  SessionOptions options;
  options.profile = true;
  auto measured = Session::create(file, options);
  ASSERT_TRUE(measured && (*measured)->run(0));
  std::span<const double> seconds = (*measured)->stepSeconds(0);
  ASSERT_EQ(seconds.size(), 2u);
  EXPECT_GE(seconds[0], 0);
  EXPECT_GT(seconds[1], seconds[0]);
  EXPECT_LT(seconds[1], 60);
  EXPECT_TRUE((*measured)->stepSeconds(1).empty());
}

TEST(Session, AWaitForASignalThatComesLaterIsAnErrorAndNoHang) {
  PlanBuilder builder;
  plan::Slice a = builder.state(4);
  builder.program("update").set_signals(1);
  builder.addFill(a, 1).add_waits(1);
  builder.addFill(a, 2).set_signal(1);
  auto session = open(builder.finish(), false, /*trust=*/true);
  ASSERT_TRUE(session);
  for (int repeat = 0; repeat < 2; ++repeat) // signals of an earlier run do not count
    EXPECT_FALSE(session->run(0));
}

TEST(Session, WidensMetricsOfEveryType) {
  PlanBuilder builder;
  plan::Slice values = builder.state(64);
  const plan::DType dtypes[] = {plan::F32, plan::BF16, plan::F16, plan::I32, plan::I64, plan::BOOL, plan::F16};
  for (int i = 0; i < 7; ++i) {
    plan::Metric &metric = *builder.file.plan.add_metrics();
    metric.set_name("m" + std::to_string(i));
    metric.set_dtype(dtypes[i]);
    metric.set_program("update");
    *metric.mutable_slice() = values;
    metric.mutable_slice()->set_offset(i * 8);
    metric.mutable_slice()->set_bytes(8);
  }
  builder.program("update");
  builder.addFill(values, 0);
  auto session = open(builder.finish(), false, true);
  ASSERT_TRUE(session);
  auto put = [&](int i, auto value) { std::memcpy(session->bytes(values).data() + i * 8, &value, sizeof(value)); };
  put(0, -1.5f);
  put(1, uint16_t{0x4049}); // 3.140625
  put(2, uint16_t{0xc248}); // -3.140625
  put(3, int32_t{-7});
  put(4, int64_t{1} << 40);
  put(5, uint8_t{1});
  put(6, uint16_t{0x0001}); // the smallest subnormal
  const double expected[] = {-1.5, 3.140625, -3.140625, -7, 1099511627776.0, 1, 0x1p-24};
  for (int i = 0; i < 7; ++i)
    EXPECT_EQ(session->metric(i), expected[i]) << i;
}

TEST(Session, RunAllocatesNothing) {
  PlanBuilder builder;
  uint32_t add = addKernels(builder, kernels(), {"add_size"});
  plan::Slice x = builder.state(4096), y = builder.state(4096), rows = builder.state(64), index = builder.state(32);
  plan::Slice table = builder.state(96);
  builder.program("update");
  builder.addFill(x, 0);
  plan::Step &step = addCall(builder, add, 1024, 1, {7});
  addOperand(step, x, Operand::READ, plan::F32, {1024});
  addOperand(step, y, Operand::WRITE, plan::F32, {1024});
  builder.addCopy(y, x);
  plan::Step &scatter = builder.addStep("scatter");
  scatter.mutable_scatter_add()->set_rows(4);
  scatter.mutable_scatter_add()->set_width(4);
  scatter.mutable_scatter_add()->set_table_rows(6);
  addOperand(scatter, index, Operand::READ, plan::I64, {4});
  addOperand(scatter, rows, Operand::READ, plan::F32, {4, 4});
  addOperand(scatter, table, Operand::WRITE, plan::F32, {6, 4});
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  counting = true;
  bool ok = session->run(0) && session->run(0);
  counting = false;
  EXPECT_TRUE(ok);
  EXPECT_EQ(allocations, 0);
}

TEST(Session, ArenasStartZeroedAndAligned) {
  PlanBuilder builder;
  builder.file.plan.mutable_arenas(0)->set_alignment(1 << 16);
  plan::Slice big = builder.state(5 << 20), gradient = builder.gradients(100);
  builder.program("update");
  builder.addFill(gradient, 1);
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(session->bytes(big).data()) % (1 << 16), 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(session->bytes(gradient).data()) % 64, 0u);
  EXPECT_EQ(std::ranges::count(view<uint8_t>(*session, big), 0), 5 << 20);
}

TEST(Session, KernelsSeeTheirPlaceInTheMesh) {
  PlanBuilder builder;
  plan::MeshAxis &mesh = *builder.file.plan.add_mesh();
  mesh.set_name("data");
  mesh.set_size(1);
  uint32_t axis = addKernels(builder, kernels(), {"axis"});
  plan::Slice y = builder.state(8);
  builder.program("update");
  addOperand(addCall(builder, axis, 1, 1), y, Operand::WRITE, plan::I64, {1});
  auto session = open(builder.finish());
  ASSERT_TRUE(session);
  view<int64_t>(*session, y)[0] = 99;
  ASSERT_TRUE(session->run(0));
  EXPECT_EQ(view<int64_t>(*session, y)[0], 0);
}

TEST(Session, TwoSessionsKeepTheirKernelsApart) {
  auto make = [](const char *symbol, const char *library) {
    PlanBuilder builder;
    addKernels(builder, fileBytes(library), {symbol});
    return builder.finish();
  };
  auto first = open(make("add_size", MOE_TEST_KERNELS));
  auto second = open(make("record_begin", MOE_TEST_KERNELS));
  EXPECT_TRUE(first && second);
  // Another library: the loader must not take it for one of the two that are loaded.
  EXPECT_NE(refusal(make("add_size", MOE_TEST_UNRESOLVED)).find("moe_missing_one"), std::string::npos);
  first.reset();
  EXPECT_TRUE(open(make("overrun", MOE_TEST_KERNELS)));
}

TEST(Session, LeavesNoFileOpen) {
  auto openFiles = [] {
    std::filesystem::directory_iterator files("/proc/self/fd");
    return std::distance(begin(files), end(files));
  };
  PlanBuilder builder;
  addKernels(builder, kernels(), {"add_size"});
  auto session = open(builder.finish());
  session.reset(); // what the backend itself opens stays open
  auto before = openFiles();
  EXPECT_TRUE(open(builder.finish()));
  EXPECT_EQ(openFiles(), before);
}

TEST(Session, RefusesWhatItCanNotRun) {
  auto plan = [] {
    PlanBuilder builder;
    builder.program("update");
    builder.addFill(builder.state(16), 0);
    return builder.finish();
  };
  EXPECT_EQ(refusal(plan()), "");

  PlanFile file = plan();
  for (const char *feature : {"sse2", "amx-transpose-of-the-future", "fma4"})
    file.plan.mutable_target()->add_features(feature);
  std::string why = refusal(file);
  EXPECT_NE(why.find("another CPU"), std::string::npos) << why;
  EXPECT_NE(why.find("amx-transpose-of-the-future"), std::string::npos) << why;
  EXPECT_EQ(why.find("sse2"), std::string::npos) << why;

  file = plan();
  file.plan.mutable_target()->set_device("cuda");
  EXPECT_NE(refusal(file).find("another device"), std::string::npos);

  file = plan();
  file.plan.add_mesh()->set_size(4);
  EXPECT_NE(refusal(file).find("4 ranks"), std::string::npos);

  file = plan();
  file.plan.mutable_arenas(1)->set_bytes(uint64_t{1} << 46);
  file.plan.mutable_certificate()->set_total(uint64_t{1} << 47);
  EXPECT_NE(refusal(file).find("not enough memory"), std::string::npos);
  EXPECT_NE(refusal(file).find("128.00 TiB"), std::string::npos);

  file = plan();
  file.plan.mutable_programs(0)->mutable_steps(0)->mutable_operands(0)->mutable_slice()->set_buffer(9);
  EXPECT_NE(refusal(file).find("not well formed"), std::string::npos);
}

TEST(Session, ValidatesUnlessTrusted) {
  PlanBuilder builder;
  plan::Slice undefined = builder.step(16), out = builder.state(16);
  builder.program("update");
  builder.addCopy(undefined, out);
  PlanFile file = builder.finish();
  EXPECT_FALSE(Session::create(file, {}));
  EXPECT_EQ(refusal(file), "");
}

TEST(Session, NamesAllMissingSymbols) {
  PlanBuilder builder;
  addKernels(builder, fileBytes(MOE_TEST_UNRESOLVED), {"kernel"});
  std::string why = refusal(builder.finish());
  EXPECT_NE(why.find("moe_missing_one"), std::string::npos) << why;
  EXPECT_NE(why.find("moe_missing_two"), std::string::npos) << why;
  EXPECT_EQ(why.find("memset"), std::string::npos) << why;

  PlanBuilder other;
  addKernels(other, kernels(), {"add_size", "absent_a", "absent_b"});
  why = refusal(other.finish());
  EXPECT_NE(why.find("absent_a, absent_b"), std::string::npos) << why;

  PlanBuilder broken;
  addKernels(broken, "no ELF file", {"kernel"});
  EXPECT_NE(refusal(broken.finish()).find("cannot load the kernels"), std::string::npos);
}

} // namespace
