/* Kernels as code generation writes them for the simulated device: sound ones, and one for each thing that a kernel can
   do wrong. Blocks have 64 threads. */
#include "runtime/abi/SimulatedDevice.h"

#define POINTER(type, i) (*(type **)arguments[i])

static uint32_t global(void) {
  return moe_sim_block() * 64 + moe_sim_thread();
}

/* y += 2 x */
void axpy(void *const *arguments) {
  const float *x = POINTER(const float, 0);
  float *y = POINTER(float, 1);
  y[global()] += 2 * x[global()];
}

/* y = x, each block backwards, through shared memory. */
void reverse(void *const *arguments) {
  float *shared = moe_sim_shared();
  shared[moe_sim_thread()] = POINTER(const float, 0)[global()];
  moe_sim_barrier();
  POINTER(float, 1)[global()] = shared[63 - moe_sim_thread()];
}

/* The same without the barrier. */
void reverse_racing(void *const *arguments) {
  float *shared = moe_sim_shared();
  shared[moe_sim_thread()] = POINTER(const float, 0)[global()];
  POINTER(float, 1)[global()] = shared[63 - moe_sim_thread()];
}

/* The last thread wins, whichever that is. */
void last_wins(void *const *arguments) {
  float *y = POINTER(float, 1);
  y[global()] = POINTER(const float, 0)[global()];
  y[moe_sim_block() * 64] = (float)moe_sim_thread();
}

/* Sums into what it was to overwrite. */
void reads_what_it_writes(void *const *arguments) {
  POINTER(float, 1)[global()] += POINTER(const float, 0)[global()];
}

void leaves_a_hole(void *const *arguments) {
  if (global() != 100)
    POINTER(float, 1)[global()] = POINTER(const float, 0)[global()];
}

/* One element beyond the end. */
void reads_beyond(void *const *arguments) {
  POINTER(float, 1)[global()] = POINTER(const float, 0)[global() + 1];
}
void writes_beyond(void *const *arguments) {
  POINTER(float, 1)[global() + 1] = POINTER(float, 1)[global()] = 1;
}

/* Pages away: 1 MiB before the start. */
void reads_far_away(void *const *arguments) {
  POINTER(float, 1)[global()] = (POINTER(const float, 0) + 1024 * 1024)[global()];
}
/* Farther than guards reach: 64 GiB. */
void reads_by_garbage(void *const *arguments) {
  POINTER(float, 1)[global()] = (POINTER(const float, 0) - ((int64_t)1 << 34))[global()];
}
void writes_its_input(void *const *arguments) {
  POINTER(float, 1)[global()] = 1;
  POINTER(float, 0)[global()] = 2;
}

/* Half of the threads never come. */
void splits_at_a_barrier(void *const *arguments) {
  POINTER(float, 1)[global()] = POINTER(const float, 0)[global()];
  if (moe_sim_thread() < 32)
    moe_sim_barrier();
}
