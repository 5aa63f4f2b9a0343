//===- ScatterAdd.h - Rows added to rows of a table ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// table[index[i], :] += rows[i, :] in order of i. The width is divided among threads, each of which owns its columns,
// so that the order of summation, and every bit, is the same for any division.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_KERNELS_SCATTERADD_H
#define MOEC_RUNTIME_CPU_KERNELS_SCATTERADD_H

#include <cstdint>

namespace moe::cpu {

/// Columns per cache line: divide the width at multiples of this, or threads share lines.
inline constexpr int64_t scatterAddGrain = 16;

/// Sizes; the fields of message `ScatterAdd` in runtime/plan/plan.proto.
struct ScatterAddShape {
  int64_t rows = 0;        ///< N
  int64_t width = 0;       ///< M
  int64_t tableRows = 0;   ///< V
  bool accumulate = false; ///< false: the table is zeroed first
};

/// Adds columns [begin, end) of `rows` [N, M] to `table` [V, M]. Negative indices are skipped. Returns how many indices
/// are V or more: these are skipped too, and the caller owes its user an error if there are any.
int64_t scatterAdd(const ScatterAddShape &shape, const int32_t *index, const float *rows, float *table, int64_t begin,
                   int64_t end);
int64_t scatterAdd(const ScatterAddShape &shape, const int64_t *index, const float *rows, float *table, int64_t begin,
                   int64_t end);

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_KERNELS_SCATTERADD_H
