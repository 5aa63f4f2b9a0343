//===- ThreadPool.cpp - The OpenMP pool shared with oneDNN --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/ThreadPool.h"

// GNU libgomp's ABI; <omp.h> of the compiler in use would belong to another runtime.
extern "C" {
void GOMP_parallel(void (*fn)(void *), void *data, unsigned threads, unsigned flags);
int omp_get_thread_num();
int omp_get_num_threads();
int omp_get_max_threads();
void omp_set_num_threads(int threads);
void omp_set_dynamic(int dynamic);
}

namespace moe::cpu {

void ThreadPool::fork(void (*fn)(void *, int), void *data, int parts) {
  struct Team {
    void (*fn)(void *, int);
    void *data;
    int parts;
  } team = {fn, data, parts};
  GOMP_parallel(
      [](void *argument) {
        const Team &team = *static_cast<const Team *>(argument);
        // OpenMP may give fewer threads than asked for (OMP_THREAD_LIMIT): the parts stay what they are.
        for (int part = omp_get_thread_num(); part < team.parts; part += omp_get_num_threads())
          team.fn(team.data, part);
      },
      &team, static_cast<unsigned>(parts), 0);
}

ThreadCount::ThreadCount(int threads) : previous(omp_get_max_threads()) {
  omp_set_dynamic(0); // OMP_DYNAMIC would let the load of the machine change the bits
  omp_set_num_threads(threads);
}

ThreadCount::~ThreadCount() {
  omp_set_num_threads(previous);
}

} // namespace moe::cpu
