//===- Fibers.cpp -------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Fibers.h"

#include "runtime/abi/SimulatedDevice.h"
#include "test/gpu/sim/Context.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace moe::sim {
namespace {

constexpr uint32_t warpSize = 32;
/// Of one buffer of one warp.
constexpr size_t exchangeBytes = warpSize * MOE_SIM_EXCHANGE_BYTES;

/// What a thread of the block waits for. The order matters to no one.
enum class State : uint8_t { Ready, AtBarrier, AtShuffle, Ended };

const char *describe(State state) {
  switch (state) {
  case State::AtBarrier:
    return "waits at a barrier";
  case State::AtShuffle:
    return "waits at a shuffle";
  case State::Ended:
    return "has ended";
  case State::Ready:
    break;
  }
  return "runs";
}

struct Thread {
  State state = State::Ready;
  uint8_t exchanges = 0;      ///< parity of their number
  Context *context = nullptr; ///< where it waits
};

/// The grid that this host thread runs, and the stacks that it keeps for later ones.
struct Grid {
  // What kernels ask for all the time.
  uint32_t thread = 0, block = 0;
  unsigned char *shared = nullptr;

  Kernel kernel = nullptr;
  void *const *arguments = nullptr;
  Order order = Order::Ascending;
  std::vector<Thread> threads;
  /// Two buffers for each warp, used in turn: a lane may enter its next exchange before others have read the last one.
  std::vector<unsigned char> exchange;
  uint32_t begin = 0, end = 0; ///< threads of the warp whose turn it is
  uint32_t turns = 0;          ///< how many of them had theirs
  std::string error;           ///< the first one; not empty: the grid is abandoned

  Context host;
  Context *running = nullptr; ///< null: the host
  std::vector<std::unique_ptr<Context>> stacks;
  std::vector<Context *> free;

  std::string where(uint32_t index) const {
    return kernelName(kernel) + ", block " + std::to_string(block) + ", thread " + std::to_string(index);
  }
  void fail(std::string text) {
    if (error.empty())
      error = std::move(text);
  }
  uint32_t at(uint32_t step, uint32_t count) const { return order == Order::Ascending ? step : count - 1 - step; }

  Context *takeStack();
  void pass(bool ended);
  void wait(State state);
  bool agree(uint32_t first, uint32_t last, const char *whom);
  bool runWarp(uint32_t warp);
  bool runBlock();
  void run(uint32_t blocks, size_t sharedBytes, uint8_t sharedGarbage);
};

thread_local Grid grid;

/// Threads of a warp, one after the other as long as none of them waits.
void runThreads(void *) {
  for (;;) {
    grid.kernel(grid.arguments);
    grid.threads[grid.thread].state = State::Ended;
    grid.pass(/*ended=*/true);
  }
}

Context *Grid::takeStack() {
  if (free.empty()) {
    auto context = std::make_unique<Context>();
    if (!context->allocate()) {
      fail("no memory for one more stack");
      return nullptr;
    }
    free.push_back(context.get());
    stacks.push_back(std::move(context));
  }
  Context *context = free.back();
  free.pop_back();
  context->prepare(runThreads, nullptr);
  return context;
}

/// Gives the turn to the next thread of the warp, to the host after the last one. If the caller has ended, it may
/// become the next thread itself (and returns); otherwise returns when its own turn comes again.
void Grid::pass(bool ended) {
  Context *from = running, *to = nullptr;
  if (error.empty() && turns < end - begin) {
    thread = begin + at(turns++, end - begin);
    to = threads[thread].context;
    if (!to && ended)
      return;
    if (!to)
      to = takeStack();
  }
  if (ended)
    free.push_back(from);
  running = to;
  if (from != to)
    Context::switchTo(from ? *from : host, to ? *to : host, ended);
}

void Grid::wait(State state) {
  threads[thread].state = state;
  threads[thread].context = running;
  pass(/*ended=*/false);
}

/// Whether threads [first, last) are all in the same state.
bool Grid::agree(uint32_t first, uint32_t last, const char *whom) {
  for (uint32_t i = first + 1; i < last && error.empty(); ++i)
    if (threads[i].state != threads[first].state)
      fail(where(first) + " " + describe(threads[first].state) + " while thread " + std::to_string(i) +
           " of the same " + whom + " " + describe(threads[i].state));
  return error.empty();
}

/// To the next barrier or the end.
bool Grid::runWarp(uint32_t warp) {
  begin = warp * warpSize;
  end = std::min(begin + warpSize, uint32_t(threads.size()));
  do {
    for (uint32_t i = begin; i < end; ++i)
      threads[i].state = State::Ready;
    turns = 0;
    pass(/*ended=*/false);
  } while (agree(begin, end, "warp") && threads[begin].state == State::AtShuffle);
  return error.empty();
}

bool Grid::runBlock() {
  const uint32_t warps = (uint32_t(threads.size()) + warpSize - 1) / warpSize;
  std::ranges::fill(threads, Thread());
  do {
    for (uint32_t step = 0; step < warps; ++step)
      if (!runWarp(at(step, warps)))
        return false;
  } while (agree(0, uint32_t(threads.size()), "block") && threads[0].state == State::AtBarrier);
  return error.empty();
}

void Grid::run(uint32_t blocks, size_t sharedBytes, uint8_t sharedGarbage) {
  free.clear();
  for (const auto &context : stacks)
    free.push_back(context.get());
  // Its own allocation of the very size, so that AddressSanitizer sees its end; aligned to 16, as malloc does.
  std::unique_ptr<void, decltype(&std::free)> memory(std::malloc(sharedBytes), &std::free);
  shared = static_cast<unsigned char *>(memory.get());
  if (!shared && sharedBytes != 0)
    return fail("no memory for its shared memory");
  for (uint32_t step = 0; step < blocks; ++step) {
    block = at(step, blocks);
    if (sharedBytes != 0)
      std::memset(shared, sharedGarbage, sharedBytes);
    if (!runBlock())
      return;
  }
}

/// Names given to kernels; a kernel of a library may be named while another one starts.
std::mutex namesMutex;
std::map<Kernel, const char *> &names() {
  static std::map<Kernel, const char *> map;
  return map;
}
std::map<Kernel, std::vector<uint32_t>> &parameters() {
  static std::map<Kernel, std::vector<uint32_t>> map;
  return map;
}

} // namespace

std::optional<std::vector<uint32_t>> kernelParameters(Kernel kernel) {
  std::scoped_lock lock(namesMutex);
  auto found = parameters().find(kernel);
  return found == parameters().end() ? std::nullopt : std::optional(found->second);
}

std::string kernelName(Kernel kernel) {
  {
    std::scoped_lock lock(namesMutex);
    if (auto found = names().find(kernel); found != names().end())
      return found->second;
  }
  Dl_info info;
  if (dladdr(reinterpret_cast<void *>(kernel), &info) && info.dli_sname &&
      info.dli_saddr == reinterpret_cast<void *>(kernel))
    return info.dli_sname;
  return "without a name";
}

std::string runGrid(Kernel kernel, void *const *arguments, uint32_t blocks, uint32_t threads, size_t sharedBytes,
                    Order order, uint8_t sharedGarbage) {
  const std::string prefix = "kernel " + kernelName(kernel) + ": ";
  if (blocks == 0 || blocks > 0x7FFFFFFF || threads == 0 || threads > maximumThreads)
    return prefix + std::to_string(blocks) + " blocks of " + std::to_string(threads) +
           " threads; a device takes 1 to 2^31 - 1 blocks of 1 to " + std::to_string(maximumThreads) + " threads";
  if (sharedBytes > maximumSharedBytes)
    return prefix + std::to_string(sharedBytes) + " bytes of shared memory; a device has at most " +
           std::to_string(maximumSharedBytes);
  grid.kernel = kernel;
  grid.arguments = arguments;
  grid.order = order;
  grid.threads.resize(threads);
  grid.exchange.resize((threads + warpSize - 1) / warpSize * 2 * exchangeBytes);
  grid.error.clear();
  grid.run(blocks, sharedBytes, sharedGarbage);
  return grid.error.empty() ? "" : "kernel " + grid.error;
}

} // namespace moe::sim

using namespace moe::sim;

extern "C" {

uint32_t moe_sim_thread(void) {
  return grid.thread;
}

uint32_t moe_sim_block(void) {
  return grid.block;
}

void moe_sim_barrier(void) {
  grid.wait(State::AtBarrier);
}

const unsigned char *moe_sim_exchange(const void *mine, size_t bytes) {
  const uint32_t self = grid.thread;
  Thread &thread = grid.threads[self];
  unsigned char *buffer = grid.exchange.data() + (self / warpSize * 2 + thread.exchanges) * exchangeBytes;
  thread.exchanges ^= 1;
  if (bytes > 0)
    std::memcpy(buffer + self % warpSize * MOE_SIM_EXCHANGE_BYTES, mine, bytes);
  grid.wait(State::AtShuffle);
  return buffer;
}

uint32_t moe_sim_shuffle_xor(uint32_t value, uint32_t mask) {
  const uint32_t self = grid.thread, lane = (self % warpSize) ^ mask;
  if (lane >= warpSize || self / warpSize * warpSize + lane >= grid.threads.size()) {
    grid.fail(grid.where(self) + " asks lane " + std::to_string(lane) + " of its warp, which does not exist");
    grid.wait(State::Ended); // does not return: the grid is abandoned
  }
  std::memcpy(&value, moe_sim_exchange(&value, sizeof(value)) + lane * MOE_SIM_EXCHANGE_BYTES, sizeof(value));
  return value;
}

void *moe_sim_shared(void) {
  return grid.shared;
}

void moe_sim_name_kernel(Kernel kernel, const char *name) {
  std::scoped_lock lock(namesMutex);
  names()[kernel] = name;
}

void moe_sim_kernel_parameters(Kernel kernel, const uint32_t *bytes, uint32_t count) {
  std::scoped_lock lock(namesMutex);
  parameters()[kernel].assign(bytes, bytes + count);
}

} // extern "C"
