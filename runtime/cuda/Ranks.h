//===- Ranks.h - The devices of other ranks -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Devices send each other blocks through NCCL, on streams, so that collectives are part of a graph like kernels. Whose
// device is whose neighbour the ranks tell each other through their communicator, which also says when one has given
// up: what waits on a device is looked after from the host.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_RANKS_H
#define MOEC_RUNTIME_CUDA_RANKS_H

#include "runtime/comm/Communicator.h"
#include "runtime/cuda/NcclApi.h"
#include "runtime/plan/plan.pb.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace moe::cuda {

/// Device memory that goes to or comes from one member of a group.
struct SentBlock {
  const std::byte *memory = nullptr;
  size_t bytes = 0;
};
struct ReceivedBlock {
  std::byte *memory = nullptr;
  size_t bytes = 0;
};

/// Some ranks in an order, whose devices are connected.
class DeviceGroup {
public:
  DeviceGroup(const NcclApi &api, std::unique_ptr<Group> members);
  ~DeviceGroup();
  DeviceGroup(const DeviceGroup &) = delete;
  DeviceGroup &operator=(const DeviceGroup &) = delete;

  const Group &members() const { return *group; }
  int size() const { return group->size(); }
  int index() const { return group->index(); }

  /// Enqueues that `sends[i]` goes to member i and `receives[i]` comes from it; the same memory for this rank's own two
  /// blocks leaves it. All members enqueue the same in the same order.
  Status exchange(const std::vector<SentBlock> &sends, const std::vector<ReceivedBlock> &receives, cudaStream_t stream);
  /// Enqueues that to[i * bytes, ..) becomes the `bytes` at `from` of member i.
  Status allGather(const std::byte *from, std::byte *to, size_t bytes, cudaStream_t stream);

  /// The first member tells the others how to find each other.
  Expected<NcclId> agreeOnId();
  /// Connects, and sends something once, so that nothing is left to be set up later. Waits for the other members
  /// without end. The device is that of the calling thread.
  Status connect(const NcclId &id);

  /// What NCCL has found out since.
  Status state() const;
  /// Ends what its devices wait for. The group is of no more use.
  void abort();

private:
  Status check(NcclResult result, const char *action) const;

  const NcclApi &api;
  std::unique_ptr<Group> group;
  ncclComm *comm = nullptr;
};

/// All groups of a plan, for one rank.
class DeviceRanks {
public:
  /// Error, on all ranks: two have the same device. `device` is this rank's, by number.
  static Status checkDevices(Communicator &communicator, int device);

  /// `own`: whether this rank is ready so far. Errors, on all ranks: one is not ready, there is no NCCL, it does not
  /// work, a deadline is over.
  static Expected<std::unique_ptr<DeviceRanks>> connect(Communicator &communicator, const plan::Plan &plan, int device,
                                                        Status own);

  /// The same on all ranks: the first error of one, or that they chose different algorithms for their products
  /// (`choices` is a digest of them), so that copies of parameters would drift apart.
  Status agree(const Status &own, uint64_t choices);
  bool isFirst() const { return communicator.rank() == 0; }

  /// The group that differs on these axes of the plan's mesh; null if it has one member.
  DeviceGroup *find(const google::protobuf::RepeatedField<uint32_t> &axes) const;

  /// Where a device is; read while it works.
  struct Place {
    int64_t progress = 0;               ///< another number whenever something has been done
    const DeviceGroup *group = nullptr; ///< what it sends within, if that is known
    std::string text;                   ///< for people
  };
  /// Waits until all that the stream has been given is done, looking after the others meanwhile. Errors: of the work, a
  /// deadline (begun anew with each progress), another rank has given up. All groups are then aborted.
  Status wait(cudaStream_t stream, const std::function<Place()> &place);

private:
  explicit DeviceRanks(Communicator &communicator) : communicator(communicator) {}

  Status connectGroups(int device);
  Status look(const char *what) const;

  Communicator &communicator;
  std::map<std::vector<int>, std::shared_ptr<DeviceGroup>> groups; ///< by members
  std::map<std::vector<uint32_t>, DeviceGroup *> byAxes;
};

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_RANKS_H
