//===- Gemm.cpp - Matrix products by cuBLASLt ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Gemm.h"

#include "runtime/cuda/Errors.h"
#include "runtime/cuda/Scratch.h"

#include <algorithm>
#include <cstring>

namespace moe::cuda {
namespace {

cudaDataType typeOf(plan::DType dtype) {
  return dtype == plan::BF16 ? CUDA_R_16BF : dtype == plan::F16 ? CUDA_R_16F : CUDA_R_32F;
}

cublasLtEpilogue_t epilogueOf(const plan::Gemm &gemm) {
  switch (gemm.activation()) {
  case plan::Gemm::RELU:
    return gemm.has_bias() ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  case plan::Gemm::GELU_TANH:
    return gemm.has_bias() ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  default:
    return gemm.has_bias() ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

/// What pointers of the plan are aligned to; the library asks for nothing above 256.
uint32_t alignmentOf(const void *pointer) {
  uint32_t alignment = 256;
  while (reinterpret_cast<uintptr_t>(pointer) % alignment != 0)
    alignment /= 2;
  return alignment;
}

/// Everything that the choice of an algorithm depends on.
std::string describeProduct(const plan::Gemm &gemm, const GemmTypes &types, const GemmPointers &pointers) {
  std::string text = std::to_string(gemm.batch()) + "x" + std::to_string(gemm.m()) + "x" + std::to_string(gemm.n()) +
                     "x" + std::to_string(gemm.k()) + (gemm.transpose_a() ? " t" : " n") +
                     (gemm.transpose_b() ? "t" : "n");
  for (int64_t stride : {gemm.lda(), gemm.ldb(), gemm.ldc(), gemm.stride_a(), gemm.stride_b(), gemm.stride_c()})
    text += " " + std::to_string(stride);
  text += " epilogue " + std::to_string(epilogueOf(gemm)) + " beta " + (gemm.beta() == 0 ? "0" : "1") + " types";
  for (plan::DType type : {types.a, types.b, types.c, types.bias})
    text += " " + std::to_string(type);
  text += " aligned";
  for (const void *pointer : {pointers.a, pointers.b, static_cast<const void *>(pointers.c), pointers.bias})
    text += " " + std::to_string(alignmentOf(pointer));
  return text + " workspace " + std::to_string(pointers.workspaceBytes);
}

template <typename Object, typename Attribute, typename Value>
void set(cublasStatus_t &status, cublasStatus_t (*function)(Object, Attribute, const void *, size_t), Object object,
         Attribute attribute, const Value &value) {
  if (status == CUBLAS_STATUS_SUCCESS)
    status = function(object, attribute, static_cast<const void *>(&value), sizeof(value));
}

struct DestroyPreference {
  void operator()(cublasLtMatmulPreference_t preference) const { cublasLtMatmulPreferenceDestroy(preference); }
};
using Preference = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>, DestroyPreference>;

Expected<Preference> preferenceFor(const GemmPointers &pointers) {
  cublasLtMatmulPreference_t made = nullptr;
  cublasStatus_t status = cublasLtMatmulPreferenceCreate(&made);
  Preference preference(made);
  auto *function = cublasLtMatmulPreferenceSetAttribute;
  set(status, function, made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, pointers.workspaceBytes);
  set(status, function, made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignmentOf(pointers.b));
  set(status, function, made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignmentOf(pointers.a));
  set(status, function, made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignmentOf(pointers.c));
  set(status, function, made, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignmentOf(pointers.c));
  if (Status checked = check(status, "describe a product to cuBLASLt"); !checked)
    return tl::unexpected(std::move(checked.error()));
  return preference;
}

Expected<cublasLtMatrixLayout_t> layoutOf(plan::DType type, int64_t rows, int64_t columns, int64_t ld, int64_t batch,
                                          int64_t stride) {
  // What is a row of the plan is a column of the library.
  cublasLtMatrixLayout_t layout = nullptr;
  cublasStatus_t status = cublasLtMatrixLayoutCreate(&layout, typeOf(type), static_cast<uint64_t>(columns),
                                                     static_cast<uint64_t>(rows), ld);
  auto count = static_cast<int32_t>(batch);
  set(status, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
  set(status, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  if (Status checked = check(status, "describe a matrix to cuBLASLt"); !checked) {
    if (layout)
      cublasLtMatrixLayoutDestroy(layout);
    return tl::unexpected(std::move(checked.error()));
  }
  return layout;
}

} // namespace

void GemmLibrary::Destroy::operator()(cublasLtHandle_t handle) const {
  cublasLtDestroy(handle);
}
void GemmLaunch::Destroy::operator()(cublasLtMatmulDesc_t desc) const {
  cublasLtMatmulDescDestroy(desc);
}
void GemmLaunch::Destroy::operator()(cublasLtMatrixLayout_t layout) const {
  cublasLtMatrixLayoutDestroy(layout);
}

Expected<GemmLibrary> GemmLibrary::create(const std::filesystem::path &choices, const std::string &device) {
  auto record = Choices::open(choices, "cuBLASLt " + std::to_string(cublasLtGetVersion()), device);
  if (!record)
    return tl::unexpected(std::move(record.error()));
  cublasLtHandle_t handle = nullptr;
  if (Status status = check(cublasLtCreate(&handle), "start cuBLASLt"); !status)
    return tl::unexpected(std::move(status.error()));
  GemmLibrary library;
  library.handle.reset(handle);
  library.choices = std::move(*record);
  return library;
}

Status checkGemm(const plan::Gemm &gemm, const GemmTypes &types) {
  if (gemm.activation() == plan::Gemm::GELU_ERF)
    return error("the CUDA backend can not compute a product with an activation of GELU by erf", {},
                 "cuBLASLt has GELU by tanh only", "compile the model again with the moec of this release");
  if (types.a != types.b || (types.c != types.a && types.c != plan::F32) || (gemm.has_bias() && types.bias != types.c))
    return error("the CUDA backend can not compute a product of these types", {},
                 "A is " + plan::DType_Name(types.a) + ", B " + plan::DType_Name(types.b) + ", C " +
                     plan::DType_Name(types.c) + (gemm.has_bias() ? ", bias " + plan::DType_Name(types.bias) : ""));
  if (gemm.batch() > INT32_MAX)
    return error("the CUDA backend can not compute so many products at once", {}, std::to_string(gemm.batch()));
  return {};
}

Status GemmLaunch::describe(const plan::Gemm &gemm, const GemmTypes &types) {
  cublasLtMatmulDesc_t made = nullptr;
  cublasStatus_t status = cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  desc.reset(made);
  auto *function = cublasLtMatmulDescSetAttribute;
  int32_t first = gemm.transpose_b() ? CUBLAS_OP_T : CUBLAS_OP_N,
          second = gemm.transpose_a() ? CUBLAS_OP_T : CUBLAS_OP_N;
  set(status, function, made, CUBLASLT_MATMUL_DESC_TRANSA, first);
  set(status, function, made, CUBLASLT_MATMUL_DESC_TRANSB, second);
  auto epilogue = static_cast<uint32_t>(epilogueOf(gemm));
  set(status, function, made, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (gemm.has_bias()) {
    int32_t biasType = typeOf(types.bias);
    set(status, function, made, CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointers.bias);
    set(status, function, made, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, biasType);
  }
  if (Status checked = check(status, "describe a product to cuBLASLt"); !checked)
    return checked;

  struct Operand {
    Layout &layout;
    plan::DType type;
    int64_t rows, columns, ld, stride;
  };
  for (const Operand &operand : {Operand{a, types.a, gemm.transpose_a() ? gemm.k() : gemm.m(),
                                         gemm.transpose_a() ? gemm.m() : gemm.k(), gemm.lda(), gemm.stride_a()},
                                 Operand{b, types.b, gemm.transpose_b() ? gemm.n() : gemm.k(),
                                         gemm.transpose_b() ? gemm.k() : gemm.n(), gemm.ldb(), gemm.stride_b()},
                                 Operand{c, types.c, gemm.m(), gemm.n(), gemm.ldc(), gemm.stride_c()}}) {
    auto layout = layoutOf(operand.type, operand.rows, operand.columns, operand.ld, gemm.batch(), operand.stride);
    if (!layout)
      return tl::unexpected(std::move(layout.error()));
    operand.layout.reset(*layout);
  }
  return {};
}

Status GemmLaunch::choose(GemmLibrary &library, const std::string &product) {
  cublasLtMatmulHeuristicResult_t result{};
  if (auto recorded = library.choices.find(product)) {
    static_assert(sizeof(algorithm) == sizeof(*recorded));
    std::memcpy(&algorithm, recorded->data(), sizeof(algorithm));
    if (cublasLtMatmulAlgoCheck(handle, desc.get(), b.get(), a.get(), c.get(), c.get(), &algorithm, &result) ==
            CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize <= pointers.workspaceBytes)
      return {};
  }
  auto preference = preferenceFor(pointers);
  if (!preference)
    return tl::unexpected(std::move(preference.error()));
  int found = 0;
  cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, desc.get(), b.get(), a.get(), c.get(), c.get(),
                                                         preference->get(), 1, &result, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0)
    return error("cuBLASLt has no algorithm for a product", {},
                 product +
                     (status == CUBLAS_STATUS_SUCCESS ? "" : std::string(": ") + cublasLtGetStatusString(status)));
  algorithm = result.algo;
  Choices::Algorithm words{};
  std::memcpy(words.data(), &algorithm, sizeof(algorithm));
  library.choices.add(product, words);
  return {};
}

Expected<GemmLaunch> GemmLaunch::create(GemmLibrary &library, const plan::Gemm &gemm, const GemmTypes &types,
                                        const GemmPointers &pointers) {
  if (Status status = checkGemm(gemm, types); !status)
    return tl::unexpected(std::move(status.error()));
  GemmLaunch launch;
  launch.handle = library.handle.get();
  launch.pointers = pointers;
  launch.alpha = gemm.alpha();
  launch.beta = gemm.beta();
  // The part of the workspace that is aligned.
  void *workspace = pointers.workspace;
  size_t room = pointers.workspaceBytes;
  if (!workspace || !std::align(kWorkspaceAlignment, 1, workspace, room))
    workspace = nullptr, room = 0;
  launch.pointers.workspace = workspace;
  launch.pointers.workspaceBytes = room;
  if (Status status = launch.describe(gemm, types); !status)
    return tl::unexpected(std::move(status.error()));
  if (Status status = launch.choose(library, describeProduct(gemm, types, launch.pointers)); !status)
    return tl::unexpected(std::move(status.error()));
  return launch;
}

Status GemmLaunch::enqueue(cudaStream_t stream) const {
  return check(cublasLtMatmul(handle, desc.get(), &alpha, pointers.b, b.get(), pointers.a, a.get(), &beta, pointers.c,
                              c.get(), pointers.c, c.get(), &algorithm, pointers.workspace, pointers.workspaceBytes,
                              stream),
               "enqueue a product");
}

} // namespace moe::cuda
