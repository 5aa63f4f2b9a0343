//===- TestSession.h - Sessions on plans written in code ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_CORE_TESTSESSION_H
#define MOEC_TEST_RUNTIME_CORE_TESTSESSION_H

#include "runtime/core/Session.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <span>

namespace moe::test {

/// Opens a session; null and a test failure if it is refused.
inline std::unique_ptr<Session> open(const PlanFile &file, bool poison = false, bool trust = false) {
  SessionOptions options;
  options.poison = poison;
  options.trustPlan = trust;
  auto session = Session::create(file, options);
  if (!session) {
    ADD_FAILURE() << session.error().str();
    return nullptr;
  }
  return std::move(*session);
}

/// Why a session is refused, "" if it is not. Skips the validator, which has tests of its own.
inline std::string refusal(const PlanFile &file) {
  SessionOptions options;
  options.trustPlan = true;
  auto session = Session::create(file, options);
  return session ? "" : session.error().str();
}

/// A slice as an array. The session must outlive it.
template <typename T> std::span<T> view(Session &session, const plan::Slice &slice) {
  std::span<std::byte> bytes = session.bytes(slice);
  return {reinterpret_cast<T *>(bytes.data()), bytes.size() / sizeof(T)};
}

inline std::string fileBytes(const char *path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// Adds image `blob` and its kernels to a plan; the first of them gets the index returned.
inline uint32_t addKernels(PlanBuilder &builder, const std::string &blob, const std::vector<std::string> &symbols) {
  uint32_t first = builder.file.plan.kernels_size();
  builder.file.plan.add_images()->set_format("elf");
  builder.file.blobs.push_back(blob);
  for (const std::string &symbol : symbols) {
    plan::Kernel &kernel = *builder.file.plan.add_kernels();
    kernel.set_symbol(symbol);
    kernel.set_image(builder.file.plan.images_size() - 1);
  }
  return first;
}

/// A step that calls a kernel; operands are up to the caller.
inline plan::Step &addCall(PlanBuilder &builder, uint32_t kernel, int64_t extent, int64_t grain,
                           const std::vector<int64_t> &numbers = {}) {
  plan::Step &step = builder.addStep("call");
  step.mutable_kernel()->set_kernel(kernel);
  step.mutable_kernel()->set_extent(extent);
  step.mutable_kernel()->set_grain(grain);
  step.mutable_kernel()->mutable_numbers()->Add(numbers.begin(), numbers.end());
  return step;
}

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_CORE_TESTSESSION_H
