//===- kernels.c - A model that a test can follow
//------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/abi/KernelAbi.h"

/* weight[i] = weight[i] / 2 + id[i]: depends on every batch so far, and on their order. */
void mix_in(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  const int64_t *ids = args->pointers[0];
  float *weight = args->pointers[1];
  for (int64_t i = begin; i < end; ++i)
    weight[i] = weight[i] * 0.5f + (float)ids[i];
}

/* ++num_updates; loss = weight[0] */
void count(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  const float *weight = args->pointers[0];
  int64_t *updates = args->pointers[1];
  float *loss = args->pointers[2];
  ++updates[0];
  loss[0] = weight[0];
}

/* Never ends. */
void hang(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  volatile int forever = 1;
  while (forever) {
  }
}
