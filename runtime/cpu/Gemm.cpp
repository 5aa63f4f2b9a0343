//===- Gemm.cpp - Matrix products by oneDNN -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cpu/Gemm.h"

#include "runtime/cpu/ThreadPool.h"
#include "runtime/plan/Structure.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <utility>
#include <vector>

namespace moe::cpu {
namespace {

using dnnl::memory;

const dnnl::engine &engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

const dnnl::stream &stream() {
  static const dnnl::stream inOrder(engine());
  return inOrder;
}

memory::data_type dataType(plan::DType dtype) {
  switch (dtype) {
  case plan::F32:
    return memory::data_type::f32;
  case plan::BF16:
    return memory::data_type::bf16;
  default:
    return memory::data_type::undef; // F16 and integers: oneDNN 2.6 refuses them on the CPU
  }
}

/// Describes `batch` matrices rows x columns, transposed in memory or not. A batch stride of 0 repeats one matrix.
memory::desc matrix(const plan::Gemm &gemm, plan::DType dtype, int64_t rows, int64_t columns, int64_t ld,
                    int64_t stride, bool transposed) {
  memory::dims dims = {rows, columns};
  memory::dims strides = transposed ? memory::dims{1, ld} : memory::dims{ld, 1};
  if (gemm.batch() > 1) {
    dims.insert(dims.begin(), stride == 0 ? 1 : gemm.batch());
    strides.insert(strides.begin(), stride == 0 ? rows * columns : stride);
  }
  return {dims, dataType(dtype), strides};
}

/// The bias as [1, n] or [1, 1, n].
memory::desc biasVector(const plan::Gemm &gemm, plan::DType dtype) {
  memory::dims dims = gemm.batch() > 1 ? memory::dims{1, 1, gemm.n()} : memory::dims{1, gemm.n()};
  memory::dims strides(dims.size(), 1);
  std::fill(strides.begin(), strides.end() - 1, gemm.n());
  return {dims, dataType(dtype), strides};
}

/// oneDNN scales its own bias too; with alpha != 1 the bias becomes a post-op.
bool biasIsPostOp(const plan::Gemm &gemm) {
  return gemm.has_bias() && gemm.alpha() != 1.0f;
}

/// B as the caller has it.
memory::desc plainB(const plan::Gemm &gemm, const GemmTypes &types) {
  return matrix(gemm, types.b, gemm.k(), gemm.n(), gemm.ldb(), gemm.stride_b(), gemm.transpose_b());
}

/// Whether B is brought into oneDNN's own blocked form first. Rows of B that lie a multiple of 4 KiB apart share one
/// set of the L1 cache: a product that reads them in place runs at half its speed (1024 x 3072 x 768, the feed-forward
/// layer of a model of width 768: 99 GFLOP/s, packed 173, packing included). oneDNN 2.6.3 knows that of powers of two
/// alone. Packing costs 4 bytes of scratch for each element of B and pays where that serves many rows.
bool packsB(const plan::Gemm &gemm, const GemmTypes &types) {
  constexpr int64_t floatsPer4KiB = 1024, leastRows = 256, mostBytes = 64 << 20;
  const int64_t ld = gemm.ldb();
  return types.a == plan::F32 && types.b == plan::F32 && !gemm.transpose_b() && ld % floatsPer4KiB == 0 &&
         !std::has_single_bit(static_cast<uint64_t>(ld)) && gemm.m() >= leastRows && gemm.k() > 1 &&
         gemm.k() * gemm.n() <= mostBytes / static_cast<int64_t>(sizeof(float)) &&
         dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
}

dnnl::matmul::primitive_desc describe(const plan::Gemm &gemm, const GemmTypes &types) {
  memory::desc a = matrix(gemm, types.a, gemm.m(), gemm.k(), gemm.lda(), gemm.stride_a(), gemm.transpose_a());
  memory::desc b = packsB(gemm, types) ? memory::desc({gemm.k(), gemm.n()}, dataType(types.b), memory::format_tag::any)
                                       : plainB(gemm, types);
  memory::desc c = matrix(gemm, types.c, gemm.m(), gemm.n(), gemm.ldc(), gemm.stride_c(), false);

  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (gemm.alpha() != 1.0f)
    attributes.set_output_scales(0, {gemm.alpha()});
  dnnl::post_ops postOps;
  if (gemm.beta() != 0.0f)
    postOps.append_sum(gemm.beta());
  if (biasIsPostOp(gemm))
    postOps.append_binary(dnnl::algorithm::binary_add, biasVector(gemm, types.bias));
  switch (gemm.activation()) {
  case plan::Gemm::RELU:
    postOps.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
    break;
  case plan::Gemm::GELU_ERF:
    postOps.append_eltwise(1.0f, dnnl::algorithm::eltwise_gelu_erf, 0.0f, 0.0f);
    break;
  case plan::Gemm::GELU_TANH:
    postOps.append_eltwise(1.0f, dnnl::algorithm::eltwise_gelu_tanh, 0.0f, 0.0f);
    break;
  default:
    break;
  }
  attributes.set_post_ops(postOps);

  if (gemm.has_bias() && !biasIsPostOp(gemm))
    return {dnnl::matmul::desc(a, b, biasVector(gemm, types.bias), c), attributes, engine()};
  return {dnnl::matmul::desc(a, b, c), attributes, engine()};
}

std::string label(const plan::Gemm &gemm) {
  return std::to_string(gemm.batch()) + " x (" + std::to_string(gemm.m()) + " x " + std::to_string(gemm.n()) + " x " +
         std::to_string(gemm.k()) + ")";
}

tl::unexpected<Diagnostic> unsupported(const plan::Gemm &gemm, const char *why) {
  return error("oneDNN can not compute a matrix product", label(gemm), why);
}

/// Whether the matrices of a batch are computed one by one: to pack one B at a time, and because oneDNN 2.6.3 adds a
/// bias that is a post-op wrongly to all matrices of a batch but the first.
bool isSplit(const plan::Gemm &gemm, const GemmTypes &types) {
  return gemm.batch() > 1 && (biasIsPostOp(gemm) || packsB(gemm, types));
}

/// What the primitive itself computes: the product, or one matrix of it.
plan::Gemm unit(const plan::Gemm &gemm, const GemmTypes &types) {
  plan::Gemm one = gemm;
  if (isSplit(gemm, types))
    one.set_batch(1);
  return one;
}

/// Where in the scratch the packed B begins, behind what the product itself needs.
uint64_t packedOffset(const dnnl::matmul::primitive_desc &descriptor) {
  constexpr uint64_t alignment = 64;
  return (descriptor.scratchpad_desc().get_size() + alignment - 1) / alignment * alignment;
}

/// `gemm` is a unit.
uint64_t scratchOf(const dnnl::matmul::primitive_desc &descriptor, const plan::Gemm &gemm, const GemmTypes &types) {
  if (!packsB(gemm, types))
    return descriptor.scratchpad_desc().get_size();
  return packedOffset(descriptor) + descriptor.weights_desc().get_size();
}

/// The best level of oneDNN's scale all of whose features are in `features`. Levels that differ only in instructions
/// for integers are left out.
dnnl::cpu_isa levelOf(const std::vector<std::string> &features) {
  auto has = [&](std::initializer_list<const char *> names) {
    return std::all_of(names.begin(), names.end(), [&](const char *name) {
      return std::find(features.begin(), features.end(), name) != features.end();
    });
  };
  if (!has({"avx512f", "avx512bw", "avx512vl", "avx512dq"})) {
    if (has({"avx2", "fma"}))
      return dnnl::cpu_isa::avx2;
    return has({"avx"}) ? dnnl::cpu_isa::avx : dnnl::cpu_isa::sse41;
  }
  if (!has({"avx512vnni", "avx512bf16"}))
    return dnnl::cpu_isa::avx512_core;
  return has({"amx-tile", "amx-int8", "amx-bf16"}) ? dnnl::cpu_isa::avx512_core_amx : dnnl::cpu_isa::avx512_core_bf16;
}

} // namespace

Status limitGemmIsa(const std::vector<std::string> &features) {
  if (features.empty())
    return {};
  // The first choice of the process stands: oneDNN reads its limit once.
  static const dnnl::cpu_isa first = [&] {
    dnnl::cpu_isa level = levelOf(features);
    return dnnl::set_max_cpu_isa(level) == dnnl::status::success ? level : dnnl::cpu_isa::all;
  }();
  dnnl::cpu_isa wanted = levelOf(features);
  // A limit above what the machine can do, or none at all, is harmless if the machine is at that level itself.
  if (wanted == first || dnnl::get_effective_cpu_isa() == wanted)
    return {};
  return error("oneDNN already works with another instruction set in this process", {},
               "the instruction set can be chosen only once", "use one target per process");
}

struct GemmPrimitive::Handles {
  struct Call {
    dnnl_primitive_t primitive;
    std::vector<dnnl_exec_arg_t> arguments;
  };

  plan::Gemm gemm; // as asked for
  plan::Gemm unit;
  GemmTypes types;
  dnnl::matmul::primitive_desc descriptor;
  dnnl::matmul primitive;
  std::optional<dnnl::reorder> packing; // of B
  // Kept alive for `calls`, which are what the C interface takes without building a map for each call.
  std::vector<memory> memories;
  std::vector<Call> calls; // for the product or for each matrix of the batch: perhaps the packing, the product
};

GemmPrimitive::GemmPrimitive(std::unique_ptr<Handles> handles) : handles(std::move(handles)) {}
GemmPrimitive::GemmPrimitive(GemmPrimitive &&) noexcept = default;
GemmPrimitive &GemmPrimitive::operator=(GemmPrimitive &&) noexcept = default;
GemmPrimitive::~GemmPrimitive() = default;

Expected<GemmPrimitive> GemmPrimitive::create(const plan::Gemm &gemm, const GemmTypes &types, int threads) {
  ThreadCount scope(threads); // oneDNN divides the work among the threads it sees now
  try {
    auto handles = std::make_unique<Handles>();
    handles->gemm = gemm;
    handles->unit = unit(gemm, types);
    handles->types = types;
    handles->descriptor = describe(handles->unit, types);
    handles->primitive = dnnl::matmul(handles->descriptor);
    if (packsB(handles->unit, types))
      handles->packing.emplace(dnnl::reorder::primitive_desc(engine(), plainB(handles->unit, types), engine(),
                                                             handles->descriptor.weights_desc()));
    return GemmPrimitive(std::move(handles));
  } catch (const dnnl::error &failure) {
    return unsupported(gemm, failure.what());
  }
}

std::string gemmLibrary() {
  const dnnl_version_t &version = *dnnl_version();
  return "oneDNN " + std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
         std::to_string(version.patch);
}

uint64_t GemmPrimitive::scratchBytes() const {
  return scratchOf(handles->descriptor, handles->unit, handles->types);
}

std::string_view GemmPrimitive::implementation() const {
  return handles->descriptor.impl_info_str();
}

Status GemmPrimitive::bind(const GemmPointers &pointers) {
  Handles &h = *handles;
  const plan::Gemm &gemm = h.gemm;
  auto at = [](const void *address, uint64_t offset) {
    return static_cast<std::byte *>(const_cast<void *>(address)) + offset;
  };
  auto remember = [&](const memory::desc &descriptor, void *address) {
    h.memories.emplace_back(descriptor, engine(), address);
    return h.memories.back().get();
  };
  int64_t count = gemm.batch() / h.unit.batch();
  try {
    for (int64_t i = 0; i < count; ++i) {
      // The first three in the order that `runAt` knows.
      dnnl_memory_t a =
          remember(h.descriptor.src_desc(), at(pointers.a, i * gemm.stride_a() * elementBytes(h.types.a)));
      dnnl_memory_t b =
          remember(plainB(h.unit, h.types), at(pointers.b, i * gemm.stride_b() * elementBytes(h.types.b)));
      dnnl_memory_t c =
          remember(h.descriptor.dst_desc(), at(pointers.c, i * gemm.stride_c() * elementBytes(h.types.c)));
      if (h.packing) {
        dnnl_memory_t packed = remember(h.descriptor.weights_desc(), at(pointers.scratch, packedOffset(h.descriptor)));
        if (i == 0 || gemm.stride_b() != 0)
          h.calls.push_back({h.packing->get(), {{DNNL_ARG_FROM, b}, {DNNL_ARG_TO, packed}}});
        b = packed;
      }
      std::vector<dnnl_exec_arg_t> arguments = {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}};
      if (biasIsPostOp(gemm)) {
        int position = gemm.beta() != 0.0f ? 1 : 0;
        arguments.push_back({DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1,
                             remember(biasVector(h.unit, h.types.bias), at(pointers.bias, 0))});
      } else if (gemm.has_bias()) {
        arguments.push_back({DNNL_ARG_BIAS, remember(h.descriptor.bias_desc(), at(pointers.bias, 0))});
      }
      if (h.descriptor.scratchpad_desc().get_size() > 0)
        arguments.push_back({DNNL_ARG_SCRATCHPAD, remember(h.descriptor.scratchpad_desc(), pointers.scratch)});
      h.calls.push_back({h.primitive.get(), std::move(arguments)});
    }
  } catch (const dnnl::error &failure) {
    return error("oneDNN refuses the operands of a matrix product", label(gemm), failure.what(), {},
                 ExitCode::Internal);
  }
  return {};
}

Status GemmPrimitive::run() const {
  const Handles &h = *handles;
  for (const Handles::Call &call : h.calls) {
    dnnl_status_t status = dnnl_primitive_execute(call.primitive, stream().get(),
                                                  static_cast<int>(call.arguments.size()), call.arguments.data());
    if (status != dnnl_success)
      return error("a matrix product failed", label(h.gemm), "status " + std::to_string(status), {},
                   ExitCode::Internal);
  }
  return {};
}

Status GemmPrimitive::runAt(const void *a, const void *b, void *c) const {
  // In the order of `bind`; the library takes no address of what is only read as constant.
  void *addresses[] = {const_cast<void *>(a), const_cast<void *>(b), c};
  for (size_t i = 0; i < std::size(addresses); ++i)
    if (dnnl_status_t status = dnnl_memory_set_data_handle(handles->memories[i].get(), addresses[i]);
        status != dnnl_success)
      return error("a matrix product failed", label(handles->gemm), "status " + std::to_string(status), {},
                   ExitCode::Internal);
  return run();
}

uint64_t gemmScratchBytes(const plan::Gemm &gemm, const GemmTypes &types, int threads) {
  ThreadCount scope(threads);
  try {
    plan::Gemm one = unit(gemm, types);
    return scratchOf(describe(one, types), one, types);
  } catch (const dnnl::error &) {
    return 0;
  }
}

uint64_t gemmScratchBytes(const plan::Gemm &gemm, plan::DType dtype, int threads) {
  return gemmScratchBytes(gemm, GemmTypes{dtype, dtype, dtype, dtype}, threads);
}

} // namespace moe::cpu
