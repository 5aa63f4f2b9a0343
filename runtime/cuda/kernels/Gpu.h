//===- Gpu.h - What kernels may use, on a device and on the simulated one -----------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A kernel is written once:
//
//   MOE_KERNEL(256) void scale(Scale arguments) { ... threadIndex(), blockIndex(), barrier() ... }
//   cudaError_t scale(const Scale &arguments, cudaStream_t stream) {
//     return launch<scaleKernel>({.blocks = n, .threads = 256}, stream, arguments);
//   }
//
// MOE_KERNEL_SHARING(threads, blocks) lets at least so many blocks share a multiprocessor's registers; 0 is MOE_KERNEL.
//
// nvcc (-x cu) makes a CUDA kernel of it, the host compiler a function that fibers run, one per thread
// (test/gpu/sim/Fibers.h). Grids and blocks have one dimension. All threads of a block meet each barrier, all lanes of
// a warp each warp function; no thread leaves early. Sizes of blocks are constants of the kernel: a multiple of 32.
//
// MOE_UNROLL before a loop of constant length unrolls it on a device: what it indexes can then lie in registers.
// MOE_NO_UNROLL keeps one from needing too many.
// Arithmetic is the same in both worlds but for the functions of <math.h>, since contraction to fused multiply-adds is
// off; where they are wanted they are written `multiplyAdd`, which rounds once on a device, twice on the simulated one.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_GPU_H
#define MOEC_RUNTIME_CUDA_KERNELS_GPU_H

#include <cuda_runtime.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#ifdef __CUDACC__
#define MOE_KERNEL(threads) __global__ __launch_bounds__(threads)
#define MOE_KERNEL_SHARING(threads, blocks) __global__ __launch_bounds__(threads, blocks)
#define MOE_DEVICE __device__ __forceinline__
#define MOE_UNROLL _Pragma("unroll")
#define MOE_NO_UNROLL _Pragma("unroll 1")
#define MOE_BOTH __host__ __device__ __forceinline__
#else
#include "runtime/abi/SimulatedDevice.h"

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#define MOE_KERNEL(threads)
#define MOE_KERNEL_SHARING(threads, blocks)
#define MOE_DEVICE inline
#define MOE_UNROLL
#define MOE_NO_UNROLL
#define MOE_BOTH inline
#endif

namespace moe::gpu {

inline constexpr uint32_t warpSize = 32;

//===--------------------------------------------------------------------------------------------------------------===//
// Inside a kernel
//===--------------------------------------------------------------------------------------------------------------===//

MOE_DEVICE uint32_t laneIndex();
MOE_DEVICE uint32_t warpIndex();

#ifdef __CUDACC__

MOE_DEVICE uint32_t threadIndex() {
  return threadIdx.x;
}
MOE_DEVICE uint32_t blockIndex() {
  return blockIdx.x;
}

/// All threads of the block meet; what they wrote is seen by all of them.
MOE_DEVICE void barrier() {
  __syncthreads();
}
/// The same for the lanes of a warp.
MOE_DEVICE void warpBarrier() {
  __syncwarp();
}

/// The block's dynamic shared memory, aligned to 16 bytes. What it holds at first is undefined.
template <typename T> MOE_DEVICE T *sharedMemory() {
  extern __shared__ uint4 moeSharedMemory[];
  return reinterpret_cast<T *>(moeSharedMemory);
}

/// The value of lane (own lane ^ mask), or of `lane`. T: 4 or 8 bytes.
template <typename T> MOE_DEVICE T warpShuffleXor(T value, uint32_t mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, static_cast<int>(mask));
}
template <typename T> MOE_DEVICE T warpShuffle(T value, uint32_t lane) {
  return __shfl_sync(0xFFFFFFFFu, value, static_cast<int>(lane));
}
/// The lanes that have the same value, a bit for each.
MOE_DEVICE uint32_t warpMatch(uint32_t value) {
  return __match_any_sync(0xFFFFFFFFu, value);
}
/// Bit l of the result is the predicate of lane l.
MOE_DEVICE uint32_t warpBallot(bool predicate) {
  return __ballot_sync(0xFFFFFFFFu, predicate);
}

/// Adds to a word of shared or global memory and returns what it held. Integers only: sums must not depend on order.
MOE_DEVICE int32_t atomicAdd(int32_t *address, int32_t value) {
  return ::atomicAdd(address, value);
}

/// Writes a word and returns what it held.
MOE_DEVICE int32_t atomicExchange(int32_t *address, int32_t value) {
  return ::atomicExch(address, value);
}

MOE_DEVICE int32_t countBits(uint32_t bits) {
  return __popc(bits);
}
/// Number of the lowest bit that is set; `bits` is not 0.
MOE_DEVICE uint32_t lowestBit(uint32_t bits) {
  return static_cast<uint32_t>(__ffs(static_cast<int>(bits)) - 1);
}
MOE_DEVICE float multiplyAdd(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
MOE_DEVICE uint32_t bitsOf(float value) {
  return __float_as_uint(value);
}
MOE_DEVICE float floatOf(uint32_t bits) {
  return __uint_as_float(bits);
}

#else

MOE_DEVICE uint32_t threadIndex() {
  return moe_sim_thread();
}
MOE_DEVICE uint32_t blockIndex() {
  return moe_sim_block();
}
MOE_DEVICE void barrier() {
  moe_sim_barrier();
}
MOE_DEVICE void warpBarrier() {
  moe_sim_exchange(nullptr, 0);
}
template <typename T> MOE_DEVICE T *sharedMemory() {
  return static_cast<T *>(moe_sim_shared());
}
template <typename T> MOE_DEVICE T warpShuffle(T value, uint32_t lane) {
  const unsigned char *all = moe_sim_exchange(&value, sizeof(T));
  std::memcpy(&value, all + lane % warpSize * MOE_SIM_EXCHANGE_BYTES, sizeof(T));
  return value;
}
template <typename T> MOE_DEVICE T warpShuffleXor(T value, uint32_t mask) {
  return warpShuffle(value, laneIndex() ^ mask);
}
MOE_DEVICE uint32_t warpMatch(uint32_t value) {
  const unsigned char *all = moe_sim_exchange(&value, sizeof(value));
  uint32_t bits = 0;
  for (uint32_t lane = 0; lane < warpSize; ++lane)
    bits |= uint32_t{std::memcmp(all + lane * MOE_SIM_EXCHANGE_BYTES, &value, sizeof(value)) == 0} << lane;
  return bits;
}
MOE_DEVICE uint32_t warpBallot(bool predicate) {
  const unsigned char *all = moe_sim_exchange(&predicate, sizeof(predicate));
  uint32_t bits = 0;
  for (uint32_t lane = 0; lane < warpSize; ++lane)
    bits |= uint32_t{all[lane * MOE_SIM_EXCHANGE_BYTES]} << lane;
  return bits;
}
MOE_DEVICE int32_t atomicAdd(int32_t *address, int32_t value) {
  return std::exchange(*address, *address + value);
}
MOE_DEVICE int32_t atomicExchange(int32_t *address, int32_t value) {
  return std::exchange(*address, value);
}
MOE_DEVICE int32_t countBits(uint32_t bits) {
  return std::popcount(bits);
}
MOE_DEVICE uint32_t lowestBit(uint32_t bits) {
  return static_cast<uint32_t>(std::countr_zero(bits));
}
MOE_DEVICE float multiplyAdd(float a, float b, float c) {
  return a * b + c;
}
MOE_DEVICE uint32_t bitsOf(float value) {
  return std::bit_cast<uint32_t>(value);
}
MOE_DEVICE float floatOf(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

#endif

MOE_DEVICE uint32_t laneIndex() {
  return threadIndex() % warpSize;
}
MOE_DEVICE uint32_t warpIndex() {
  return threadIndex() / warpSize;
}

template <typename T> MOE_BOTH constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}
template <typename T> MOE_BOTH constexpr T larger(T a, T b) {
  return a < b ? b : a;
}
template <typename T> MOE_BOTH constexpr T divideUp(T a, T b) {
  return (a + b - 1) / b;
}

/// Sum and maximum over the warp, the same bits in all lanes.
template <typename T> MOE_DEVICE T warpSum(T value) {
  for (uint32_t mask = warpSize / 2; mask > 0; mask /= 2)
    value += warpShuffleXor(value, mask);
  return value;
}
MOE_DEVICE float warpLargest(float value) {
  for (uint32_t mask = warpSize / 2; mask > 0; mask /= 2)
    value = larger(value, warpShuffleXor(value, mask));
  return value;
}

//===--------------------------------------------------------------------------------------------------------------===//
// Outside
//===--------------------------------------------------------------------------------------------------------------===//

struct Launch {
  uint32_t blocks = 0;  ///< 0: nothing is launched
  uint32_t threads = 0; ///< per block, as in MOE_KERNEL
  size_t sharedBytes = 0;
};

/// Enough blocks for `count` threads. At most 2^31 - 1: what needs more loops.
inline uint32_t blocksFor(int64_t count, uint32_t threads) {
  return static_cast<uint32_t>(
      smaller<int64_t>(divideUp<int64_t>(count, static_cast<int64_t>(threads)), int64_t{0x7FFFFFFF}));
}

#ifndef __CUDACC__
/// What stands for a kernel on the simulated device: calls it with the arguments of cudaLaunchKernel.
template <auto kernel, typename... Parameters> void trampoline(void *const *arguments) {
  [&]<size_t... i>(std::index_sequence<i...>) {
    kernel(*static_cast<Parameters *>(arguments[i])...);
  }(std::index_sequence_for<Parameters...>());
}

/// The name of the kernel as the compiler prints it.
template <auto kernel> const char *kernelName() {
  static const std::string name = [](std::string_view text) {
    text.remove_prefix(text.find("kernel = ") + 9);
    return std::string(text.substr(text.front() == '&', text.find_first_of(",;]") - (text.front() == '&')));
  }(__PRETTY_FUNCTION__);
  return name.c_str();
}
#endif

template <auto kernel> struct KernelOf {
  /// From within deduction: the parameters of the kernel.
  template <typename... Parameters>
  static cudaError_t launch(void (*)(Parameters...), const Launch &how, cudaStream_t stream, Parameters... arguments) {
    void *pointers[] = {static_cast<void *>(&arguments)...};
#ifdef __CUDACC__
    const void *function = reinterpret_cast<const void *>(kernel);
#else
    const void *function = reinterpret_cast<const void *>(&trampoline<kernel, Parameters...>);
    static const bool declared = [] {
      constexpr uint32_t bytes[] = {sizeof(Parameters)...};
      moe_sim_name_kernel(&trampoline<kernel, Parameters...>, kernelName<kernel>());
      moe_sim_kernel_parameters(&trampoline<kernel, Parameters...>, bytes, sizeof...(Parameters));
      return true;
    }();
    static_cast<void>(declared);
#endif
    return cudaLaunchKernel(function, dim3(how.blocks), dim3(how.threads), pointers, how.sharedBytes, stream);
  }
};

/// Starts `kernel` on the stream; may be captured.
template <auto kernel, typename... Arguments>
cudaError_t launch(const Launch &how, cudaStream_t stream, const Arguments &...arguments) {
  if (how.blocks == 0)
    return cudaSuccess;
  return KernelOf<kernel>::launch(kernel, how, stream, arguments...);
}

} // namespace moe::gpu

#endif // MOEC_RUNTIME_CUDA_KERNELS_GPU_H
