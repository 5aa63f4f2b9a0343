//===- Philox.h - Random numbers of the reference semantics -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_REFERENCE_PHILOX_H
#define MOEC_IR_REFERENCE_PHILOX_H

#include <array>
#include <cstdint>

namespace moe::ir {

/// Philox4x32-10. Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// Finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators. OOPSLA 2014).
uint64_t splitmix64Finalise(uint64_t value);

/// Element `index` of `moe.random_uniform`: a multiple of 2^-24 in [0, 1). `elements` is the size of the tensor.
double uniformNumber(uint64_t seed, uint64_t site, int64_t numUpdates, int64_t microBatch, int64_t elements,
                     int64_t index);

} // namespace moe::ir

#endif // MOEC_IR_REFERENCE_PHILOX_H
