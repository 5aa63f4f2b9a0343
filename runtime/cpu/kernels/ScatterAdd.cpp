//===- ScatterAdd.cpp ---------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/kernels/ScatterAdd.h"

#include <algorithm>

namespace moe::cpu {
namespace {

template <typename Index>
int64_t addColumns(const ScatterAddShape &shape, const Index *index, const float *rows, float *table, int64_t begin,
                   int64_t end) {
  const int64_t width = shape.width, count = end - begin;
  if (!shape.accumulate)
    for (int64_t row = 0; row < shape.tableRows; ++row)
      std::fill_n(table + row * width + begin, count, 0.0f);
  int64_t outside = 0;
  for (int64_t i = 0; i < shape.rows; ++i) {
    const int64_t row = index[i];
    outside += row >= shape.tableRows;
    if (row < 0 || row >= shape.tableRows)
      continue;
    const float *__restrict from = rows + i * width + begin;
    float *__restrict to = table + row * width + begin;
    for (int64_t column = 0; column < count; ++column)
      to[column] += from[column];
  }
  return outside;
}

} // namespace

int64_t scatterAdd(const ScatterAddShape &shape, const int32_t *index, const float *rows, float *table, int64_t begin,
                   int64_t end) {
  return addColumns(shape, index, rows, table, begin, end);
}

int64_t scatterAdd(const ScatterAddShape &shape, const int64_t *index, const float *rows, float *table, int64_t begin,
                   int64_t end) {
  return addColumns(shape, index, rows, table, begin, end);
}

} // namespace moe::cpu
