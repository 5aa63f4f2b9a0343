//===- Gemm.h - Matrix products by cuBLASLt -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_GEMM_H
#define MOEC_RUNTIME_CUDA_GEMM_H

#include "runtime/core/Diagnostic.h"
#include "runtime/cuda/Choices.h"
#include "runtime/plan/plan.pb.h"

#include <cublasLt.h>
#include <memory>
#include <string>
#include <type_traits>

namespace moe::cuda {

/// The library and its record of choices.
class GemmLibrary {
public:
  /// `choices`: see Choices::open. `device` is the name of the one that computes.
  static Expected<GemmLibrary> create(const std::filesystem::path &choices, const std::string &device);

  /// Differs if other algorithms were chosen. To be called once all products are made, like the next one.
  uint64_t digest() const { return choices.digest(); }
  Status saveChoices() { return choices.save(); }

private:
  friend class GemmLaunch;
  struct Destroy {
    void operator()(cublasLtHandle_t handle) const;
  };
  std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, Destroy> handle;
  Choices choices;
};

/// Types of A, B, C and bias.
struct GemmTypes {
  plan::DType a = plan::F32, b = plan::F32, c = plan::F32, bias = plan::F32;
};

/// Device addresses of the operands; `bias` null without one. The workspace need not be aligned.
struct GemmPointers {
  const void *a = nullptr, *b = nullptr, *bias = nullptr;
  void *c = nullptr, *workspace = nullptr;
  uint64_t workspaceBytes = 0;
};

/// Error: an activation or types that cuBLASLt does not have.
Status checkGemm(const plan::Gemm &gemm, const GemmTypes &types);

/// A product, ready to be enqueued. The library computes columns where plans have rows: it is told that B^T A^T makes
/// C^T. Sums are float32, never TF32.
class GemmLaunch {
public:
  /// Asks the library once which algorithm is best, unless there is a record. Errors: it has none for this product.
  static Expected<GemmLaunch> create(GemmLibrary &library, const plan::Gemm &gemm, const GemmTypes &types,
                                     const GemmPointers &pointers);

  Status enqueue(cudaStream_t stream) const;

private:
  struct Destroy {
    void operator()(cublasLtMatmulDesc_t desc) const;
    void operator()(cublasLtMatrixLayout_t layout) const;
  };
  using Desc = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, Destroy>;
  using Layout = std::unique_ptr<std::remove_pointer_t<cublasLtMatrixLayout_t>, Destroy>;

  Status describe(const plan::Gemm &gemm, const GemmTypes &types);
  Status choose(GemmLibrary &library, const std::string &product);

  cublasLtHandle_t handle = nullptr;
  Desc desc;
  Layout a, b, c; ///< of the plan's operands; the library's A is `b`
  GemmPointers pointers;
  float alpha = 1, beta = 0;
  cublasLtMatmulAlgo_t algorithm{};
};

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_GEMM_H
