//===- DataInput.h - How the fuzz target of data reads its input --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FUZZ_DATAINPUT_H
#define MOEC_TEST_FUZZ_DATAINPUT_H

#include <cstdint>

namespace moe::fuzz {

/// The low four bits of an input's first byte.
enum class DataFormat : uint8_t { Npy, Pair, Text, JsonLine, JsonLines, Batches };
inline constexpr int kDataFormats = int(DataFormat::Batches) + 1;

/// Models that the other bits choose from.
inline constexpr int kDataModels = 4;

} // namespace moe::fuzz

#endif // MOEC_TEST_FUZZ_DATAINPUT_H
