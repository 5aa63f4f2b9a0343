//===- Ranks.cpp - The devices of other ranks ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Ranks.h"

#include "runtime/comm/Agreement.h"
#include "runtime/cuda/Errors.h"
#include "runtime/cuda/Memory.h"
#include "runtime/cuda/Programs.h"
#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <utility>

namespace moe::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

/// The host asks a device without pause for this long, then now and then, and looks after other ranks still less often.
constexpr auto kBusy = std::chrono::microseconds(200);
constexpr auto kNap = std::chrono::microseconds(50);
constexpr auto kLookUp = std::chrono::milliseconds(20);
/// What is sent once to set up connections, to and from each member.
constexpr size_t kGreeting = 16;

constexpr char kConnecting[] = "connecting the devices";

/// The same for two ranks if they have the same device of the same machine.
uint64_t deviceDigest(int device) {
  std::array<char, 256> text{};
  static_cast<void>(::gethostname(text.data(), 128));
  static_cast<void>(cudaDeviceGetPCIBusId(text.data() + 128, 64, device));
  return std::hash<std::string_view>()({text.data(), text.size()});
}

std::vector<int> others(const Group &group) {
  std::vector<int> result = group.members();
  result.erase(result.begin() + group.index());
  return result;
}

} // namespace

//===----------------------------------------------------------------------------------------------------------------===//
// DeviceGroup
//===----------------------------------------------------------------------------------------------------------------===//

DeviceGroup::DeviceGroup(const NcclApi &api, std::unique_ptr<Group> members) : api(api), group(std::move(members)) {}

DeviceGroup::~DeviceGroup() {
  if (comm)
    static_cast<void>(api.commDestroy(comm));
}

Status DeviceGroup::check(NcclResult result, const char *action) const {
  if (result == NcclResult::Success)
    return {};
  return error(std::string("cannot ") + action, {}, std::string("NCCL says: ") + api.getErrorString(result),
               "NCCL_DEBUG=WARN makes it say more");
}

Expected<NcclId> DeviceGroup::agreeOnId() {
  NcclId id = {};
  Status made;
  if (index() == 0)
    made = check(api.getUniqueId(&id), "begin to connect devices");
  const auto count = static_cast<size_t>(size());
  std::vector<SendBlock> sends(count);
  std::vector<ReceiveBlock> receives(count);
  if (index() == 0)
    std::ranges::fill(sends, std::as_bytes(std::span(id.bytes)));
  receives.front() = std::as_writable_bytes(std::span(id.bytes));
  if (Status sent = group->exchange(sends, receives, kConnecting); !sent)
    return tl::unexpected(std::move(sent.error()));
  if (!made)
    return tl::unexpected(std::move(made.error()));
  return id;
}

Status DeviceGroup::connect(const NcclId &id) {
  const auto count = static_cast<size_t>(size());
  auto memory = allocateDevice(2 * count * kGreeting);
  auto stream = createStream();
  if (!memory || !stream)
    return tl::unexpected(std::move(memory ? stream.error() : memory.error()));
  // The memory is cleared on a stream of its own.
  if (Status status = cuda::check(cudaDeviceSynchronize(), "clear device memory"); !status)
    return status;
  if (Status status = check(api.commInitRank(&comm, size(), id, index()), "connect the devices"); !status)
    return status;
  std::vector<SentBlock> sends;
  std::vector<ReceivedBlock> receives;
  for (size_t i = 0; i < count; ++i) {
    sends.push_back({memory->get() + i * kGreeting, kGreeting});
    receives.push_back({memory->get() + (count + i) * kGreeting, kGreeting});
  }
  if (Status status = exchange(sends, receives, stream->get()); !status)
    return status;
  if (Status status = allGather(memory->get(), memory->get() + count * kGreeting, kGreeting, stream->get()); !status)
    return status;
  return cuda::check(cudaStreamSynchronize(stream->get()), "connect the devices");
}

Status DeviceGroup::exchange(const std::vector<SentBlock> &sends, const std::vector<ReceivedBlock> &receives,
                             cudaStream_t stream) {
  NcclResult result = api.groupStart();
  auto note = [&](NcclResult next) { result = result == NcclResult::Success ? next : result; };
  for (int member = 0; member < size(); ++member) {
    const SentBlock &sent = sends[static_cast<size_t>(member)];
    const ReceivedBlock &received = receives[static_cast<size_t>(member)];
    if (sent.memory == received.memory && member == index())
      continue;
    if (sent.bytes > 0)
      note(api.send(sent.memory, sent.bytes, NcclType::Int8, member, comm, stream));
    if (received.bytes > 0)
      note(api.recv(received.memory, received.bytes, NcclType::Int8, member, comm, stream));
  }
  note(api.groupEnd());
  return check(result, "exchange blocks between devices");
}

Status DeviceGroup::allGather(const std::byte *from, std::byte *to, size_t bytes, cudaStream_t stream) {
  return check(api.allGather(from, to, bytes, NcclType::Int8, comm, stream), "gather blocks of all devices");
}

Status DeviceGroup::state() const {
  NcclResult found = NcclResult::Success;
  if (!comm)
    return {};
  NcclResult asked = api.commGetAsyncError(comm, &found);
  return check(asked == NcclResult::Success ? found : asked, "reach the devices of other ranks");
}

void DeviceGroup::abort() {
  if (comm)
    static_cast<void>(api.commAbort(std::exchange(comm, nullptr)));
}

//===----------------------------------------------------------------------------------------------------------------===//
// DeviceRanks
//===----------------------------------------------------------------------------------------------------------------===//

Status DeviceRanks::checkDevices(Communicator &communicator, int device) {
  auto devices = gatherNumbers(*communicator.all(), deviceDigest(device), kConnecting);
  if (!devices)
    return tl::unexpected(std::move(devices.error()));
  // All ranks find the same, and one of them says it.
  for (size_t i = 0; i < devices->size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if ((*devices)[i] == (*devices)[j])
        return error("two ranks use the same device", "ranks " + std::to_string(j) + " and " + std::to_string(i),
                     "a machine runs as many ranks as CUDA_VISIBLE_DEVICES leaves it devices",
                     "start fewer ranks on each machine");
  return {};
}

Expected<std::unique_ptr<DeviceRanks>> DeviceRanks::connect(Communicator &communicator, const plan::Plan &plan,
                                                            int device, Status own) {
  std::unique_ptr<Group> all = communicator.all();
  auto api = loadNccl();
  if (own && !api)
    own = tl::unexpected(api.error());
  if (Agreed ready = moe::agree(*all, own, kConnecting); !ready.status)
    return tl::unexpected(std::move(ready.status.error()));
  std::unique_ptr<DeviceRanks> ranks(new DeviceRanks(communicator));
  for (const plan::Program &program : plan.programs())
    for (const plan::Step &step : program.steps()) {
      const auto &axes = step.collective().axes();
      if (!step.has_collective() || groupSize(plan, axes) == 1)
        continue;
      std::vector<int> members = groupMembers(plan, axes, communicator.rank());
      std::shared_ptr<DeviceGroup> &group = ranks->groups[members];
      if (!group)
        group = std::make_shared<DeviceGroup>(**api, communicator.group(members));
      ranks->byAxes[{axes.begin(), axes.end()}] = group.get();
    }
  if (Status status = ranks->connectGroups(device); !status)
    return tl::unexpected(std::move(status.error()));
  return ranks;
}

Status DeviceRanks::agree(const Status &own, uint64_t choices) {
  std::unique_ptr<Group> all = communicator.all();
  if (Agreed ready = moe::agree(*all, own, kConnecting); !ready.status)
    return ready.status;
  auto chosen = gatherNumbers(*all, choices, kConnecting);
  if (!chosen)
    return tl::unexpected(std::move(chosen.error()));
  for (size_t i = 0; i < chosen->size(); ++i)
    if ((*chosen)[i] != chosen->front())
      return error("two ranks compute products in different ways", "ranks 0 and " + std::to_string(i),
                   "cuBLASLt chose other algorithms, and copies of one parameter would drift apart",
                   "use devices of one model and one version of cuBLASLt, and checkpoints in a folder that all share");
  return {};
}

Status DeviceRanks::connectGroups(int device) {
  std::vector<std::pair<std::shared_ptr<DeviceGroup>, NcclId>> open;
  for (auto &[axes, group] : byAxes) {
    if (std::ranges::any_of(open, [&](const auto &entry) { return entry.first.get() == group; }))
      continue;
    auto id = group->agreeOnId();
    if (!id)
      return tl::unexpected(std::move(id.error()));
    open.emplace_back(groups.at(group->members().members()), *id);
  }
  // NCCL waits without end for ranks that never come, hence another thread does, which may stay behind.
  std::packaged_task<Status()> task([open, device]() -> Status {
    if (Status status = check(cudaSetDevice(device), "use the CUDA device"); !status)
      return status;
    for (const auto &[group, id] : open)
      if (Status status = group->connect(id); !status)
        return status;
    return {};
  });
  std::future<Status> done = task.get_future();
  std::thread thread(std::move(task));
  const Clock::time_point start = Clock::now();
  while (done.wait_for(kLookUp) != std::future_status::ready) {
    std::optional<Diagnostic> problem = communicator.ended(kConnecting);
    const double deadline = communicator.options().deadline;
    if (!problem && Clock::now() - start > Seconds(deadline))
      problem = communicator.deviceWaitedInVain(others(*communicator.all()), deadline, kConnecting);
    if (problem) {
      thread.detach();
      return tl::unexpected(std::move(*problem));
    }
  }
  thread.join();
  return done.get();
}

DeviceGroup *DeviceRanks::find(const google::protobuf::RepeatedField<uint32_t> &axes) const {
  auto found = byAxes.find({axes.begin(), axes.end()});
  return found == byAxes.end() ? nullptr : found->second;
}

Status DeviceRanks::look(const char *what) const {
  if (auto problem = communicator.ended(what))
    return tl::unexpected(std::move(*problem));
  for (const auto &[members, group] : groups)
    if (Status status = group->state(); !status) {
      status.error().where = what;
      return status;
    }
  return {};
}

Status DeviceRanks::wait(cudaStream_t stream, const std::function<Place()> &place) {
  const CommOptions &options = communicator.options();
  const Clock::time_point start = Clock::now();
  Clock::time_point progressed = start, looked = start;
  InterruptedWait interrupted(communicator);
  int64_t progress = -1;
  Status status;
  while (status) {
    if (cudaError_t code = cudaStreamQuery(stream); code != cudaErrorNotReady) {
      status = check(code, "run the plan's programs on the device");
      if (status)
        return {};
      break;
    }
    const Clock::time_point now = Clock::now();
    if (now - start < kBusy)
      continue;
    std::this_thread::sleep_for(kNap);
    if (now - looked < kLookUp)
      continue;
    looked = now;
    Place at = place();
    if (at.progress != std::exchange(progress, at.progress))
      progressed = now;
    const std::vector<int> peers = at.group ? others(at.group->members()) : others(*communicator.all());
    status = look(at.text.c_str());
    if (status && now - progressed > Seconds(options.deadline))
      status = tl::unexpected(communicator.deviceWaitedInVain(peers, options.deadline, at.text.c_str()));
    interrupted.look([&]() -> const std::vector<int> & { return peers; }, at.text.c_str());
  }
  for (auto &[members, group] : groups)
    group->abort();
  return status;
}

} // namespace moe::cuda
