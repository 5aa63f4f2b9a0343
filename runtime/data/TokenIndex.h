//===- TokenIndex.h - The .idx file beside a .bin file of tokens -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Three formats, all little endian, whose .bin file holds nothing but the tokens of all sequences:
//
//   Megatron-LM  "MMIDIDX\0\0" | u64 1 | u8 type | u64 sequences | u64 document ends | i32 length[sequences]
//                | i64 byte offset[sequences] | i64 first sequence[document ends], the last entry their end
//                (multimodal files: | i8 mode[sequences])
//   fairseq      the same without the documents: "MMIDIDX\0\0" | u64 1 | u8 type | u64 sequences | i32
//   length[sequences]
//                | i64 byte offset[sequences]; a sequence is a document
//   its legacy   "TNTIDX\0\0" | u64 1 | u64 type | u64 bytes of an element | u64 sequences | u64 sizes
//                | i64 first size[sequences + 1] | i64 first element[sequences + 1] | i64 size[sizes]
//
// Types: 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 8 uint16, 9 uint32, 10 uint64; 6 and 7 are floating point.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_TOKENINDEX_H
#define MOEC_RUNTIME_DATA_TOKENINDEX_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace moe {

struct TokenIndex {
  int width = 0; ///< bytes of a token: 1, 2, 4 or 8
  bool isSigned = false;
  /// Document d is tokens [begins[d], begins[d + 1]) of the .bin file.
  std::vector<int64_t> begins;

  int64_t documents() const { return int64_t(begins.size()) - 1; }
};

/// Whether a file starts like one of the formats.
bool isTokenIndex(std::span<const std::byte> index);

/// Reads `index` and checks it against the `binBytes` bytes of the .bin file, believing no number. Errors name `where`:
/// unknown magic or version, types that are no integers, a file shorter or longer than its counts say, sequences that
/// have a negative length, do not follow one another without gap or do not end with the .bin file, document ends that
/// fall or lie outside.
Expected<TokenIndex> parseTokenIndex(std::span<const std::byte> index, uint64_t binBytes, std::string_view where);

} // namespace moe

#endif // MOEC_RUNTIME_DATA_TOKENINDEX_H
