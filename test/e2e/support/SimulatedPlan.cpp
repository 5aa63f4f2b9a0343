//===- SimulatedPlan.cpp ------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/e2e/support/SimulatedPlan.h"

#include "runtime/cuda/CudaDevice.h"

#include <algorithm>
#include <iostream>
#include <random>

namespace moe::test {

void require(const Status &status) {
  if (status)
    return;
  std::cerr << status.error().str() << "\n";
  std::exit(1);
}

static void fill(Device &device, const plan::Plan &plan) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0, 0.1F);
  auto write = [&](const plan::Slice &slice, auto draw) {
    std::vector<decltype(draw())> values(slice.bytes() / sizeof(draw()));
    std::ranges::generate(values, draw);
    require(device.write(slice, std::as_bytes(std::span(values))));
  };
  for (const plan::StateTensor &tensor : plan.state())
    if (tensor.dtype() == plan::F32 && tensor.kind() != plan::StateTensor::GRADIENT)
      write(tensor.slice(), [&] { return uniform(random); });
  for (const plan::Input &input : plan.inputs())
    write(input.staging(), [&] { return static_cast<int64_t>(random() % 8); });
}

std::unique_ptr<Device> start(const PlanFile &file) {
  std::unique_ptr<Device> device = cuda::createCudaDevice();
  require(device->prepare(file.plan, 0));
  require(device->initialize(file, {}));
  fill(*device, file.plan);
  return device;
}

} // namespace moe::test
