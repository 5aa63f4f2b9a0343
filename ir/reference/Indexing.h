//===- Indexing.h - Row-major offsets, the only index arithmetic of the interpreter -----------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_REFERENCE_INDEXING_H
#define MOEC_IR_REFERENCE_INDEXING_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include <vector>

namespace moe::ir {

/// Row-major strides, in elements.
inline llvm::SmallVector<int64_t> stridesOf(llvm::ArrayRef<int64_t> shape) {
  llvm::SmallVector<int64_t> strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;)
    strides[d - 1] = strides[d] * shape[d];
  return strides;
}

/// base + sum_d index[d] strides[d] for every index below `sizes`, the last dimension fastest.
inline std::vector<int64_t> offsets(llvm::ArrayRef<int64_t> sizes, llvm::ArrayRef<int64_t> strides, int64_t base = 0) {
  std::vector<int64_t> result = {base};
  for (size_t d = 0; d < sizes.size(); ++d) {
    std::vector<int64_t> finer;
    for (int64_t offset : result)
      for (int64_t i = 0; i < sizes[d]; ++i)
        finer.push_back(offset + i * strides[d]);
    result = std::move(finer);
  }
  return result;
}

/// Product of the extents from dimension `first` on.
inline int64_t productFrom(llvm::ArrayRef<int64_t> shape, size_t first) {
  int64_t product = 1;
  for (size_t d = first; d < shape.size(); ++d)
    product *= shape[d];
  return product;
}

} // namespace moe::ir

#endif // MOEC_IR_REFERENCE_INDEXING_H
