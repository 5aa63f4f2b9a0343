//===- ScratchTest.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Scratch.h"

#include <gtest/gtest.h>

namespace moe::cuda {
namespace {

plan::Gemm product(int64_t batch, int64_t m, int64_t n) {
  plan::Gemm gemm;
  gemm.set_batch(batch);
  gemm.set_m(m);
  gemm.set_n(n);
  gemm.set_k(8);
  return gemm;
}

// Catches a workspace without the bytes lost to alignment, without the batch, and without its limit.
TEST(CudaScratchTest, WorkspaceHoldsPartialSumsUpToALimit) {
  EXPECT_EQ(gemmWorkspaceBytes(product(1, 2, 3)), 16 * 2 * 3 * 4 + 256u);
  EXPECT_EQ(gemmWorkspaceBytes(product(5, 2, 3)), 5 * 16 * 2 * 3 * 4 + 256u);
  EXPECT_EQ(gemmWorkspaceBytes(product(1, 8192, 8192)), (32u << 20) + 256);
  EXPECT_EQ(gemmWorkspaceBytes(product(int64_t{1} << 40, int64_t{1} << 40, 8192)), (32u << 20) + 256);
}

} // namespace
} // namespace moe::cuda
