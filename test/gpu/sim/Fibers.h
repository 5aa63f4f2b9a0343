//===- Fibers.h - A grid of CUDA threads on one thread of the host ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Each thread of a block is a fiber with a stack of its own. A fiber runs until it meets a barrier or a shuffle; then
// the next one has its turn. Warps run one after the other from barrier to barrier, lanes of a warp one after the other
// from shuffle to shuffle, blocks one after the other. All three orders turn around together: a result that depends on
// who comes first differs between the two extremes, one that reads shared memory before it is written differs between
// two values of the garbage in it.
//
// Defines the functions of runtime/abi/SimulatedDevice.h. A kernel that meets neither barriers nor shuffles costs one
// function call per thread.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_FIBERS_H
#define MOEC_TEST_GPU_SIM_FIBERS_H

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moe::sim {

/// Who has the first turn among blocks, warps of a block and lanes of a warp.
enum class Order { Ascending, Descending };

/// Called once per thread of the grid; argument i lies at `arguments[i]`, as cudaLaunchKernel has it.
using Kernel = void (*)(void *const *arguments);

/// Most threads of a block, and most bytes of dynamic shared memory of a block (compute capability 9.0).
inline constexpr uint32_t maximumThreads = 1024;
inline constexpr size_t maximumSharedBytes = 227 * 1024;

/// Runs all blocks to their end. Every block finds `sharedBytes` of shared memory full of `sharedGarbage`. Returns what
/// went wrong, empty if nothing did: a grid or block of no threads or too many, too much shared memory, threads of a
/// block or lanes of a warp that do not all meet at a barrier or shuffle, a shuffle with a lane that does not exist.
/// The text names the kernel, block and thread; the grid is abandoned where it stands. Any number of host threads may
/// run grids of their own at the same time; a kernel may not start another.
[[nodiscard]] std::string runGrid(Kernel kernel, void *const *arguments, uint32_t blocks, uint32_t threads,
                                  size_t sharedBytes, Order order, uint8_t sharedGarbage);

/// The name of a kernel in errors.
std::string kernelName(Kernel kernel);

/// Sizes of a kernel's parameters, in bytes; nothing if it has not declared them (moe_sim_kernel_parameters).
std::optional<std::vector<uint32_t>> kernelParameters(Kernel kernel);

} // namespace moe::sim

#endif // MOEC_TEST_GPU_SIM_FIBERS_H
