//===- KernelRunner.cpp -------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "KernelRunner.h"

#include "codegen/targets/Targets.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include <cmath>
#include <cstring>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen::test {

std::unique_ptr<MLIRContext> makeContext() {
  auto context = std::make_unique<MLIRContext>();
  context->loadDialect<func::FuncDialect, MoeDialect>();
  return context;
}

HostTensor drawTensor(RankedTensorType type, std::mt19937_64 &random, int64_t low, int64_t high) {
  HostTensor tensor(type);
  std::normal_distribution<double> normal;
  Type element = type.getElementType();
  for (int64_t i = 0; i < tensor.size(); ++i) {
    if (tensor.isFloat)
      tensor.floats[i] = roundToType(normal(random), element);
    else if (element.isInteger(1))
      tensor.ints[i] = static_cast<int64_t>(random() & 1);
    else
      tensor.ints[i] = low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  }
  return tensor;
}

Case parseCase(MLIRContext &context, StringRef text, std::mt19937_64 &random) {
  Case c;
  c.module = parseSourceString<ModuleOp>(text, &context);
  if (!c.module)
    return c;
  c.module->walk([&](FusedOp op) { c.op = op; });
  for (Value input : c.op.getInputs())
    c.inputs.push_back(drawTensor(typeOf(input), random));
  return c;
}

std::vector<HostTensor> reference(Case &c) {
  InterpreterState state(*c.module);
  InterpreterOptions options;
  options.roundToElementType = true;
  InterpreterContext context(state, options);
  FailureOr<std::vector<HostTensor>> result = interpretBlock(c.op.getBody().front(), c.inputs, context);
  return succeeded(result) ? std::move(*result) : std::vector<HostTensor>();
}

std::vector<uint8_t> toBytes(const HostTensor &tensor, Type element) {
  size_t width = elementBytes(element);
  std::vector<uint8_t> bytes(tensor.size() * width);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    uint64_t word = 0;
    if (auto floating = dyn_cast<FloatType>(element)) {
      llvm::APFloat value(tensor.floats[i]);
      bool exact;
      value.convert(floating.getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven, &exact);
      word = value.bitcastToAPInt().getZExtValue();
    } else {
      word = static_cast<uint64_t>(tensor.ints[i]);
    }
    std::memcpy(bytes.data() + i * width, &word, width);
  }
  return bytes;
}

HostTensor fromBytes(const uint8_t *bytes, RankedTensorType type) {
  HostTensor tensor(type);
  Type element = type.getElementType();
  size_t width = elementBytes(element);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + i * width, width);
    if (auto floating = dyn_cast<FloatType>(element)) {
      llvm::APFloat value(floating.getFloatSemantics(), llvm::APInt(width * 8, word));
      bool exact;
      value.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &exact);
      tensor.floats[i] = value.convertToDouble();
    } else {
      tensor.ints[i] = llvm::SignExtend64(word, width * 8);
    }
  }
  return tensor;
}

double relativeError(const HostTensor &a, const HostTensor &b) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < b.size(); ++i) {
    double x = a.at(i), y = b.at(i);
    if (x == y || (std::isnan(x) && std::isnan(y)))
      continue;
    difference += (x - y) * (x - y);
  }
  for (int64_t i = 0; i < b.size(); ++i)
    if (double y = b.at(i); std::isfinite(y))
      norm += y * y;
  if (std::isnan(difference))
    return INFINITY;
  return difference == 0 ? 0 : std::sqrt(difference / std::max(norm, 1e-300));
}

KernelRunner::KernelRunner(MLIRContext &context, StringRef target) {
  std::string error;
  machine = createTarget(target, 1, error);
  EXPECT_TRUE(machine) << error;
  kernelCompiler = std::make_unique<KernelCompiler>(&context, *machine);
}

KernelRunner::~KernelRunner() {
  if (handle)
    dlclose(handle);
}

int KernelRunner::add(FusedOp op) {
  FailureOr<FusedPlan> plan = machine->plan(op);
  FailureOr<SmallVector<unsigned, 2>> kernels = kernelCompiler->add(op);
  EXPECT_EQ(succeeded(plan), succeeded(kernels));
  if (failed(plan) || failed(kernels))
    return -1;
  EXPECT_EQ(plan->calls.size(), kernels->size());
  Region region;
  region.plan = std::move(*plan);
  region.kernels = *kernels;
  for (Value input : op.getInputs())
    region.inputs.push_back(typeOf(input));
  for (Value output : op.getOutputs())
    region.outputs.push_back(typeOf(output));
  regions.push_back(std::move(region));
  return static_cast<int>(regions.size()) - 1;
}

bool KernelRunner::load(CompileReport *report) {
  FailureOr<KernelImage> image = kernelCompiler->compile({}, report);
  if (failed(image))
    return false;
  imageBytes = std::move(image->bytes);
  int file = memfd_create("kernels", MFD_CLOEXEC);
  if (write(file, imageBytes.data(), imageBytes.size()) != static_cast<ssize_t>(imageBytes.size()))
    return false;
  handle = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
  close(file);
  EXPECT_NE(handle, nullptr) << dlerror();
  if (!handle)
    return false;
  for (Region &region : regions)
    for (unsigned kernel : region.kernels) {
      void *address = dlsym(handle, kernelCompiler->kernels()[kernel].symbol.c_str());
      EXPECT_NE(address, nullptr);
      region.functions.push_back(address);
    }
  return true;
}

namespace {

/// Aligned memory that ends (rounded up to 64 bytes, as in a plan) at a page that must not be touched; filled with
/// 0xFF, which reads as NaN.
class Buffer {
public:
  explicit Buffer(size_t size) : size(size), rounded((size + 63) / 64 * 64) {
    size_t page = sysconf(_SC_PAGESIZE);
    mapped = (rounded + page - 1) / page * page + page;
    void *base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(base, MAP_FAILED);
    start = static_cast<uint8_t *>(base);
    mprotect(start + mapped - page, page, PROT_NONE);
    memory = start + mapped - page - rounded;
    std::memset(memory, 0xFF, rounded);
  }
  ~Buffer() { munmap(start, mapped); }
  Buffer(const Buffer &) = delete;
  uint8_t *data() { return memory; }
  void check() const {
    for (size_t i = size; i < rounded; ++i)
      if (memory[i] != 0xFF) {
        ADD_FAILURE() << "byte " << i << " behind a buffer of " << size << " was written";
        return;
      }
  }

private:
  size_t size, rounded, mapped = 0;
  uint8_t *start = nullptr, *memory = nullptr;
};

/// [0, extent) in random pieces, in random order.
std::vector<std::pair<int64_t, int64_t>> pieces(int64_t extent, std::mt19937_64 *random) {
  if (!random || extent < 2)
    return {{0, extent}};
  std::vector<int64_t> ends{0, extent};
  for (int i = 0; i < 6; ++i)
    ends.push_back(static_cast<int64_t>((*random)() % static_cast<uint64_t>(extent + 1)));
  std::sort(ends.begin(), ends.end());
  std::vector<std::pair<int64_t, int64_t>> result;
  for (size_t i = 1; i < ends.size(); ++i)
    result.emplace_back(ends[i - 1], ends[i]);
  std::shuffle(result.begin(), result.end(), *random);
  return result;
}

} // namespace

void KernelRunner::launch(const PlannedCall &call, void *function, std::vector<void *> &pointers,
                          SmallVector<int64_t> numbers, const Run &options) {
  if (machine->device() == "cuda") {
    std::vector<void *> arguments;
    arguments.reserve(pointers.size() + numbers.size());
    for (void *&pointer : pointers)
      arguments.push_back(static_cast<void *>(&pointer));
    for (int64_t &number : numbers)
      arguments.push_back(&number);
    EXPECT_EQ(sim::runGrid(reinterpret_cast<sim::Kernel>(function), arguments.data(), call.blocks, call.threads,
                           call.sharedBytes, options.order, options.sharedGarbage),
              "");
    return;
  }
  MoeKernelArgs arguments{pointers.data(), numbers.data(), nullptr};
  for (auto [begin, end] : pieces(call.extent, options.cuts))
    reinterpret_cast<MoeKernelFn>(function)(&arguments, begin, end);
}

std::vector<std::vector<uint8_t>> KernelRunner::run(int number, const std::vector<HostTensor> &inputs,
                                                    const Run &options) {
  const Region &region = regions[number];
  std::vector<std::unique_ptr<Buffer>> owned;
  std::vector<uint8_t *> in, out;
  auto allocate = [&](size_t bytes) {
    owned.push_back(std::make_unique<Buffer>(bytes));
    return owned.back()->data();
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::vector<uint8_t> bytes = toBytes(inputs[i], region.inputs[i].getElementType());
    in.push_back(allocate(bytes.size()));
    std::memcpy(in.back(), bytes.data(), bytes.size());
  }
  for (RankedTensorType type : region.outputs)
    out.push_back(allocate(tensorBytes(type)));
  if (options.inPlace) {
    std::map<unsigned, unsigned> taken;
    for (InPlacePair pair : region.plan.inPlace) {
      bool isFree = llvm::none_of(taken, [&](auto &t) { return t.first == pair.output || t.second == pair.input; });
      if (isFree) {
        taken[pair.output] = pair.input;
        out[pair.output] = in[pair.input];
      }
    }
  }
  uint8_t *scratch = allocate(region.plan.scratchBytes);
  for (size_t call = 0; call < region.functions.size(); ++call) {
    std::vector<void *> pointers;
    for (const PlannedOperand &operand : region.plan.calls[call].operands)
      pointers.push_back(operand.kind == PlannedOperand::Kind::Input    ? in[operand.index]
                         : operand.kind == PlannedOperand::Kind::Output ? out[operand.index]
                                                                        : scratch);
    launch(region.plan.calls[call], region.functions[call], pointers, region.plan.numbers, options);
  }
  for (auto &buffer : owned)
    buffer->check();
  std::vector<std::vector<uint8_t>> results;
  results.reserve(out.size());
  for (size_t o = 0; o < out.size(); ++o)
    results.emplace_back(out[o], out[o] + tensorBytes(region.outputs[o]));
  return results;
}

} // namespace moe::codegen::test
