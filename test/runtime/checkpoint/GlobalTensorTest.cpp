//===- GlobalTensorTest.cpp - Whole tensors from the parts of ranks, and back -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/GlobalTensor.h"

#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/StateInit.h"
#include "runtime/comm/ThreadRanks.h"
#include "test/runtime/TestFiles.h"
#include "test/runtime/plan/MeshPlan.h"

#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <thread>

using namespace moe;
using namespace moe::test;

namespace {

/// A rank of `meshPlan` whose memory is a few vectors. Programs do nothing. If `remote`, the host reaches no slice.
class MeshSession final : public Session {
public:
  MeshSession(Communicator &link, bool remote) : file(meshPlan()), link(link), remote(remote) {
    for (plan::StateTensor &tensor : *file.plan.mutable_state())
      tensor.set_checkpointed(tensor.kind() == plan::StateTensor::PARAMETER);
  }

  const plan::Plan &plan() const override { return file.plan; }
  plan::Plan &mutablePlan() { return file.plan; }
  Communicator *communicator() const override { return &link; }
  int programIndex(std::string_view /*name*/) const override { return -1; }
  Status run(int /*program*/) override { return {}; }
  std::span<std::byte> bytes(const plan::Slice &slice) override {
    return remote ? std::span<std::byte>() : memory(slice);
  }
  Status read(const plan::Slice &slice, std::span<std::byte> destination) override {
    std::ranges::copy(memory(slice), destination.begin());
    return {};
  }
  Status write(const plan::Slice &slice, std::span<const std::byte> source) override {
    std::ranges::copy(source, memory(slice).begin());
    return {};
  }
  double metric(int /*index*/) const override { return 0; }

  std::span<std::byte> memory(const plan::Slice &slice) {
    std::vector<std::byte> &buffer = buffers[slice.buffer()];
    buffer.resize(file.plan.buffers(static_cast<int>(slice.buffer())).bytes());
    return std::span(buffer).subspan(slice.offset(), slice.bytes());
  }

private:
  PlanFile file;
  Communicator &link;
  bool remote;
  std::map<uint32_t, std::vector<std::byte>> buffers;
};

void onRanks(bool remote, const std::function<void(MeshSession &)> &body) {
  auto ranks = makeThreadRanks(6, {.deadline = 60});
  std::vector<std::thread> threads;
  threads.reserve(ranks.size());
  for (auto &rank : ranks)
    threads.emplace_back([&, link = rank.get()] {
      MeshSession session(*link, remote);
      body(session);
    });
  for (std::thread &thread : threads)
    thread.join();
}

/// Different for each element of each tensor.
std::vector<float> numbers(const plan::StateTensor &tensor) {
  int64_t count = 1;
  for (int64_t size : tensor.shape())
    count *= size;
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i + 1) + static_cast<float>(tensor.name().size() * 100 + tensor.name().back());
  return values;
}

std::vector<float> floats(const std::vector<std::byte> &bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(values)).begin());
  return values;
}

TEST(GlobalTensor, PartsMakeTheWholeAgain) {
  for (bool remote : {false, true})
    onRanks(remote, [](MeshSession &session) {
      for (const plan::StateTensor &tensor : session.plan().state())
        if (tensor.kind() == plan::StateTensor::PARAMETER) {
          std::vector<float> values = numbers(tensor);
          EXPECT_TRUE(scatterTensor(session, tensor, std::as_bytes(std::span(values))));
        }
      for (const plan::StateTensor &tensor : session.plan().state()) {
        if (tensor.kind() != plan::StateTensor::PARAMETER)
          continue;
        auto whole = gatherTensor(session, tensor);
        ASSERT_TRUE(whole) << whole.error().str();
        EXPECT_EQ(floats(*whole), session.rank() == 0 ? numbers(tensor) : std::vector<float>()) << tensor.name();
      }
    });
}

// "split.grad" [6, 4] is partial over data (2) and its rows are split over expert (3).
TEST(GlobalTensor, PartialTensorsAreAddedUp) {
  onRanks(false, [](MeshSession &session) {
    const plan::StateTensor &gradient = session.plan().state(1);
    ASSERT_EQ(gradient.name(), "split.grad");
    auto slice = session.memory(gradient.slice());
    const auto data = session.rank() / 3, expert = session.rank() % 3;
    std::vector<float> own(8);
    for (size_t i = 0; i < own.size(); ++i)
      own[i] = static_cast<float>(data == 0 ? 1000 : 1) * static_cast<float>(expert * 8 + static_cast<int>(i));
    std::ranges::copy(std::as_bytes(std::span(own)), slice.begin());
    auto whole = gatherTensor(session, gradient);
    ASSERT_TRUE(whole) << whole.error().str();
    if (session.rank() != 0)
      return;
    for (size_t i = 0; i < 24; ++i)
      EXPECT_EQ(floats(*whole)[i], 1001 * static_cast<float>(i));
  });
}

TEST(GlobalTensor, CheckpointsHoldWholeTensors) {
  TemporaryFolder folder;
  const auto path = folder.path() / "c.safetensors";
  onRanks(false, [&](MeshSession &session) {
    for (const plan::StateTensor &tensor : session.plan().state())
      if (tensor.checkpointed()) {
        std::vector<float> values = numbers(tensor);
        ASSERT_TRUE(scatterTensor(session, tensor, std::as_bytes(std::span(values))));
      }
    Status saved = saveCheckpoint(path, session, {.updates = 3});
    EXPECT_TRUE(saved) << saved.error().str();
    // What all ranks have been told is there is there for each of them.
    auto file = CheckpointFile::open(path);
    ASSERT_TRUE(file) << file.error().str();
    for (const plan::StateTensor &tensor : session.plan().state())
      std::ranges::fill(session.memory(tensor.slice()), std::byte(0xee));
    Status restored = file->restore(session);
    EXPECT_TRUE(restored) << restored.error().str();
    for (const plan::StateTensor &tensor : session.plan().state())
      if (tensor.checkpointed()) {
        auto whole = gatherTensor(session, tensor);
        ASSERT_TRUE(whole);
        EXPECT_EQ(floats(*whole), session.rank() == 0 ? numbers(tensor) : std::vector<float>()) << tensor.name();
      }
  });
  auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->find("flat1"));
  EXPECT_EQ(file->find("flat1")->shape, (std::vector<int64_t>{7}));
  EXPECT_EQ(file->find("split")->shape, (std::vector<int64_t>{6, 4}));
}

// First values are functions of the seed, the name and the index in the whole tensor: the mesh does not change them.
TEST(GlobalTensor, FirstValuesDoNotDependOnTheMesh) {
  for (bool remote : {false, true})
    onRanks(remote, [](MeshSession &session) {
      plan::Plan &plan = session.mutablePlan();
      plan.mutable_state(0)->mutable_initial()->mutable_normal()->set_stddev(0.5);
      plan.mutable_state(0)->mutable_initial()->add_zero_rows(3);
      plan.mutable_state(2)->mutable_initial()->mutable_uniform()->set_high(2);
      plan.mutable_state(3)->mutable_initial()->mutable_constant()->set_value(7);
      Status status = initialiseState(session, {.seed = 11, .weights = {}, .parameters = {}});
      ASSERT_TRUE(status) << status.error().str();
      std::vector<float> normal(24), uniform(10);
      drawNormal(std::as_writable_bytes(std::span(normal)), plan::F32, 11, "split", 0, 0.5);
      std::fill_n(normal.begin() + 12, 4, 0.0f); // row 3
      drawUniform(std::as_writable_bytes(std::span(uniform)), plan::F32, 11, "flat0", 0, 2);
      const std::vector<float> expected[] = {normal, {}, uniform, std::vector<float>(7, 7.0f)};
      for (int i : {0, 2, 3}) {
        auto whole = gatherTensor(session, plan.state(i));
        ASSERT_TRUE(whole);
        EXPECT_EQ(floats(*whole), session.rank() == 0 ? expected[i] : std::vector<float>()) << plan.state(i).name();
      }
    });
}

TEST(GlobalTensor, AFailedWriteIsKnownToAll) {
  onRanks(false, [](MeshSession &session) {
    Status saved = saveCheckpoint("/proc/no/such/folder/c.safetensors", session, {});
    EXPECT_FALSE(saved);
  });
}

} // namespace
