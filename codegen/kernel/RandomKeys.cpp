//===- RandomKeys.cpp ---------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/kernel/RandomKeys.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

int64_t randomKey(RandomUniformOp op) {
  uint64_t mixed = static_cast<uint64_t>(op.getSeed()) + 0x9E3779B97F4A7C15 * static_cast<uint64_t>(op.getSite());
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
  mixed ^= mixed >> 31;
  return static_cast<int64_t>(mixed);
}

SmallVector<int64_t> randomKeys(FusedOp op) {
  SmallVector<int64_t> keys;
  for (auto random : op.getBody().front().getOps<RandomUniformOp>())
    if (int64_t key = randomKey(random); !llvm::is_contained(keys, key))
      keys.push_back(key);
  return keys;
}

unsigned keyNumber(RandomUniformOp op, ArrayRef<int64_t> keys) {
  return static_cast<unsigned>(llvm::find(keys, randomKey(op)) - keys.begin());
}

} // namespace moe::codegen
