//===- Nccl.cpp - What stands in for NCCL -------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Each rank of a communicator has a file in memory that all others have mapped. To exchange blocks it writes its own
// into its file, says so, reads what the others have for it, says so, and waits until all have read: so ranks may be
// threads or processes. The order of calls must be the same on all ranks, as NCCL wants it.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/NcclApi.h"
#include "runtime/plan/plan.pb.h"
#include "test/gpu/sim/Simulator.h"
#include "test/gpu/sim/State.h"
#include "test/gpu/sim/Streams.h"
#include "test/gpu/sim/Undefined.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace moe::sim {
namespace {

using cuda::NcclId;
using cuda::NcclResult;
using cuda::NcclType;
using Clock = std::chrono::steady_clock;

constexpr size_t kMostRanks = 64;
constexpr auto kNap = std::chrono::microseconds(50);

/// The beginning of a rank's file. What the others look at is atomic.
struct Header {
  std::atomic<uint32_t> isThere;
  std::atomic<uint32_t> met;           ///< members that have mapped this file
  int32_t process, device;             ///< whose device it is
  std::atomic<uint64_t> written, read; ///< exchanges
  struct {
    uint64_t offset, bytes;
  } blocks[kMostRanks]; ///< for each member, from the beginning of the file
};

/// A mapped file that grows.
class File {
public:
  File() = default;
  File(const File &) = delete;
  File &operator=(const File &) = delete;
  ~File() {
    if (memory)
      ::munmap(memory, mapped);
    if (descriptor >= 0)
      ::close(descriptor);
  }

  bool open(const std::string &name, int flags) {
    if (descriptor >= 0)
      ::close(descriptor);
    descriptor = ::shm_open(name.c_str(), flags, 0600);
    return descriptor >= 0;
  }
  /// Maps at least so many bytes, of which the file's owner makes it as long.
  bool map(size_t bytes, bool isOwn) {
    if (bytes <= mapped)
      return true;
    if (memory)
      ::munmap(std::exchange(memory, nullptr), std::exchange(mapped, 0));
    if (isOwn && ::ftruncate(descriptor, static_cast<off_t>(bytes)) != 0)
      return false;
    void *found = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (found == MAP_FAILED)
      return false;
    memory = static_cast<std::byte *>(found);
    mapped = bytes;
    return true;
  }
  bool hasBytes(size_t bytes) const { return ::lseek(descriptor, 0, SEEK_END) >= static_cast<off_t>(bytes); }
  Header &header() const { return *reinterpret_cast<Header *>(memory); }
  std::byte *at(uint64_t offset) const { return memory + offset; }

private:
  int descriptor = -1;
  std::byte *memory = nullptr;
  size_t mapped = 0;
};

struct Block {
  std::byte *memory = nullptr;
  size_t bytes = 0;
  int peer = 0;
};

/// Work of one communicator between ncclGroupStart and ncclGroupEnd.
struct Exchange {
  ncclComm *comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<Block> sends, receives; ///< those of one peer in order
};

struct Pending {
  int depth = 0;
  std::vector<Exchange> exchanges;
};
Pending &pending() {
  thread_local Pending instance;
  return instance;
}

bool waitUntil(const std::function<bool()> &holds, int seconds) {
  const Clock::time_point start = Clock::now();
  while (!holds()) {
    if (Clock::now() - start > std::chrono::seconds(seconds))
      return false;
    std::this_thread::sleep_for(kNap);
  }
  return true;
}

} // namespace
} // namespace moe::sim

struct ncclComm {
  int ranks = 0, rank = 0;
  std::vector<moe::sim::File> files; ///< of all members
  uint64_t exchanges = 0;

  moe::cuda::NcclResult meet(const std::string &id);
  std::string exchange(const moe::sim::Exchange &what);
};

namespace moe::sim {
namespace {

std::string nameOf(const std::string &id, int rank) {
  return "/" + id + "." + std::to_string(rank);
}

/// What is wrong with the memory of an exchange: bytes that the step does not declare, or not to be written.
std::string checkAccess(const Block &block, bool written) {
  const std::shared_ptr<const Step> step = currentStep();
  if (block.bytes == 0)
    return {};
  if (!findDevice(block.memory, block.bytes))
    return "memory that is not of this rank's device, " + describeAddress(block.memory);
  if (!step)
    return {};
  for (const MoeSimAccess &access : step->accesses) {
    const auto *begin = static_cast<const std::byte *>(access.address);
    if (begin <= block.memory && block.memory + block.bytes <= begin + access.bytes &&
        !(written && access.access == plan::Operand::READ))
      return {};
  }
  return "memory that step '" + step->name + "' does not declare to " + (written ? "write, " : "read, ") +
         describeAddress(block.memory);
}

NcclResult refuse(const std::string &text) {
  fail(cudaErrorInvalidValue, "NCCL: " + text);
  return NcclResult::InvalidUsage;
}

NcclResult add(bool receives, std::byte *memory, size_t bytes, int peer, ncclComm *comm, cudaStream_t stream);

} // namespace
} // namespace moe::sim

using namespace moe::sim;

moe::cuda::NcclResult ncclComm::meet(const std::string &id) {
  auto opens = [&](int member) {
    File &file = files[static_cast<size_t>(member)];
    return file.open(nameOf(id, member), O_RDWR) && file.hasBytes(sizeof(Header)) && file.map(sizeof(Header), false) &&
           file.header().isThere == 1;
  };
  File &own = files[static_cast<size_t>(rank)];
  if (!own.open(nameOf(id, rank), O_RDWR | O_CREAT | O_EXCL) || !own.map(sizeof(Header), true))
    return NcclResult::SystemError;
  own.header().process = ::getpid();
  own.header().device = deviceInUse();
  own.header().isThere = 1;
  for (int member = 0; member < ranks; ++member) {
    if (member != rank && !waitUntil([&] { return opens(member); }, settings().patience))
      return NcclResult::SystemError;
    const Header &other = files[static_cast<size_t>(member)].header();
    if (member != rank && other.process == own.header().process && other.device == own.header().device)
      return refuse("ranks " + std::to_string(rank) + " and " + std::to_string(member) + " use the same device");
    ++files[static_cast<size_t>(member)].header().met;
  }
  // Nobody opens it any more; nothing stays behind, however the processes end.
  bool met = waitUntil([&] { return own.header().met == static_cast<uint32_t>(ranks); }, settings().patience);
  ::shm_unlink(nameOf(id, rank).c_str());
  return met ? NcclResult::Success : NcclResult::SystemError;
}

std::string ncclComm::exchange(const Exchange &what) {
  if (isStuck())
    return {};
  ++exchanges;
  const size_t members = files.size();
  std::vector<size_t> bytes(members);
  for (const Block &block : what.sends)
    bytes[static_cast<size_t>(block.peer)] += block.bytes;
  size_t end = sizeof(Header);
  for (size_t count : bytes)
    end += count;
  File &own = files[static_cast<size_t>(rank)];
  if (!own.map(end, true))
    return "the host that simulates devices is out of memory";
  uint64_t at = sizeof(Header);
  for (size_t member = 0; member < members; ++member) {
    own.header().blocks[member] = {at, bytes[member]};
    for (const Block &block : what.sends)
      if (static_cast<size_t>(block.peer) == member) {
        std::memcpy(own.at(at), block.memory, block.bytes);
        at += block.bytes;
      }
  }
  own.header().written = exchanges;

  auto waitForAll = [&](std::atomic<uint64_t> Header::*counter) {
    for (const File &file : files)
      if (!waitUntil([&] { return file.header().*counter >= exchanges; }, settings().patience))
        return false;
    return true;
  };
  if (!waitForAll(&Header::written)) {
    getStuck();
    return {};
  }
  for (size_t member = 0; member < members; ++member) {
    File &file = files[member];
    auto [from, sent] = file.header().blocks[rank];
    size_t received = 0;
    for (const Block &block : what.receives)
      received += static_cast<size_t>(block.peer) == member ? block.bytes : 0;
    if (sent != received)
      return "rank " + std::to_string(member) + " sends " + std::to_string(sent) + " bytes to rank " +
             std::to_string(rank) + ", which wants " + std::to_string(received);
    if (!file.map(from + sent, false))
      return "the host that simulates devices is out of memory";
    for (const Block &block : what.receives)
      if (static_cast<size_t>(block.peer) == member && block.bytes > 0) {
        std::memcpy(block.memory, file.at(from), block.bytes);
        undefinedMemory().remove({block.memory, block.memory + block.bytes});
        from += block.bytes;
      }
  }
  own.header().read = exchanges;
  if (!waitForAll(&Header::read))
    getStuck();
  return {};
}

namespace moe::sim {
namespace {

NcclResult getVersion(int *version) {
  record("ncclGetVersion");
  *version = 22800;
  return NcclResult::Success;
}

const char *getErrorString(NcclResult result) {
  return result == NcclResult::InvalidUsage ? cudaGetErrorString(cudaErrorInvalidValue) : "simulated NCCL failed";
}

NcclResult getUniqueId(NcclId *id) {
  record("ncclGetUniqueId");
  std::random_device random;
  std::string text = "moe-sim-" + std::to_string(::getpid()) + "-" + std::to_string(random());
  id->bytes.fill('\0');
  std::ranges::copy(text, id->bytes.begin());
  return NcclResult::Success;
}

NcclResult commInitRank(ncclComm **comm, int ranks, NcclId id, int rank) {
  record("ncclCommInitRank");
  if (ranks < 1 || static_cast<size_t>(ranks) > kMostRanks || rank < 0 || rank >= ranks)
    return refuse("a communicator of " + std::to_string(ranks) + " ranks");
  auto made = std::make_unique<ncclComm>();
  made->ranks = ranks;
  made->rank = rank;
  made->files = std::vector<File>(static_cast<size_t>(ranks));
  NcclResult result = made->meet(id.bytes.data());
  if (result == NcclResult::Success)
    *comm = made.release();
  return result;
}

NcclResult commDestroy(ncclComm *comm) {
  record("ncclCommDestroy");
  delete comm;
  return NcclResult::Success;
}

NcclResult commAbort(ncclComm *comm) {
  record("ncclCommAbort");
  comeUnstuck();
  delete comm;
  return NcclResult::Success;
}

NcclResult commGetAsyncError(ncclComm * /*comm*/, NcclResult *result) {
  *result = NcclResult::Success;
  return NcclResult::Success;
}

NcclResult groupStart() {
  record("ncclGroupStart");
  ++pending().depth;
  return NcclResult::Success;
}

NcclResult groupEnd() {
  record("ncclGroupEnd");
  if (--pending().depth > 0)
    return NcclResult::Success;
  for (Exchange &exchange : std::exchange(pending().exchanges, {})) {
    cudaStream_t stream = exchange.stream;
    cudaError_t code = enqueue(stream, {.name = "an exchange between ranks",
                                        .computes = true,
                                        .meets = true,
                                        .run = [exchange = std::move(exchange)](const RunMode &) {
                                          return exchange.comm->exchange(exchange);
                                        }});
    if (code != cudaSuccess)
      return NcclResult::UnhandledCudaError;
  }
  return NcclResult::Success;
}

NcclResult add(bool receives, std::byte *memory, size_t bytes, int peer, ncclComm *comm, cudaStream_t stream) {
  if (peer < 0 || peer >= comm->ranks)
    return refuse("a block for rank " + std::to_string(peer) + " of " + std::to_string(comm->ranks));
  if (std::string problem = checkAccess({memory, bytes, peer}, receives); !problem.empty())
    return refuse("an exchange " + std::string(receives ? "writes " : "reads ") + problem);
  groupStart();
  auto &exchanges = pending().exchanges;
  auto found = std::ranges::find(exchanges, comm, &Exchange::comm);
  if (found == exchanges.end())
    found = exchanges.insert(found, {comm, stream, {}, {}});
  if (found->stream != stream)
    return refuse("one group of calls for two streams");
  (receives ? found->receives : found->sends).push_back({memory, bytes, peer});
  return groupEnd();
}

NcclResult send(const void *from, size_t count, NcclType /*type*/, int peer, ncclComm *comm, cudaStream_t stream) {
  record("ncclSend");
  return add(false, static_cast<std::byte *>(const_cast<void *>(from)), count, peer, comm, stream);
}

NcclResult recv(void *to, size_t count, NcclType /*type*/, int peer, ncclComm *comm, cudaStream_t stream) {
  record("ncclRecv");
  return add(true, static_cast<std::byte *>(to), count, peer, comm, stream);
}

NcclResult allGather(const void *from, void *to, size_t count, NcclType type, ncclComm *comm, cudaStream_t stream) {
  record("ncclAllGather");
  NcclResult result = groupStart();
  for (int member = 0; member < comm->ranks; ++member) {
    auto note = [&](NcclResult other) { result = result == NcclResult::Success ? other : result; };
    note(send(from, count, type, member, comm, stream));
    note(recv(static_cast<std::byte *>(to) + static_cast<size_t>(member) * count, count, type, member, comm, stream));
  }
  NcclResult ended = groupEnd();
  return result == NcclResult::Success ? ended : result;
}

} // namespace
} // namespace moe::sim

bool moe::cuda::simulatedNccl(NcclApi &api) {
  api = {getVersion,        getErrorString, getUniqueId, commInitRank, commDestroy, commAbort,
         commGetAsyncError, groupStart,     groupEnd,    send,         recv,        allGather};
  return true;
}
