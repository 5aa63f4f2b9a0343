//===- ThreadPool.h - The OpenMP pool shared with oneDNN ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// oneDNN as Debian builds it runs on GNU OpenMP. Our own parallel steps enter the same pool through libgomp's stable
// entry points instead of through `-fopenmp`, which under clang would bring a second runtime with threads of its own.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_THREADPOOL_H
#define MOEC_RUNTIME_CPU_THREADPOOL_H

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace moe::cpu {

class ThreadPool {
public:
  explicit ThreadPool(int threads) : count(std::max(1, threads)) {}

  int threads() const { return count; }

  /// Cuts [0, extent) into at most `threads()` contiguous parts of at least `grain` and calls `body(begin, end, part)`
  /// for each, `part` in [0, threads()). The cut depends on the three numbers only. One part runs on the caller. `body`
  /// must not throw.
  template <typename Body> void parallelFor(int64_t extent, int64_t grain, Body &&body) const {
    if (extent <= 0)
      return;
    int64_t parts = std::clamp<int64_t>(extent / std::max<int64_t>(1, grain), 1, count);
    if (parts == 1)
      return body(int64_t{0}, extent, 0);
    using BodyType = std::remove_reference_t<Body>;
    struct Work {
      BodyType *body;
      int64_t extent;
      int64_t parts;
    } work = {&body, extent, parts};
    fork(
        [](void *data, int part) {
          const Work &work = *static_cast<const Work *>(data);
          // The first `rest` parts are one longer: no product that could overflow.
          int64_t size = work.extent / work.parts, rest = work.extent % work.parts;
          int64_t begin = part * size + std::min<int64_t>(part, rest);
          (*work.body)(begin, begin + size + (part < rest ? 1 : 0), part);
        },
        &work, static_cast<int>(parts));
  }

private:
  int count;

  /// Calls `fn(data, part)` for each part in [0, parts), concurrently; returns when all are done.
  static void fork(void (*fn)(void *, int), void *data, int parts);
};

/// While it lives, OpenMP regions that the calling thread opens (oneDNN's among them) use `threads` threads.
class ThreadCount {
public:
  explicit ThreadCount(int threads);
  ~ThreadCount();
  ThreadCount(const ThreadCount &) = delete;
  ThreadCount &operator=(const ThreadCount &) = delete;

private:
  int previous;
};

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_THREADPOOL_H
