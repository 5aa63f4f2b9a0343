//===- ProbeTest.cpp - What is refused, and that nothing was allocated before -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Probe.h"
#include "test/gpu/backend/Rig.h"

#include <functional>

using namespace moe;
using namespace moe::test;
using plan::Operand;

namespace {

constexpr uint64_t MiB = uint64_t{1} << 20;

/// Why a plan with 10 MiB of state and 90 MiB of activations is refused; "" if it is not.
std::string refusal(const std::function<void(Rig &)> &change) {
  Rig rig;
  PlanBuilder &b = rig.builder;
  plan::Slice x = b.state(10 * MiB), y = b.step(90 * MiB);
  b.file.plan.mutable_training()->set_micro_batch(16);
  b.program("update");
  b.addFill(x, 0);
  b.addFill(y, 0);
  rig.file = b.finish();
  change(rig);
  rig.device = cuda::createCudaDevice();
  sim::forgetCalls();
  Status status = rig.device->prepare(rig.file.plan, 0);
  for (const char *call : sim::calls())
    EXPECT_STRNE(call, "cudaMalloc");
  if (!status)
    EXPECT_EQ(status.error().code, ExitCode::User);
  return status ? "" : status.error().str();
}

void expectParts(const std::string &text, std::initializer_list<const char *> parts) {
  for (const char *part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in " << text;
}

TEST(Probe, TakesWhatFits) {
  EXPECT_EQ(refusal([](Rig &) {}), "");
  EXPECT_EQ(refusal([](Rig &) { sim::settings().memory = 100 * MiB; }), "");
}

TEST(Probe, NoDriver) {
  expectParts(refusal([](Rig &) { sim::settings().driver = 0; }), {"there is no NVIDIA driver", "--target cpu"});
}

TEST(Probe, OldDriver) {
  expectParts(refusal([](Rig &) { sim::settings().driver = 12080; }),
              {"the NVIDIA driver is too old", "CUDA 12.8", "needs 13.0", "update the driver"});
}

TEST(Probe, NoDevice) {
  expectParts(refusal([](Rig &) { sim::settings().devices = 0; }), {"there is no CUDA device", "CUDA_VISIBLE_DEVICES"});
}

// What is needed, of what, what is free, and what would fit: 10 of 16 sequences, as 90 MiB hold 16 and 60 are left.
TEST(Probe, TooLittleMemory) {
  expectParts(refusal([](Rig &) { sim::settings().memory = 70 * MiB; }),
              {"not enough device memory", "it needs 100.00 MiB", "state 10.00 MiB", "step 90.00 MiB",
               "70.00 MiB of the 70.00 MiB of simulated device are free", "a batch of about 10 instead of 16"});
  expectParts(refusal([](Rig &) { sim::settings().memory = 11 * MiB; }), {"--recompute"});
  expectParts(refusal([](Rig &) { sim::settings().memory = 9 * MiB; }), {"state and gradients alone do not fit"});
}

struct Architecture {
  const char *target, *format;
  int major, minor;
  bool runs;
};

TEST(Probe, CodeRunsWhereItsArchitectureDoes) {
  for (const Architecture &a :
       {Architecture{"sm_90", "cubin", 9, 0, true}, Architecture{"sm_80", "cubin", 8, 6, true},
        Architecture{"sm_86", "cubin", 8, 0, false}, Architecture{"sm_80", "cubin", 9, 0, false},
        Architecture{"sm_90", "cubin", 8, 0, false}, Architecture{"sm_80", "ptx", 9, 0, true},
        Architecture{"sm_100", "cubin", 10, 3, true}, Architecture{"sm_100", "ptx", 9, 0, false},
        Architecture{"sm_90a", "cubin", 9, 0, true}, Architecture{"sm_90a", "ptx", 10, 0, false},
        Architecture{"sm_x", "cubin", 9, 0, false}, Architecture{"simulated", "host", 9, 0, false},
        Architecture{"sm_90", "cubin", 0, 0, false}, Architecture{"simulated", "host", 0, 0, true}}) {
    std::string text = refusal([&](Rig &rig) {
      rig.file.plan.mutable_target()->set_name(a.target);
      rig.file.plan.add_images()->set_format(a.format);
      sim::settings().major = a.major;
      sim::settings().minor = a.minor;
    });
    EXPECT_EQ(text.empty(), a.runs) << a.target << " " << a.format << " on " << a.major << "." << a.minor << ": "
                                    << text;
    if (!a.runs)
      expectParts(text, {"compiled for another device", a.target,
                         a.major == 0 ? "--target cuda:simulated" : "--target cuda:sm_"});
  }
}

TEST(Probe, CodeOfAnotherFormat) {
  auto withFormat = [](const char *format) {
    return [format](Rig &rig) { rig.file.plan.add_images()->set_format(format); };
  };
  expectParts(refusal(withFormat("elf")), {"can not load", "elf"});
  expectParts(refusal(withFormat("cubin")), {"can not load", "cubin"});
}

TEST(Probe, AnImageThatIsNoLibrary) {
  Rig rig;
  plan::Slice x = rig.builder.state(256), y = rig.builder.state(256);
  rig.builder.program("update");
  rig.call("reverse", x, y);
  rig.builder.file.blobs[0] = "no code at all, but long enough to have a header of some kind in front of it";
  expectParts(rig.problem(), {"cannot load the plan's kernels", "image 0", "cudaErrorInvalidKernelImage"});
}

TEST(Probe, AKernelThatTheCodeDoesNotHave) {
  Rig rig;
  plan::Slice x = rig.builder.state(256), y = rig.builder.state(256);
  rig.builder.program("update");
  rig.call("reverse", x, y);
  rig.call("nowhere", x, y);
  expectParts(rig.problem(), {"names kernels that its code does not have", "nowhere"});
}

TEST(Probe, Describes) {
  auto value = [](const char *name) {
    std::string found;
    for (const DeviceFact &fact : cuda::describeCuda())
      if (fact.name == name)
        found = fact.value + "|" + fact.problem;
    return found;
  };
  sim::settings() = {};
  EXPECT_EQ(value("driver"), "CUDA 13.0|");
  EXPECT_EQ(value("matrix products"), "cuBLASLt 13.0.0|");
  EXPECT_EQ(value("device"), "simulated device|");
  EXPECT_EQ(value("free memory"), "16.00 GiB of 16.00 GiB|");
  sim::settings().major = 7;
  expectParts(value("compute capability"), {"7.0|", "8.0 and later"});
  sim::settings().devices = 0;
  expectParts(value("device"), {"missing|", "there is no CUDA device"});
  sim::settings().driver = 0;
  expectParts(value("driver"), {"missing|", "install the driver"});
  EXPECT_EQ(value("device"), "");
}

} // namespace
