//===- KernelCompiler.cpp - Deduplication, cache and threads ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/kernel/KernelCompiler.h"

#include "codegen/kernel/Lowering.h"
#include "codegen/kernel/RandomKeys.h"
#include "ir/RetypeTensors.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/xxhash.h"
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

/// What decides the code of a region, as text: values are numbered, layouts and discardable attributes left out.
std::string canonicalText(FusedOp op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::DenseMap<Value, unsigned> numbers;
  auto print = [&](Value value) {
    auto [it, isNew] = numbers.try_emplace(value, numbers.size());
    os << '%' << it->second;
    if (isNew) {
      RankedTensorType type = typeOf(value);
      os << ':';
      for (int64_t size : type.getShape())
        os << size << 'x';
      os << type.getElementType();
    }
    os << ' ';
  };
  SmallVector<int64_t> keys = randomKeys(op);
  os << op.getEmitter() << '\n';
  Block &body = op.getBody().front();
  for (Value argument : body.getArguments())
    print(argument);
  for (Operation &inner : body) {
    os << '\n' << inner.getName() << ' ';
    for (Value operand : inner.getOperands())
      print(operand);
    if (auto random = dyn_cast<RandomUniformOp>(inner)) {
      // Its key is passed; which of the region's keys it is, and what it is a part of, is code.
      os << "key=" << keyNumber(random, keys) << ' ' << inner.getAttr(kWholeShapeAttr) << ' ';
    } else {
      // Discardable attributes say where an operation comes from, not what it does.
      for (NamedAttribute attribute : inner.getAttrs())
        if (!inner.getDiscardableAttr(attribute.getName()))
          os << attribute.getName().getValue() << '=' << attribute.getValue() << ' ';
    }
    os << "-> ";
    for (Value result : inner.getResults())
      print(result);
  }
  return text;
}

/// Object files of this process by target and region. Kernels are a few kilobytes each.
class ObjectCache {
public:
  static ObjectCache &get() {
    static ObjectCache cache;
    return cache;
  }
  std::shared_ptr<const std::string> find(const std::string &key) {
    std::scoped_lock lock(mutex);
    auto it = objects.find(key);
    return it == objects.end() ? nullptr : it->second;
  }
  void insert(const std::string &key, std::shared_ptr<const std::string> object) {
    std::scoped_lock lock(mutex);
    objects.emplace(key, std::move(object));
  }

private:
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<const std::string>> objects;
};

/// A region of its own, independent of the module it came from.
struct Region {
  std::string key;
  SmallVector<std::string, 2> symbols;
  SmallVector<unsigned, 2> kernels;
  OwningOpRef<ModuleOp> holder;
  std::optional<Strategy> strategy;
  std::shared_ptr<const std::string> object;
};

} // namespace

struct KernelCompiler::State {
  State(MLIRContext *context, const KernelTarget &target) : context(context), target(target) {}

  MLIRContext *context;
  const KernelTarget &target;
  std::vector<KernelInfo> kernels;
  std::vector<Region> regions;
  llvm::StringMap<size_t> regionOf;
};

KernelCompiler::KernelCompiler(MLIRContext *context, const KernelTarget &target)
    : state(std::make_unique<State>(context, target)) {
  loadKernelDialects(context);
}

KernelCompiler::~KernelCompiler() = default;

const KernelTarget &KernelCompiler::getTarget() const {
  return state->target;
}

ArrayRef<KernelInfo> KernelCompiler::kernels() const {
  return state->kernels;
}

FailureOr<SmallVector<unsigned, 2>> KernelCompiler::add(FusedOp op) {
  std::string key = state->target.codeKey() + "\n" + canonicalText(op);
  if (auto it = state->regionOf.find(key); it != state->regionOf.end())
    return state->regions[it->second].kernels;

  Region region;
  OpBuilder builder(state->context);
  region.holder = ModuleOp::create(builder, op.getLoc());
  builder.setInsertionPointToStart(region.holder->getBody());
  IRMapping mapping;
  for (Value input : op.getInputs())
    mapping.map(input,
                UnrealizedConversionCastOp::create(builder, op.getLoc(), input.getType(), ValueRange{}).getResult(0));
  auto copy = cast<FusedOp>(builder.clone(*op, mapping));
  FailureOr<Strategy> strategy = state->target.chooseStrategy(copy);
  if (failed(strategy))
    return failure();
  region.strategy = std::move(*strategy);
  uint64_t hash = llvm::xxh3_64bits(key);
  size_t calls = region.strategy->plan.calls.size();
  for (size_t call = 0; call < calls; ++call) {
    std::string symbol = (op.getEmitter() + "_" + llvm::utohexstr(hash, /*LowerCase=*/true, 16)).str();
    if (calls > 1)
      symbol += "_" + std::to_string(call + 1);
    region.symbols.push_back(symbol);
    region.kernels.push_back(static_cast<unsigned>(state->kernels.size()));
    auto numbers = static_cast<unsigned>(region.strategy->plan.numbers.size());
    state->kernels.push_back({symbol, op.getEmitter().str(), hash + call, numbers});
  }
  state->regionOf[key] = state->regions.size();
  region.key = std::move(key);
  state->regions.push_back(std::move(region));
  return state->regions.back().kernels;
}

FailureOr<KernelImage> KernelCompiler::compile(const CompileOptions &options, CompileReport *report) {
  if (state->regions.empty())
    return KernelImage();
  std::unique_ptr<ObjectCompiler> compiler = state->target.createObjectCompiler(state->context);
  unsigned threads = state->context->isMultithreadingEnabled() ? std::max(1u, options.threads) : 1;
  std::vector<CompileReport> reports(threads);
  std::atomic<size_t> next = 0;
  std::atomic<bool> isGood = true;
  auto work = [&](CompileReport &mine) {
    for (size_t i = next++; i < state->regions.size() && isGood; i = next++) {
      Region &region = state->regions[i];
      if (!options.keepLlvmIr)
        region.object = ObjectCache::get().find(region.key);
      if (region.object) {
        ++mine.fromCache;
        continue;
      }
      auto start = std::chrono::steady_clock::now();
      OpBuilder builder(state->context);
      OwningOpRef<ModuleOp> module = ModuleOp::create(builder, region.holder->getLoc());
      state->target.emitKernels(*module, *region.strategy, region.symbols);
      mine.emitSeconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      FailureOr<std::string> object = compiler->compile(*module, options.keepLlvmIr, mine);
      if (failed(object)) {
        isGood = false;
        return;
      }
      region.object = std::make_shared<const std::string>(std::move(*object));
      ObjectCache::get().insert(region.key, region.object);
    }
  };
  std::vector<std::thread> helpers;
  for (unsigned t = 1; t < threads; ++t)
    helpers.emplace_back(work, std::ref(reports[t]));
  work(reports[0]);
  for (std::thread &helper : helpers)
    helper.join();
  if (!isGood)
    return failure();

  auto start = std::chrono::steady_clock::now();
  SmallVector<const std::string *> objects;
  for (const Region &region : state->regions)
    objects.push_back(region.object.get());
  FailureOr<KernelImage> image = state->target.link(UnknownLoc::get(state->context), objects);
  if (report) {
    report->regions = static_cast<unsigned>(state->regions.size());
    report->linkSeconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (CompileReport &mine : reports) {
      report->fromCache += mine.fromCache;
      report->emitSeconds += mine.emitSeconds;
      report->lowerSeconds += mine.lowerSeconds;
      report->optimizeSeconds += mine.optimizeSeconds;
      report->codegenSeconds += mine.codegenSeconds;
      llvm::append_range(report->llvmIr, mine.llvmIr);
    }
  }
  return image;
}

} // namespace moe::codegen
