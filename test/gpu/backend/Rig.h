//===- Rig.h - Plans written by hand on the simulated device ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_BACKEND_RIG_H
#define MOEC_TEST_GPU_BACKEND_RIG_H

#include "runtime/cuda/CudaDevice.h"
#include "test/gpu/sim/Simulator.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace moe::test {

/// A plan for the simulated device, and the device that runs it.
struct Rig {
  PlanBuilder builder{1};
  PlanFile file;
  std::unique_ptr<Device> device;

  Rig() {
    sim::settings() = {};
    builder.file.plan.mutable_target()->set_device("cuda");
    builder.file.plan.mutable_target()->set_name("simulated");
  }

  /// A kernel of kernels.c; all share one image.
  uint32_t kernel(const std::string &symbol) {
    plan::Plan &plan = builder.file.plan;
    if (plan.images_size() == 0) {
      plan.add_images()->set_format("host");
      std::ifstream stream(MOE_TEST_KERNELS, std::ios::binary);
      builder.file.blobs.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    }
    plan.add_kernels()->set_symbol(symbol);
    return static_cast<uint32_t>(plan.kernels_size() - 1);
  }

  /// A step that calls a kernel with `from` and `to` of 64 floats per block.
  plan::Step &call(const std::string &symbol, const plan::Slice &from, const plan::Slice &to,
                   plan::Operand::Access access = plan::Operand::WRITE) {
    plan::Step &step = builder.addStep(symbol + " step");
    step.mutable_kernel()->set_kernel(kernel(symbol));
    plan::Launch &launch = *step.mutable_kernel()->mutable_launch();
    launch.set_blocks(static_cast<uint32_t>(to.bytes() / 256));
    launch.set_threads(64);
    launch.set_shared_bytes(256);
    addOperand(step, from, plan::Operand::READ, plan::F32);
    addOperand(step, to, access, plan::F32);
    return step;
  }

  Status open(const DeviceOptions &options = {}) {
    file = builder.finish();
    device = cuda::createCudaDevice();
    if (Status status = device->prepare(file.plan, 0); !status)
      return status;
    return device->initialize(file, options);
  }

  template <typename T> void put(const plan::Slice &slice, const std::vector<T> &values) {
    ASSERT_EQ(values.size() * sizeof(T), slice.bytes());
    Status status = device->write(slice, std::as_bytes(std::span(values)));
    ASSERT_TRUE(status) << status.error().str();
  }

  template <typename T> std::vector<T> get(const plan::Slice &slice) {
    std::vector<T> values(slice.bytes() / sizeof(T));
    Status status = device->read(slice, std::as_writable_bytes(std::span(values)));
    EXPECT_TRUE(status) << status.error().str();
    return values;
  }

  /// What goes wrong when the plan is opened and run twice, first step by step, then as a graph; "" if nothing does.
  std::string problem() {
    Status status = open();
    for (int i = 0; i < 2 && status; ++i)
      status = device->run(0);
    return status ? "" : status.error().str();
  }
};

inline std::vector<float> counting(size_t count, float first = 0) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] = first + static_cast<float>(i);
  return values;
}

} // namespace moe::test

#endif // MOEC_TEST_GPU_BACKEND_RIG_H
