//===- kernels.c - Kernels as a plan carries them -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/abi/KernelAbi.h"

/* y[i] = x[i] + numbers[0] */
void add_size(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  const float *x = args->pointers[0];
  float *y = args->pointers[1];
  for (int64_t i = begin; i < end; ++i)
    y[i] = x[i] + (float)args->numbers[0];
}

/* y[i] = number of the part that computed i, told by where it began; the extent is numbers[0] */
void record_begin(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  int64_t *y = args->pointers[0];
  for (int64_t i = begin; i < end; ++i)
    y[i] = begin;
}

/* y[0] = coordinate on mesh axis 0 */
void axis(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  int64_t *y = args->pointers[0];
  y[0] = args->axis_index[0];
}

/* Writes numbers[0] bytes behind the beginning of its operand. */
void overrun(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  volatile char *y = args->pointers[0];
  y[args->numbers[0]] = 1;
}
