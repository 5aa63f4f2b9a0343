//===- StructureOfWork.cpp - Do a step's operands fit its work? ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Collectives.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Structure.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numeric>
#include <vector>

namespace moe {
namespace {

using plan::DType;
using plan::Operand;

/// What one operand has to be.
struct OperandRule {
  const char *role;
  Operand::Access access;
  std::vector<DType> dtypes; ///< empty: any
  uint64_t elements;         ///< least number of elements (bytes if `dtypes` is empty)
};

class WorkChecker {
public:
  WorkChecker(const plan::Plan &plan, const plan::Step &step, const Complain &complain)
      : plan(plan), step(step), complain(complain) {}

  void run() {
    switch (step.work_case()) {
    case plan::Step::kKernel:
      return kernel(step.kernel());
    case plan::Step::kGemm:
      return gemm(step.gemm());
    case plan::Step::kAttention:
      return attention(step.attention());
    case plan::Step::kRoute:
      return route(step.route());
    case plan::Step::kGroupedGemm:
      return groupedGemm(step.grouped_gemm());
    case plan::Step::kScatterAdd:
      return scatterAdd(step.scatter_add());
    case plan::Step::kFill:
      if (step.fill().byte() > 255)
        complain("fill: the byte is " + std::to_string(step.fill().byte()));
      return operands("fill", {{"destination", Operand::WRITE, {}, 0}});
    case plan::Step::kCopy:
      return copy(step.copy());
    case plan::Step::kCollective:
      return collective(step.collective());
    case plan::Step::kAxisSlice:
      return axisSlice(step.axis_slice());
    case plan::Step::kAsPartial:
      return asPartial(step.as_partial());
    case plan::Step::WORK_NOT_SET:
      return complain("it has no work, or work that this version does not know");
    }
  }

private:
  const plan::Plan &plan;
  const plan::Step &step;
  const Complain &complain;

  static constexpr DType kFloats[] = {plan::F32, plan::BF16, plan::F16};

  static std::vector<DType> floats() { return {std::begin(kFloats), std::end(kFloats)}; }

  /// That of the first operand, where kernels are of one type; any float if that is none.
  std::vector<DType> typeOfFirst() const {
    if (step.operands_size() == 0 || std::ranges::find(kFloats, step.operands(0).dtype()) == std::end(kFloats))
      return floats();
    return {step.operands(0).dtype()};
  }

  /// Product of sizes that have been found positive.
  static uint64_t count(std::initializer_list<int64_t> sizes) {
    uint64_t product = 1;
    for (int64_t size : sizes)
      product = saturatingProduct(product, size);
    return product;
  }

  /// True if all are at least `least`; complains once otherwise.
  bool sizes(const char *work, std::initializer_list<int64_t> values, int64_t least) {
    if (std::all_of(values.begin(), values.end(), [&](int64_t value) { return value >= least; }))
      return true;
    complain(std::string(work) + ": a size is below " + std::to_string(least));
    return false;
  }

  void operands(const char *work, const std::vector<OperandRule> &expected) {
    if (step.operands_size() != static_cast<int>(expected.size()))
      return complain(std::string(work) + ": it has " + std::to_string(step.operands_size()) + " operands instead of " +
                      std::to_string(expected.size()));
    for (int i = 0; i < step.operands_size(); ++i) {
      const Operand &operand = step.operands(i);
      const OperandRule &want = expected[i];
      std::string which = std::string(work) + ": operand " + std::to_string(i) + " (" + want.role + ") ";
      if (operand.access() != want.access)
        complain(which + "has access " + Operand::Access_Name(operand.access()) + " instead of " +
                 Operand::Access_Name(want.access));
      uint64_t unit = 1;
      if (!want.dtypes.empty()) {
        if (std::find(want.dtypes.begin(), want.dtypes.end(), operand.dtype()) == want.dtypes.end()) {
          complain(which + "has type " + plan::DType_Name(operand.dtype()));
          continue;
        }
        unit = elementBytes(operand.dtype());
      }
      uint64_t needed = saturatingProduct(want.elements, unit);
      if (operand.slice().bytes() < needed)
        complain(which + "has " + std::to_string(operand.slice().bytes()) + " bytes, " + std::to_string(needed) +
                 " are needed");
    }
  }

  static void appendScratch(std::vector<OperandRule> &expected, uint64_t bytes) {
    if (bytes > 0)
      expected.push_back({"scratch", Operand::SCRATCH, {}, bytes});
  }

  void kernel(const plan::KernelCall &call) {
    if (call.kernel() >= static_cast<uint32_t>(plan.kernels_size()))
      complain("kernel call: there is no kernel " + std::to_string(call.kernel()));
    sizes("kernel call", {call.extent(), call.grain()}, 0);
    if (bool isCuda = plan.target().device() == "cuda"; isCuda != call.has_launch())
      complain(isCuda ? "kernel call: there is no launch" : "kernel call: a launch is for CUDA only");
    if (call.has_launch())
      launch(call.launch());
    bool found = call.kernel() < static_cast<uint32_t>(plan.kernels_size());
    for (uint32_t pointer : call.pointers())
      if (pointer >= static_cast<uint32_t>(step.operands_size())) {
        complain("kernel call: there is no operand " + std::to_string(pointer));
        found = false;
      }
    if (found)
      parameters(plan.kernels(static_cast<int>(call.kernel())), call);
  }

  /// Limits of every CUDA device (shared memory: of a block of sm_80, with the larger opt-in size of later ones left
  /// out).
  void launch(const plan::Launch &l) {
    constexpr uint32_t maxBlocks = 0x7fffffff, maxThreads = 1024, warp = 32, maxSharedBytes = 163 << 10;
    if (l.blocks() == 0 || l.blocks() > maxBlocks)
      complain("launch: " + std::to_string(l.blocks()) + " blocks");
    if (l.threads() == 0 || l.threads() > maxThreads || l.threads() % warp != 0)
      complain("launch: " + std::to_string(l.threads()) + " threads per block");
    if (l.shared_bytes() > maxSharedBytes)
      complain("launch: " + std::to_string(l.shared_bytes()) + " bytes of shared memory");
  }

  /// What the kernel does through its pointers against what the step declares. The code itself can not be read, but two
  /// places of the plan that contradict each other show damage or a wrong compiler.
  void parameters(const plan::Kernel &kernel, const plan::KernelCall &call) {
    const std::vector<int> pointers = kernelPointers(step);
    if (pointers.size() != static_cast<size_t>(kernel.parameters_size()))
      return complain("kernel call: " + std::to_string(pointers.size()) + " pointers for the " +
                      std::to_string(kernel.parameters_size()) + " parameters of " + kernel.symbol());
    if (static_cast<uint32_t>(call.numbers_size()) != kernel.numbers())
      return complain("kernel call: " + std::to_string(call.numbers_size()) + " numbers, " + kernel.symbol() +
                      " takes " + std::to_string(kernel.numbers()));
    std::vector<Operand::Access> uses(static_cast<size_t>(step.operands_size()), Operand::ACCESS_UNSPECIFIED);
    for (int i = 0; i < kernel.parameters_size(); ++i) {
      int at = pointers[static_cast<size_t>(i)];
      const plan::KernelParameter &parameter = kernel.parameters(i);
      if (step.operands(at).slice().bytes() != parameter.bytes())
        complain("kernel call: operand " + std::to_string(at) + " has " +
                 std::to_string(step.operands(at).slice().bytes()) + " bytes, " + kernel.symbol() + " takes " +
                 std::to_string(parameter.bytes()));
      Operand::Access &use = uses[static_cast<size_t>(at)];
      use = use == Operand::ACCESS_UNSPECIFIED || use == parameter.access() ? parameter.access() : Operand::READ_WRITE;
    }
    for (int at = 0; at < step.operands_size(); ++at)
      if (Operand::Access use = uses[static_cast<size_t>(at)]; use != step.operands(at).access())
        complain("kernel call: operand " + std::to_string(at) + " has access " +
                 Operand::Access_Name(step.operands(at).access()) + ", " + kernel.symbol() + " has " +
                 Operand::Access_Name(use));
  }

  /// Elements from the first to the last one of `batch` matrices of rows x columns.
  static uint64_t span(int64_t batch, int64_t stride, int64_t rows, int64_t columns, int64_t ld) {
    return saturatingSum(saturatingSum(saturatingProduct(batch - 1, stride), saturatingProduct(rows - 1, ld)), columns);
  }

  void gemm(const plan::Gemm &g) {
    if (!sizes("gemm", {g.batch(), g.m(), g.n(), g.k(), g.lda(), g.ldb(), g.ldc()}, 1) ||
        !sizes("gemm", {g.stride_a(), g.stride_b(), g.stride_c()}, 0))
      return;
    int64_t rowsA = g.transpose_a() ? g.k() : g.m(), columnsA = g.transpose_a() ? g.m() : g.k();
    int64_t rowsB = g.transpose_b() ? g.n() : g.k(), columnsB = g.transpose_b() ? g.k() : g.n();
    if (g.lda() < columnsA || g.ldb() < columnsB || g.ldc() < g.n())
      complain("gemm: a row stride is shorter than a row");
    if (g.batch() > 1 && g.stride_c() == 0)
      complain("gemm: the results of a batch lie on top of each other");
    if (!std::isfinite(g.alpha()) || (g.beta() != 0 && g.beta() != 1))
      complain("gemm: alpha is not finite, or beta is neither 0 nor 1");
    if (!plan::Gemm::Activation_IsValid(g.activation()))
      complain("gemm: unknown activation " + std::to_string(g.activation()));
    std::vector<OperandRule> expected = {
        {"A", Operand::READ, floats(), span(g.batch(), g.stride_a(), rowsA, columnsA, g.lda())},
        {"B", Operand::READ, floats(), span(g.batch(), g.stride_b(), rowsB, columnsB, g.ldb())},
        {"C", g.beta() == 0 ? Operand::WRITE : Operand::READ_WRITE, floats(),
         span(g.batch(), g.stride_c(), g.m(), g.n(), g.ldc())}};
    if (g.has_bias())
      expected.push_back({"bias", Operand::READ, floats(), static_cast<uint64_t>(g.n())});
    appendScratch(expected, g.scratch_bytes());
    operands("gemm", expected);
  }

  void attention(const plan::Attention &a) {
    if (!sizes("attention", {a.batch(), a.heads(), a.kv_heads(), a.queries(), a.keys(), a.head_dim()}, 1))
      return;
    if (a.heads() % a.kv_heads() != 0)
      complain("attention: the number of heads is no multiple of the number of key heads");
    if (!std::isfinite(a.scale()) || !(a.dropout() >= 0 && a.dropout() < 1))
      complain("attention: the scale or the dropout probability is out of range");
    if (!std::isfinite(a.softcap()) || a.softcap() < 0 || a.window() < 0)
      complain("attention: the softcap or the window is out of range");
    if (a.backward() && a.has_sinks())
      complain("attention: the backward reads no sinks");
    uint64_t q = count({a.batch(), a.queries(), a.heads(), a.head_dim()});
    uint64_t kv = count({a.batch(), a.keys(), a.kv_heads(), a.head_dim()});
    uint64_t lse = count({a.batch(), a.heads(), a.queries()}), padding = count({a.batch(), a.keys()});
    const std::vector<DType> type = typeOfFirst();
    std::vector<OperandRule> expected;
    if (a.backward())
      expected.push_back({"dout", Operand::READ, type, q});
    expected.insert(expected.end(),
                    {{"q", Operand::READ, type, q}, {"k", Operand::READ, type, kv}, {"v", Operand::READ, type, kv}});
    if (a.backward())
      expected.insert(expected.end(), {{"out", Operand::READ, type, q}, {"lse", Operand::READ, {plan::F32}, lse}});
    if (a.has_padding())
      expected.push_back({"padding", Operand::READ, {plan::BOOL}, padding});
    if (a.dropout() > 0)
      expected.push_back({"rng", Operand::READ, {plan::I64}, 2});
    if (!a.backward() && a.has_sinks())
      expected.push_back({"sinks", Operand::READ, type, static_cast<uint64_t>(a.heads())});
    if (a.backward())
      expected.insert(
          expected.end(),
          {{"dq", Operand::WRITE, type, q}, {"dk", Operand::WRITE, type, kv}, {"dv", Operand::WRITE, type, kv}});
    else
      expected.insert(expected.end(), {{"out", Operand::WRITE, type, q}, {"lse", Operand::WRITE, {plan::F32}, lse}});
    appendScratch(expected, a.scratch_bytes());
    operands("attention", expected);
  }

  void route(const plan::Route &r) {
    if (!sizes("route", {r.groups(), r.tokens(), r.experts(), r.backward() ? 1 : r.capacity()}, 1))
      return;
    if (r.top_k() < 1 || r.top_k() > 2 || r.top_k() > r.experts())
      return complain("route: top_k is " + std::to_string(r.top_k()));
    if (!plan::Route::Policy_IsValid(r.policy()))
      return complain("route: unknown policy " + std::to_string(r.policy()));
    std::vector<DType> f32 = {plan::F32}, i32 = {plan::I32};
    uint64_t gs = count({r.groups(), r.tokens()}), g = r.groups();
    uint64_t gse = saturatingProduct(gs, r.experts()), gsk = saturatingProduct(gs, r.top_k());
    uint64_t ge = count({r.groups(), r.experts()}), egc = saturatingProduct(ge, r.capacity());
    std::vector<OperandRule> expected;
    if (r.backward()) {
      expected = {{"dweight", Operand::READ, f32, gsk}, {"daux", Operand::READ, f32, g},
                  {"probs", Operand::READ, f32, gse},   {"expert", Operand::READ, i32, gsk},
                  {"slot", Operand::READ, i32, gsk},    {"first_fraction", Operand::READ, f32, ge},
                  {"dlogits", Operand::WRITE, f32, gse}};
    } else {
      expected.push_back({"logits", Operand::READ, f32, gse});
      if (r.has_mask())
        expected.push_back({"mask", Operand::READ, {plan::BOOL}, gs});
      if (r.policy() == plan::Route::SAMPLING)
        expected.push_back({"noise", Operand::READ, f32, gse});
      if (r.policy() == plan::Route::RANDOM)
        expected.push_back({"uniform", Operand::READ, f32, gs});
      expected.insert(expected.end(), {{"expert", Operand::WRITE, i32, gsk},
                                       {"slot", Operand::WRITE, i32, gsk},
                                       {"weight", Operand::WRITE, f32, gsk},
                                       {"token", Operand::WRITE, i32, egc},
                                       {"aux", Operand::WRITE, f32, g},
                                       {"probs", Operand::WRITE, f32, gse},
                                       {"first_fraction", Operand::WRITE, f32, ge},
                                       {"metrics", Operand::WRITE, f32, saturatingProduct(g, 9)}});
    }
    appendScratch(expected, r.scratch_bytes());
    operands("route", expected);
  }

  void groupedGemm(const plan::GroupedGemm &g) {
    if (!sizes("grouped_gemm", {g.blocks(), g.block_rows(), g.experts(), g.left(), g.right()}, 1))
      return;
    if (g.weight_grad() && g.transposed())
      complain("grouped_gemm: a weight gradient is not transposed");
    // Backends keep a table of the weights, and experts beyond what operands can be are damage.
    if (g.separate() && g.experts() > step.operands_size())
      return complain("grouped_gemm: " + std::to_string(g.experts()) + " experts with " +
                      std::to_string(step.operands_size()) + " operands");
    uint64_t rows = count({g.blocks(), g.block_rows()}), weight = count({g.left(), g.right()});
    int64_t tensors = g.separate() ? g.experts() : 1;
    uint64_t weightElements = g.separate() ? weight : saturatingProduct(weight, g.experts());
    OperandRule blockExpert{"block_expert", Operand::READ, {plan::I32}, static_cast<uint64_t>(g.blocks())};
    const std::vector<DType> type = typeOfFirst();
    OperandRule left{"rows", Operand::READ, type, saturatingProduct(rows, g.left())};
    OperandRule right{"result", Operand::WRITE, type, saturatingProduct(rows, g.right())};
    std::vector<OperandRule> expected;
    if (g.weight_grad()) {
      right.role = "rhs";
      right.access = Operand::READ;
      expected = {left, right, blockExpert};
    } else {
      expected = {left, blockExpert};
    }
    Operand::Access access = g.weight_grad() ? Operand::WRITE : Operand::READ;
    expected.insert(expected.end(), static_cast<size_t>(tensors), {"weight", access, type, weightElements});
    if (!g.weight_grad())
      expected.push_back(right);
    appendScratch(expected, g.scratch_bytes());
    operands("grouped_gemm", expected);
  }

  void scatterAdd(const plan::ScatterAdd &s) {
    if (!sizes("scatter_add", {s.rows()}, 0) || !sizes("scatter_add", {s.width(), s.table_rows()}, 1))
      return;
    std::vector<OperandRule> expected = {
        {"index", Operand::READ, {plan::I32, plan::I64}, static_cast<uint64_t>(s.rows())},
        {"rows", Operand::READ, floats(), count({s.rows(), s.width()})},
        {"table", s.accumulate() ? Operand::READ_WRITE : Operand::WRITE, floats(), count({s.table_rows(), s.width()})}};
    appendScratch(expected, s.scratch_bytes());
    operands("scatter_add", expected);
  }

  void copy(const plan::Copy &c) {
    std::vector<OperandRule> expected = {{"source", Operand::READ, {}, 0}, {"destination", Operand::WRITE, {}, 0}};
    if (c.index())
      expected.push_back({"index", Operand::READ, {plan::I64}, 1});
    operands("copy", expected);
    if (step.operands_size() < 2)
      return;
    uint64_t source = step.operands(0).slice().bytes(), destination = step.operands(1).slice().bytes();
    if (c.index() ? source < destination : source != destination)
      complain("copy: " + std::to_string(destination) + " bytes from a source of " + std::to_string(source));
  }

  /// Ranks of the group of `axes`; 0 after a complaint.
  uint64_t group(const char *work, const AxisList &axes) {
    if (!axes.empty() && areAxes(plan, axes))
      return groupSize(plan, axes);
    complain(std::string(work) + ": its axes are none, not those of the mesh, or the same twice");
    return 0;
  }

  /// Whether a tensor of `elements` is [outer, ranks, inner]; complains otherwise.
  bool isCut(const char *work, const plan::Parts &parts, uint64_t ranks, uint64_t elements) {
    if (parts.outer() >= 1 && parts.inner() >= 1 &&
        saturatingProduct(count({parts.outer(), parts.inner()}), ranks) == elements)
      return true;
    complain(std::string(work) + ": " + std::to_string(elements) + " elements are not " +
             std::to_string(parts.outer()) + " x " + std::to_string(ranks) + " ranks x " +
             std::to_string(parts.inner()));
    return false;
  }

  /// Complains unless the first two operands, if there are two, have one type.
  void sameType(const char *work) {
    if (step.operands_size() >= 2 && step.operands(0).dtype() != step.operands(1).dtype())
      complain(std::string(work) + ": input and output have different types");
  }

  void collective(const plan::Collective &c) {
    using plan::Collective;
    uint64_t ranks = group("collective", c.axes());
    if (ranks == 0 || !sizes("collective", {c.count()}, 1))
      return;
    if (c.kind() == Collective::KIND_UNSPECIFIED || !Collective::Kind_IsValid(c.kind()) ||
        !Collective::Reduction_IsValid(c.reduction()))
      return complain("collective: it has no kind, or an unknown reduction");
    if (c.in_place() && c.kind() != Collective::ALL_REDUCE)
      complain("collective: only an all_reduce works in place");
    auto elements = static_cast<uint64_t>(c.count());
    bool splits = c.kind() == Collective::REDUCE_SCATTER || c.kind() == Collective::ALL_TO_ALL;
    bool gathers = c.kind() == Collective::ALL_GATHER || c.kind() == Collective::ALL_TO_ALL;
    if ((splits && !isCut("collective: split", c.split(), ranks, elements)) ||
        (gathers && !isCut("collective: concat", c.concat(), ranks, collectiveOutput(c, ranks))))
      return;
    std::vector<DType> types = {plan::F32, plan::BF16, plan::I32, plan::I64};
    if (!reduces(c) || c.reduction() == Collective::MAX)
      types.push_back(plan::BOOL);
    if (!reduces(c))
      types.push_back(plan::F16);
    std::vector<OperandRule> expected;
    if (c.in_place())
      expected = {{"data", Operand::READ_WRITE, types, elements}};
    else
      expected = {{"input", Operand::READ, types, elements},
                  {"output", Operand::WRITE, types, collectiveOutput(c, ranks)}};
    appendScratch(expected, c.scratch_bytes());
    operands("collective", expected);
    if (!c.in_place())
      sameType("collective");
    if (step.operands_size() == 0)
      return;
    if (uint64_t needed = collectiveScratchBytes(c, step.operands(0).dtype(), ranks); c.scratch_bytes() < needed)
      complain("collective: it has " + std::to_string(c.scratch_bytes()) + " bytes of scratch, " +
               std::to_string(needed) + " are needed");
  }

  void axisSlice(const plan::AxisSlice &s) {
    uint64_t ranks = group("axis_slice", s.axes());
    if (ranks == 0 || !sizes("axis_slice", {s.parts().outer(), s.parts().inner()}, 1))
      return;
    std::vector<DType> any = {plan::F32, plan::BF16, plan::F16, plan::I32, plan::I64, plan::BOOL};
    uint64_t part = count({s.parts().outer(), s.parts().inner()}), whole = saturatingProduct(part, ranks);
    operands("axis_slice", {{"source", Operand::READ, any, s.pad() ? part : whole},
                            {"destination", Operand::WRITE, any, s.pad() ? whole : part}});
    sameType("axis_slice");
  }

  void asPartial(const plan::AsPartial &a) {
    if (group("as_partial", a.axes()) == 0)
      return;
    if (a.in_place())
      return operands("as_partial", {{"data", Operand::READ_WRITE, {}, 0}});
    operands("as_partial", {{"source", Operand::READ, {}, 0}, {"destination", Operand::WRITE, {}, 0}});
    if (step.operands_size() == 2 && step.operands(0).slice().bytes() != step.operands(1).slice().bytes())
      complain("as_partial: source and destination have different sizes");
  }
};

} // namespace

std::vector<int> kernelPointers(const plan::Step &step) {
  const auto &order = step.kernel().pointers();
  if (!order.empty())
    return {order.begin(), order.end()};
  std::vector<int> all(static_cast<size_t>(step.operands_size()));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void checkWork(const plan::Plan &plan, const plan::Step &step, const Complain &complain) {
  WorkChecker(plan, step, complain).run();
}

} // namespace moe
