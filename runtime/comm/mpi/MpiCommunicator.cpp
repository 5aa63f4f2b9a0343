//===- MpiCommunicator.cpp - Ranks that are processes under an MPI launcher ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Messages between two ranks come in the order in which they were sent, and all ranks make the same exchanges in the
// same order, so that tags only serve to notice when that is not so: an exchange that meets another one waits until its
// deadline instead of mixing up tensors.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/mpi/MpiLibrary.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mpi.h>
#include <sched.h>
#include <thread>

namespace moe {
namespace {

using Clock = std::chrono::steady_clock;

/// MPI counts in `int`.
constexpr size_t kLongestMessage = size_t{1} << 30;
/// Tags of any MPI go up to here.
constexpr int kTags = 32767;
/// A wait first gives its core to others between two looks, then sleeps between them: ranks may share cores.
constexpr auto kBusy = std::chrono::milliseconds(2);
constexpr auto kNap = std::chrono::microseconds(100);

std::string mpiText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  return MPI_Error_string(code, text, &length) == MPI_SUCCESS ? std::string(text, static_cast<size_t>(length))
                                                              : "error " + std::to_string(code);
}

class MpiGroup final : public Group {
public:
  MpiGroup(std::vector<int> members, Communicator &communicator, const CommOptions &options)
      : Group(std::move(members), communicator.rank()), communicator(communicator), options(options) {
    requests.reserve(2 * ranks.size());
    peers.reserve(2 * ranks.size());
  }

  Status exchange(std::span<const SendBlock> sends, std::span<const ReceiveBlock> receives, const char *what) override {
    auto self = static_cast<size_t>(own);
    requests.clear();
    peers.clear();
    tag = (tag + 1) % kTags;
    // All receives come before all sends: what arrives early then finds its place without another copy.
    for (size_t i = 1; i < ranks.size(); ++i)
      if (Status status = start<true>((self + ranks.size() - i) % ranks.size(), receives, what); !status)
        return status;
    for (size_t i = 1; i < ranks.size(); ++i)
      if (Status status = start<false>((self + i) % ranks.size(), sends, what); !status)
        return status;
    if (sends[self].size() != receives[self].size())
      return error("two ranks do not agree on how much one sends to the other", what, {}, {}, ExitCode::Internal);
    if (sends[self].data() != receives[self].data() && !sends[self].empty())
      std::memcpy(receives[self].data(), sends[self].data(), sends[self].size());
    return finish(what);
  }

private:
  /// Starts the messages of one block. An empty block is a message too: it tells that the other one is there.
  template <bool receive, typename Blocks> Status start(size_t peer, const Blocks &blocks, const char *what) {
    size_t size = blocks[peer].size(), done = 0;
    do {
      auto count = static_cast<int>(std::min(size - done, kLongestMessage));
      MPI_Request &request = requests.emplace_back(MPI_REQUEST_NULL);
      peers.push_back(ranks[peer]);
      int code = MPI_SUCCESS;
      if constexpr (receive)
        code = MPI_Irecv(blocks[peer].data() + done, count, MPI_BYTE, ranks[peer], tag, MPI_COMM_WORLD, &request);
      else
        code = MPI_Isend(blocks[peer].data() + done, count, MPI_BYTE, ranks[peer], tag, MPI_COMM_WORLD, &request);
      if (code != MPI_SUCCESS)
        return failed(code, what);
      done += static_cast<size_t>(count);
    } while (done < size);
    return {};
  }

  Status failed(int code, const char *what) const {
    return tl::unexpected(communicator.otherGaveUp(ranks.front(), mpiText(code), what));
  }

  /// Ranks with messages that are not through.
  std::vector<int> missing() {
    std::vector<int> result;
    for (size_t i = 0; i < requests.size(); ++i) {
      int done = 0;
      if (requests[i] == MPI_REQUEST_NULL ||
          (MPI_Request_get_status(requests[i], &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done))
        continue;
      if (std::find(result.begin(), result.end(), peers[i]) == result.end())
        result.push_back(peers[i]);
    }
    std::sort(result.begin(), result.end());
    return result;
  }

  Status finish(const char *what) {
    const Clock::time_point start = Clock::now();
    InterruptedWait interrupted(communicator);
    while (true) {
      int done = 0;
      int code = MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
      if (code != MPI_SUCCESS)
        return failed(code, what);
      if (done)
        return {};
      const Clock::time_point now = Clock::now();
      if (now - start < kBusy) {
        ::sched_yield();
        continue;
      }
      if (now - start > std::chrono::duration<double>(options.deadline))
        return tl::unexpected(communicator.waitedInVain(missing(), options.deadline, what));
      interrupted.look([&] { return missing(); }, what);
      std::this_thread::sleep_for(kNap);
    }
  }

  Communicator &communicator;
  const CommOptions &options;
  std::vector<MPI_Request> requests; ///< of the exchange that runs
  std::vector<int> peers;            ///< the rank at the other end of each
  int tag = 0;
};

class MpiCommunicator final : public Communicator {
public:
  MpiCommunicator(int rank, int size, int local, CommOptions options)
      : Communicator(rank, size), local(local), settings(std::move(options)) {}
  ~MpiCommunicator() override { MPI_Finalize(); }

  int ranksOfProcess() const override { return 1; }
  int localRank() const override { return local; }
  const CommOptions &options() const override { return settings; }
  /// Those who give up end the other processes.
  std::optional<Diagnostic> ended(const char * /*what*/) const override { return {}; }
  std::unique_ptr<Group> group(std::vector<int> members) override {
    return std::make_unique<MpiGroup>(std::move(members), *this, settings);
  }
  void giveUp(const Diagnostic &why) override { MPI_Abort(MPI_COMM_WORLD, static_cast<int>(why.code)); }

private:
  int local;
  CommOptions settings;
};

/// Number of this process among those of its machine.
int localRank(int &local) {
  MPI_Comm machine = MPI_COMM_NULL;
  int code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  if (code == MPI_SUCCESS)
    code = MPI_Comm_rank(machine, &local);
  if (machine != MPI_COMM_NULL)
    MPI_Comm_free(&machine);
  return code;
}

} // namespace
} // namespace moe

extern "C" __attribute__((visibility("default"))) moe::Communicator *MOERUN_CREATE_MPI(const moe::CommOptions &options,
                                                                                       moe::Diagnostic &problem) {
  int provided = 0, rank = 0, size = 0, local = 0;
  // Its own threads, if it has any, are the only ones beside ours that call into MPI.
  int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  if (code == MPI_SUCCESS)
    code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (code == MPI_SUCCESS)
    code = MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (code == MPI_SUCCESS)
    code = MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (code == MPI_SUCCESS)
    code = moe::localRank(local);
  if (code != MPI_SUCCESS) {
    problem = {"MPI does not start", {}, moe::mpiText(code), "see what the launcher says"};
    return nullptr;
  }
  return new moe::MpiCommunicator(rank, size, local, options);
}
