//===- TensorCore.h - Products of small bfloat16 matrices by a warp -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The instructions mma.sync.m16n8k16 and ldmatrix of the PTX ISA (compute capability 8.0 and later), with bodies for
// the simulated device. The lanes of a warp hold a matrix together: lane 4 g + t has, with pairs of neighbours in one
// word,
//
//   A, 16 x 16: the pairs at (g, 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8)
//
//   B, 16 x 8: of column g, rows 2 t and 2 t + 1, and rows 2 t + 8 and 2 t + 9
//
//   C, 16 x 8, in float32: of rows g and g + 8, columns 2 t and 2 t + 1
//
// All lanes of the warp call each function.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_KERNELS_TENSORCORE_H
#define MOEC_RUNTIME_CUDA_KERNELS_TENSORCORE_H

#include "runtime/cuda/kernels/Element.h"
#include "runtime/cuda/kernels/Gpu.h"

namespace moe::cuda {

struct FragmentA {
  uint32_t word[4];
};
struct FragmentB {
  uint32_t word[2];
};
struct Accumulator {
  float at[4]; ///< (g, 2t) (g, 2t + 1) (g + 8, 2t) (g + 8, 2t + 1)
};

/// Row and column of an accumulator's element in its 16 x 8 matrix.
MOE_DEVICE int accumulatorRow(int element) {
  return static_cast<int>(gpu::laneIndex()) / 4 + element / 2 * 8;
}
MOE_DEVICE int accumulatorColumn(int element) {
  return static_cast<int>(gpu::laneIndex()) % 4 * 2 + element % 2;
}

#ifdef __CUDACC__

/// Two neighbours in one word, rounded to nearest.
MOE_DEVICE uint32_t packBf16(float first, float second) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
}

/// c += a * b, products exact, sums in float32 in an order of the device's own.
MOE_DEVICE void multiplyAccumulate(const FragmentA &a, const FragmentB &b, Accumulator &c) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c.at[0]), "+f"(c.at[1]), "+f"(c.at[2]), "+f"(c.at[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
}

/// Four 8 x 8 matrices from shared memory: lane 8 m + r gives the address of row r of matrix m, 16 bytes, aligned. Word
/// m is the lane's part of matrix m: row g, columns 2 t and 2 t + 1; or, transposed, column g, rows 2 t and 2 t + 1.
MOE_DEVICE void loadMatrices(const Bf16 *row, uint32_t (&word)[4]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
               : "r"(address)
               : "memory");
}
MOE_DEVICE void loadMatricesTransposed(const Bf16 *row, uint32_t (&word)[4]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
               : "r"(address)
               : "memory");
}

#else

MOE_DEVICE uint32_t packBf16(float first, float second) {
  Bf16 halves[2];
  fromFloat(first, halves[0]);
  fromFloat(second, halves[1]);
  return std::bit_cast<uint32_t>(halves);
}

MOE_DEVICE void multiplyAccumulate(const FragmentA &a, const FragmentB &b, Accumulator &c) {
  struct {
    FragmentA a;
    FragmentB b;
  } mine{a, b};
  const unsigned char *all = moe_sim_exchange(&mine, sizeof(mine));
  const int lane = static_cast<int>(gpu::laneIndex()), g = lane / 4, t = lane % 4;
  auto word = [&](int of, int index) {
    uint32_t value;
    std::memcpy(&value, all + of * MOE_SIM_EXCHANGE_BYTES + index * 4, 4);
    return value;
  };
  auto low = [](uint32_t pair) { return std::bit_cast<float>(pair << 16); };
  auto high = [](uint32_t pair) { return std::bit_cast<float>(pair & 0xFFFF0000u); };
  // Words of row g or g + 8 of A, of column 2 t or 2 t + 1 of B, in the order of k.
  for (int k = 0; k < 8; ++k) {
    const int owner = k % 4, upper = k / 4;
    for (int row = 0; row < 2; ++row) {
      const uint32_t pairA = word(4 * g + owner, row + 2 * upper);
      for (int column = 0; column < 2; ++column) {
        const uint32_t pairB = word(4 * (2 * t + column) + owner, 4 + upper);
        c.at[2 * row + column] += low(pairA) * low(pairB) + high(pairA) * high(pairB);
      }
    }
  }
}

/// The rows that the lanes point to.
struct MatrixRows {
  const unsigned char *all;
  MOE_DEVICE explicit MatrixRows(const Bf16 *row)
      : all(moe_sim_exchange(static_cast<const void *>(&row), sizeof(const Bf16 *))) {}
  MOE_DEVICE const Bf16 *row(int matrix, int r) const {
    const Bf16 *pointer;
    std::memcpy(static_cast<void *>(&pointer), all + (8 * matrix + r) * MOE_SIM_EXCHANGE_BYTES, sizeof(const Bf16 *));
    return pointer;
  }
};

MOE_DEVICE void loadMatrices(const Bf16 *row, uint32_t (&word)[4]) {
  const MatrixRows rows(row);
  const int lane = static_cast<int>(gpu::laneIndex()), g = lane / 4, t = lane % 4;
  for (int matrix = 0; matrix < 4; ++matrix)
    std::memcpy(&word[matrix], rows.row(matrix, g) + 2 * t, 4);
}
MOE_DEVICE void loadMatricesTransposed(const Bf16 *row, uint32_t (&word)[4]) {
  const MatrixRows rows(row);
  const int lane = static_cast<int>(gpu::laneIndex()), g = lane / 4, t = lane % 4;
  for (int matrix = 0; matrix < 4; ++matrix)
    word[matrix] = rows.row(matrix, 2 * t)[g].bits | uint32_t{rows.row(matrix, 2 * t + 1)[g].bits} << 16;
}

#endif

/// The 16 x 16 matrix at `tile`, a row-major one in shared memory with rows `stride` apart, as A.
MOE_DEVICE FragmentA loadA(const Bf16 *tile, int stride) {
  const int matrix = static_cast<int>(gpu::laneIndex()) / 8, r = static_cast<int>(gpu::laneIndex()) % 8;
  FragmentA a;
  loadMatrices(tile + (matrix % 2 * 8 + r) * stride + matrix / 2 * 8, a.word);
  return a;
}

/// Two neighbouring B: of the transpose of the 16 (n) x 16 (k) matrix at `tile`, whose rows are columns of B.
MOE_DEVICE void loadColumns(const Bf16 *tile, int stride, FragmentB (&b)[2]) {
  const int matrix = static_cast<int>(gpu::laneIndex()) / 8, r = static_cast<int>(gpu::laneIndex()) % 8;
  uint32_t word[4];
  loadMatrices(tile + (matrix / 2 * 8 + r) * stride + matrix % 2 * 8, word);
  b[0] = {{word[0], word[1]}};
  b[1] = {{word[2], word[3]}};
}

/// Two neighbouring B: of the 16 (k) x 16 (n) matrix at `tile` itself.
MOE_DEVICE void loadRows(const Bf16 *tile, int stride, FragmentB (&b)[2]) {
  const int matrix = static_cast<int>(gpu::laneIndex()) / 8, r = static_cast<int>(gpu::laneIndex()) % 8;
  uint32_t word[4];
  loadMatricesTransposed(tile + (matrix % 2 * 8 + r) * stride + matrix / 2 * 8, word);
  b[0] = {{word[0], word[1]}};
  b[1] = {{word[2], word[3]}};
}

/// Two neighbouring accumulators, rounded, as A: what was computed becomes a factor without leaving the registers.
MOE_DEVICE FragmentA asA(const Accumulator &left, const Accumulator &right) {
  return {{packBf16(left.at[0], left.at[1]), packBf16(left.at[2], left.at[3]), packBf16(right.at[0], right.at[1]),
           packBf16(right.at[2], right.at[3])}};
}

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_KERNELS_TENSORCORE_H
