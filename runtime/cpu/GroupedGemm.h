//===- GroupedGemm.h - Products of blocks of rows with the weights of their experts -------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Neighbouring blocks of one expert are a run, and a run is one matrix product. Its number of blocks is known only when
// the step runs, so it is cut into powers of two, the largest first, for each of which there is a primitive of the
// library. The cut depends on the table alone, and the pieces of a sum are added up in their order.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_GROUPEDGEMM_H
#define MOEC_RUNTIME_CPU_GROUPEDGEMM_H

#include "runtime/core/Diagnostic.h"
#include "runtime/cpu/Gemm.h"
#include "runtime/cpu/ThreadPool.h"
#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <vector>

namespace moe::cpu {

/// Scratch bytes of the step if its matrices have type `dtype` (F32 or BF16). `threads` as in `plan.target`; call
/// `limitGemmIsa` first.
uint64_t groupedGemmScratchBytes(const plan::GroupedGemm &gemm, plan::DType dtype, int threads);

/// Addresses of the operands, as runtime/plan/plan.proto lists them.
struct GroupedGemmPointers {
  const void *left = nullptr;
  const void *right = nullptr; ///< rhs of a weight gradient; otherwise not used
  const int32_t *blockExpert = nullptr;
  std::vector<void *> weights; ///< one, or one for each expert; written by a weight gradient
  void *result = nullptr;      ///< not used by a weight gradient
  void *scratch = nullptr;     ///< `groupedGemmScratchBytes`, aligned to 64
};

class GroupedGemm {
public:
  /// Creates the primitives. The shape has passed `checkWork`. Errors: a type that the library can not compute.
  static Expected<GroupedGemm> create(const plan::GroupedGemm &gemm, plan::DType dtype, ThreadPool pool,
                                      GroupedGemmPointers pointers);

  /// Computes. The caller holds a `ThreadCount` of the pool's threads. Error: the table names an expert beyond the
  /// last.
  Status run() const;

private:
  /// Blocks [begin, end) of one expert.
  struct Run {
    int64_t begin, end, expert;
  };

  GroupedGemm(const plan::GroupedGemm &gemm, plan::DType dtype, ThreadPool pool, GroupedGemmPointers pointers);
  /// Calls `visit(first block, log2 of the number of blocks)` for the pieces of a run, until one fails.
  template <typename Visit> Status forEachPiece(const Run &run, Visit visit) const;
  Run runAt(int64_t block) const;
  Status multiply(const Run &run) const;
  Status addUp(const Run &run, bool isFirst) const;
  std::byte *weightOf(int64_t expert) const;

  plan::GroupedGemm gemm;
  plan::DType dtype;
  ThreadPool pool;
  GroupedGemmPointers pointers;
  /// Of 1, 2, 4, ... blocks. A weight gradient has those that store a sum, and `adding` ones that add to it.
  std::vector<GemmPrimitive> primitives, adding;
};

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_GROUPEDGEMM_H
