//===- Gemm.h - Matrix products by oneDNN -------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Used by the backend to run `plan::Gemm` steps and by the compiler to learn how much scratch they need:
//
//   C[b] = act(alpha * op(A[b]) * op(B[b]) + beta * C[b] + bias)
//
// One oneDNN matmul primitive in user-scratchpad mode, for some strides of B behind one that packs it. The library's
// result, bit for bit, and its scratch depend on the number of threads and on the instruction set, which is why both
// are fields of the plan (`limitGemmIsa`).
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CPU_GEMM_H
#define MOEC_RUNTIME_CPU_GEMM_H

#include "runtime/core/Diagnostic.h"
#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moe::cpu {

/// Version of the library that computes products ("oneDNN 2.7.3").
std::string gemmLibrary();

/// Element types. Supported: all F32; A and B BF16 (on CPUs with avx512bw) with C BF16 or F32; bias F32 or as C.
struct GemmTypes {
  plan::DType a = plan::F32;
  plan::DType b = plan::F32;
  plan::DType c = plan::F32;
  plan::DType bias = plan::F32;
};

/// Addresses of the operands, fixed for the life of the primitive. `bias` and `scratch` may be null if not needed.
struct GemmPointers {
  const void *a = nullptr;
  const void *b = nullptr;
  void *c = nullptr;
  const void *bias = nullptr;
  void *scratch = nullptr; ///< `scratchBytes()` bytes, best aligned to 64
};

/// Scratch bytes of a product whose operands all have type `dtype`, or 0 if the library can not compute it (creating
/// the primitive then says why). `threads` as in `plan.target`. Call `limitGemmIsa` first.
uint64_t gemmScratchBytes(const plan::Gemm &gemm, plan::DType dtype, int threads);
/// The same for mixed types.
uint64_t gemmScratchBytes(const plan::Gemm &gemm, const GemmTypes &types, int threads);

/// Restricts oneDNN to the instruction sets in `features` (names as in LLVM), so that scratch and bits are those of the
/// target and not of this machine. Works before the first use of the library in the process; later it only checks that
/// the choice made then is the same. An empty list restricts nothing. Error if it was another choice.
Status limitGemmIsa(const std::vector<std::string> &features);

/// A product with fixed shape, types, threads and addresses.
class GemmPrimitive {
public:
  /// Creates the primitive (generates code, some milliseconds at the first time). The shape has passed `checkWork`.
  static Expected<GemmPrimitive> create(const plan::Gemm &gemm, const GemmTypes &types, int threads);
  GemmPrimitive(GemmPrimitive &&) noexcept;
  GemmPrimitive &operator=(GemmPrimitive &&) noexcept;
  ~GemmPrimitive();

  uint64_t scratchBytes() const;
  /// oneDNN's name of the implementation, e.g. "brg:avx512_core".
  std::string_view implementation() const;

  /// Fixes the addresses. Once, before `run`.
  Status bind(const GemmPointers &pointers);
  /// Computes. The caller holds a `ThreadCount` of the number of threads given to `create`.
  Status run() const;
  /// Computes at other addresses than those of `bind`, which has been called. For products without bias and batch.
  Status runAt(const void *a, const void *b, void *c) const;

private:
  struct Handles;
  explicit GemmPrimitive(std::unique_ptr<Handles> handles);
  std::unique_ptr<Handles> handles;
};

} // namespace moe::cpu

#endif // MOEC_RUNTIME_CPU_GEMM_H
