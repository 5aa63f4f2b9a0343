//===- OnDevice.cpp - The tests of the kernels on a real device ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Takes the place of Simulate.cpp and of GoogleTest's main. All memory that C++ allocates from `main` on is managed
// memory, which host and device share, so that tests are the same in both worlds.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/kernels/Simulate.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

namespace {

/// Before each piece of memory. As long as the alignment of `new`.
struct alignas(16) Header {
  int sizeClass; ///< -1: of malloc
};

/// Managed memory in pieces of powers of two. Freed ones are used again; nothing is given back.
class ManagedMemory {
public:
  explicit ManagedMemory(void *memory) : next(static_cast<std::byte *>(memory)), end(next + kBytes) {}

  Header *take(size_t bytes) {
    const std::lock_guard lock(mutex);
    const int sizeClass = std::bit_width(bytes - 1);
    std::byte *piece = freed[sizeClass];
    if (piece) {
      std::memcpy(static_cast<void *>(&freed[sizeClass]), piece + sizeof(Header), sizeof(piece));
    } else {
      const size_t size = size_t{1} << sizeClass;
      if (size > static_cast<size_t>(end - next))
        throw std::bad_alloc();
      piece = std::exchange(next, next + size);
    }
    return new (piece) Header{sizeClass};
  }

  void put(Header *header) {
    const std::lock_guard lock(mutex);
    auto *piece = reinterpret_cast<std::byte *>(header);
    std::byte *&first = freed[header->sizeClass];
    std::memcpy(piece + sizeof(Header), static_cast<const void *>(&first), sizeof(first));
    first = piece;
  }

  static constexpr size_t kBytes = size_t{2} << 30;

private:
  std::mutex mutex;
  std::byte *next, *end;
  std::byte *freed[64] = {};
};

ManagedMemory *managed = nullptr;
bool inMain = false;

} // namespace

void *operator new(size_t bytes) {
  const size_t all = sizeof(Header) + std::max(bytes, sizeof(Header));
  if (inMain)
    return managed->take(all) + 1;
  void *memory = std::malloc(all);
  if (!memory)
    throw std::bad_alloc();
  return new (memory) Header{-1} + 1;
}

void operator delete(void *memory) noexcept {
  if (!memory)
    return;
  Header *header = static_cast<Header *>(memory) - 1;
  if (header->sizeClass >= 0)
    managed->put(header);
  else
    std::free(header);
}
void operator delete(void *memory, size_t /*bytes*/) noexcept {
  operator delete(memory);
}

void moe::test::detail::beginRun(bool /*descending*/, uint8_t /*garbage*/) {}

void moe::test::wait() {
  const cudaError_t error = cudaDeviceSynchronize();
  EXPECT_EQ(error, cudaSuccess) << cudaGetErrorString(error);
}

int moe::test::launches() {
  return 0; // nobody counts here
}

int main(int count, char **words) {
  testing::InitGoogleTest(&count, words);
  void *memory = nullptr;
  if (const cudaError_t error = cudaMallocManaged(&memory, ManagedMemory::kBytes); error != cudaSuccess) {
    std::fprintf(stderr, "error: no managed memory of a CUDA device: %s\n", cudaGetErrorString(error));
    return 2;
  }
  managed = new ManagedMemory(memory); // for ever: what is allocated now may be deleted after `main`
  inMain = true;
  const int status = RUN_ALL_TESTS();
  inMain = false;
  return status;
}
