//===- GroupedRows.h - Routing that drops nothing: rows in blocks of one expert -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_GROUPEDROWS_H
#define MOEC_IR_GROUPEDROWS_H

#include <cstdint>

namespace moe::ir {

/// The most blocks of `block` rows that `choices` choices among `experts` experts can need, where each expert's rows
/// start where a block does.
int64_t mostBlocks(int64_t choices, int64_t experts, int64_t block);

} // namespace moe::ir

#endif // MOEC_IR_GROUPEDROWS_H
