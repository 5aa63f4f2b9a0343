//===- Products.cpp - cuBLASLt of the simulated device ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Simulator.h"
#include "test/gpu/sim/State.h"
#include "test/gpu/sim/Streams.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <cublasLt.h>
#include <numbers>
#include <utility>

struct cublasLtMatmulDescOpaque_t {
  int32_t transA = CUBLAS_OP_N, transB = CUBLAS_OP_N;
  int32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void *bias = nullptr;
  int32_t biasType = -1; ///< -1: that of D
};

struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type = CUDA_R_32F;
  uint64_t rows = 0, columns = 0;
  int64_t ld = 0;
  int32_t batch = 1;
  int64_t stride = 0;
};

struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

using namespace moe::sim;
using Desc = cublasLtMatmulDescOpaque_t;
using Layout = cublasLtMatrixLayoutOpaque_t;

namespace {

/// cuBLASLt insists on it.
constexpr uintptr_t kWorkspaceAlignment = 256;
constexpr uint64_t kMagic = 0x6d6f652d73696d21;

/// The words of cublasLtMatmulAlgo_t.
struct Algorithm {
  uint64_t magic = kMagic;
  uint64_t descending = 0; ///< adds from the last k to the first
  uint64_t workspace = 0;
  uint64_t alignment = 0; ///< of all four matrices
};

Algorithm decode(const cublasLtMatmulAlgo_t &algo) {
  return {algo.data[0], algo.data[1], algo.data[2], algo.data[3]};
}

size_t elementBytes(int type) {
  return type == CUDA_R_32F ? 4 : 2;
}

float loadHalf(uint16_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

float load(int type, const std::byte *at) {
  if (type == CUDA_R_32F) {
    float value;
    std::memcpy(&value, at, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return type == CUDA_R_16F ? loadHalf(bits) : std::bit_cast<float>(uint32_t{bits} << 16);
}

void store(int type, std::byte *at, float value) {
  if (type == CUDA_R_32F) {
    std::memcpy(at, &value, 4);
    return;
  }
  uint16_t bits;
  if (type == CUDA_R_16F) {
    auto narrow = static_cast<_Float16>(value);
    std::memcpy(&bits, &narrow, 2);
  } else {
    auto wide = std::bit_cast<uint32_t>(value);
    bits = static_cast<uint16_t>(std::isnan(value) ? 0x7FC0 : (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16);
  }
  std::memcpy(at, &bits, 2);
}

float activate(int epilogue, double value) {
  if (epilogue & CUBLASLT_EPILOGUE_RELU)
    return static_cast<float>(std::max(value, 0.0));
  if (epilogue & CUBLASLT_EPILOGUE_GELU)
    return static_cast<float>(
        0.5 * value * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (value + 0.044715 * value * value * value))));
  return static_cast<float>(value);
}

struct Product {
  Desc desc;
  Layout a, b, c, d;
  float alpha = 0, beta = 0;
  const std::byte *pa = nullptr, *pb = nullptr, *pc = nullptr;
  std::byte *pd = nullptr, *workspace = nullptr;
  size_t workspaceBytes = 0;
  Algorithm algorithm;

  std::string run() const;
};

/// row[0, columns) += factor * source[0, columns). The inner loop of everything.
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
void addScaled(double *row, double factor, const double *source, uint64_t columns) {
  for (uint64_t j = 0; j < columns; ++j)
    row[j] += factor * source[j];
}

/// op(X) of one matrix of a batch, row-major, widened.
std::vector<double> widen(const std::byte *base, const Layout &layout, int32_t batch, bool transposed) {
  uint64_t rows = transposed ? layout.columns : layout.rows, columns = transposed ? layout.rows : layout.columns;
  std::vector<double> values(rows * columns);
  const size_t size = elementBytes(layout.type);
  const std::byte *begin = base + batch * layout.stride * static_cast<int64_t>(size);
  for (uint64_t i = 0; i < rows; ++i)
    for (uint64_t j = 0; j < columns; ++j) {
      uint64_t row = transposed ? j : i, column = transposed ? i : j;
      values[i * columns + j] = load(layout.type, begin + (row + column * static_cast<uint64_t>(layout.ld)) * size);
    }
  return values;
}

std::string Product::run() const {
  if (workspaceBytes > 0)
    std::memset(workspace, 0x5A, workspaceBytes); // a library may use all that it is given
  const uint64_t m = d.rows, n = d.columns, k = desc.transA == CUBLAS_OP_N ? a.columns : a.rows;
  const size_t size = elementBytes(d.type);
  const int biasType = desc.biasType < 0 ? d.type : desc.biasType;
  std::vector<double> row(m);
  for (int32_t batch = 0; batch < d.batch; ++batch) {
    // Columns of D are contiguous: one at a time, as a sum of columns of op(A).
    std::vector<double> left = widen(pa, a, batch, desc.transA == CUBLAS_OP_N); // [k, m]
    std::vector<double> right = widen(pb, b, batch, desc.transB != CUBLAS_OP_N);
    for (uint64_t j = 0; j < n; ++j) {
      std::ranges::fill(row, 0.0);
      for (uint64_t step = 0; step < k; ++step) {
        uint64_t at = algorithm.descending ? k - 1 - step : step;
        addScaled(row.data(), right[at * n + j], &left[at * m], m);
      }
      std::byte *out = pd + (batch * d.stride + static_cast<int64_t>(j) * d.ld) * static_cast<int64_t>(size);
      const std::byte *old = pc + (batch * c.stride + static_cast<int64_t>(j) * c.ld) * static_cast<int64_t>(size);
      for (uint64_t i = 0; i < m; ++i) {
        double value = double{alpha} * row[i];
        if (beta != 0)
          value += double{beta} * load(c.type, old + i * size);
        if (desc.epilogue & CUBLASLT_EPILOGUE_BIAS)
          value += load(biasType, static_cast<const std::byte *>(desc.bias) + i * elementBytes(biasType));
        store(d.type, out + i * size, activate(desc.epilogue, value));
      }
    }
  }
  return {};
}

bool isAligned(const void *pointer, uint64_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

/// Shapes and types that cuBLASLt computes, as far as the backend uses them.
bool isSupported(const Desc &desc, const Layout &a, const Layout &b, const Layout &c, const Layout &d) {
  uint64_t m = desc.transA == CUBLAS_OP_N ? a.rows : a.columns, k = desc.transA == CUBLAS_OP_N ? a.columns : a.rows;
  uint64_t k2 = desc.transB == CUBLAS_OP_N ? b.rows : b.columns, n = desc.transB == CUBLAS_OP_N ? b.columns : b.rows;
  bool shapes = k == k2 && d.rows == m && d.columns == n && c.rows == m && c.columns == n;
  for (const Layout *layout : {&a, &b, &c, &d})
    shapes &= layout->ld >= static_cast<int64_t>(layout->rows) && layout->batch == d.batch;
  bool types = a.type == b.type && c.type == d.type && (d.type == a.type || d.type == CUDA_R_32F);
  bool bias = !(desc.epilogue & CUBLASLT_EPILOGUE_BIAS) || desc.biasType < 0 || desc.biasType == d.type;
  return shapes && types && bias;
}

template <typename T> cublasStatus_t assign(T &field, const void *buffer, size_t bytes) {
  if (bytes != sizeof(T))
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(static_cast<void *>(&field), buffer, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {

size_t cublasLtGetVersion(void) {
  record("cublasLtGetVersion");
  return 130000;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
  case CUBLAS_STATUS_SUCCESS:
    return "CUBLAS_STATUS_SUCCESS";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "CUBLAS_STATUS_NOT_SUPPORTED";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "CUBLAS_STATUS_INVALID_VALUE";
  default:
    return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  record("cublasLtCreate");
  static int only;
  *handle = reinterpret_cast<cublasLtHandle_t>(&only);
  return refuseInCapture("cublasLtCreate") ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t /*handle*/) {
  record("cublasLtDestroy");
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t computeType,
                                        cudaDataType_t scaleType) {
  record("cublasLtMatmulDescCreate");
  if (computeType != CUBLAS_COMPUTE_32F || scaleType != CUDA_R_32F)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  *desc = new Desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  record("cublasLtMatmulDescDestroy");
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *buffer, size_t bytes) {
  record("cublasLtMatmulDescSetAttribute");
  switch (attribute) {
  case CUBLASLT_MATMUL_DESC_TRANSA:
    return assign(desc->transA, buffer, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSB:
    return assign(desc->transB, buffer, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE:
    return assign(desc->epilogue, buffer, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
    return assign(desc->bias, buffer, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
    return assign(desc->biasType, buffer, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  record("cublasLtMatrixLayoutCreate");
  *layout = new Layout{.type = type, .rows = rows, .columns = columns, .ld = ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  record("cublasLtMatrixLayoutDestroy");
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void *buffer,
                                                size_t bytes) {
  record("cublasLtMatrixLayoutSetAttribute");
  return attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? assign(layout->batch, buffer, bytes)
                                                         : assign(layout->stride, buffer, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
  record("cublasLtMatmulPreferenceCreate");
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  record("cublasLtMatmulPreferenceDestroy");
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *buffer,
                                                    size_t bytes) {
  record("cublasLtMatmulPreferenceSetAttribute");
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return assign(preference->workspace, buffer, bytes);
  return assign(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], buffer, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int *returned) {
  record("cublasLtMatmulAlgoGetHeuristic");
  *returned = 0;
  if (requested < 1 || !isSupported(*desc, *a, *b, *c, *d))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].workspaceSize = preference->workspace;
  uint64_t words[] = {kMagic, settings().algorithm != 0, preference->workspace,
                      *std::ranges::min_element(preference->alignment)};
  std::ranges::copy(words, results[0].algo.data);
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result) {
  record("cublasLtMatmulAlgoCheck");
  if (algo->data[0] != kMagic || !isSupported(*desc, *a, *b, *c, *d))
    return CUBLAS_STATUS_INVALID_VALUE;
  *result = {};
  result->algo = *algo;
  result->workspaceSize = decode(*algo).workspace;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t aLayout, const void *b, cublasLtMatrixLayout_t bLayout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t cLayout, void *d,
                              cublasLtMatrixLayout_t dLayout, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspaceBytes, cudaStream_t stream) {
  record("cublasLtMatmul");
  if (!algo || algo->data[0] != kMagic || !isSupported(*desc, *aLayout, *bLayout, *cLayout, *dLayout))
    return CUBLAS_STATUS_INVALID_VALUE;
  Product product = {.desc = *desc,
                     .a = *aLayout,
                     .b = *bLayout,
                     .c = *cLayout,
                     .d = *dLayout,
                     .pa = static_cast<const std::byte *>(a),
                     .pb = static_cast<const std::byte *>(b),
                     .pc = static_cast<const std::byte *>(c),
                     .pd = static_cast<std::byte *>(d),
                     .workspace = static_cast<std::byte *>(workspace),
                     .workspaceBytes = workspaceBytes,
                     .algorithm = decode(*algo)};
  std::memcpy(&product.alpha, alpha, sizeof(float));
  std::memcpy(&product.beta, beta, sizeof(float));
  bool aligned = isAligned(workspace, kWorkspaceAlignment);
  for (const void *matrix : {a, b, c, static_cast<const void *>(d)})
    aligned &= isAligned(matrix, product.algorithm.alignment);
  if (!aligned || workspaceBytes < product.algorithm.workspace)
    return CUBLAS_STATUS_INVALID_VALUE;
  return enqueue(stream,
                 {.name = "a product", .computes = true, .run = [product](const RunMode &) { return product.run(); }})
             ? CUBLAS_STATUS_EXECUTION_FAILED
             : CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
