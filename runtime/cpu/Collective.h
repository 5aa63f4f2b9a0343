//===- Collective.h - Collectives on the memory of the host -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Built on the one primitive of a communicator, so that results do not depend on which one it is. A reduction brings
// the summands of a rank's part to it and adds them up in the order of the group, which all ranks and runs share.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_COLLECTIVE_H
#define MOEC_RUNTIME_CPU_COLLECTIVE_H

#include "runtime/comm/Communicator.h"
#include "runtime/cpu/ThreadPool.h"
#include "runtime/plan/plan.pb.h"

#include <memory>

namespace moe::cpu {

/// Memory of a collective; sizes as `plan::Collective` and `collectiveScratchBytes` say.
struct CollectivePointers {
  const std::byte *input = nullptr;
  std::byte *output = nullptr; ///< `input` itself if in place
  std::byte *scratch = nullptr;
};

/// target[i] = the sum (or maximum) over p of parts[p * stride + i], i < count, p = 0, 1, .. ranks-1 in order. Floating
/// point is added up in float32 and rounded once, integers wrap around, a NaN is greater than all numbers. `target` may
/// be a part. Strides and counts in elements; no dtype but F32, BF16, I32, I64 and, for the maximum, BOOL.
void reduceParts(plan::DType dtype, plan::Collective::Reduction reduction, const std::byte *parts, int64_t stride,
                 int64_t ranks, int64_t count, std::byte *target, const ThreadPool &pool);

/// One collective of a plan. Running it allocates nothing.
class Collective {
public:
  /// `work` has passed `checkPlanStructure` for this dtype and a group of this size; `place` is where it stands, for
  /// errors. Threads of the pool move and add up.
  Collective(const plan::Collective &work, plan::DType dtype, const CollectivePointers &pointers,
             std::unique_ptr<Group> group, ThreadPool pool, std::string place);

  /// Errors: those of Group::exchange.
  Status run();

private:
  Status allReduce();
  Status allGather();
  Status reduceScatter();
  Status allToAll();

  int64_t ranks() const { return group->size(); }
  /// Sends and receives blocks that follow one another; a stride of 0 sends the same block to all.
  Status exchange(const std::byte *from, size_t sendStride, size_t sendBytes, std::byte *to);
  /// blocks[r][o] = tensor[o][r] for r < ranks, o < parts.outer, rows of parts.inner elements; and back.
  void pack(const plan::Parts &parts, const std::byte *tensor, std::byte *blocks) const;
  void unpack(const plan::Parts &parts, const std::byte *blocks, std::byte *tensor) const;

  plan::Collective work;
  plan::DType dtype;
  size_t width; ///< bytes of an element
  CollectivePointers memory;
  std::unique_ptr<Group> group;
  ThreadPool pool;
  std::string place;
  std::vector<SendBlock> sends;
  std::vector<ReceiveBlock> receives;
};

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_COLLECTIVE_H
