//===- Certificate.cpp - What a plan will allocate --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/plan/EmitPlan.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/BufferTable.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

/// Buffers that count as peak contributors in the report.
constexpr size_t kPeakBuffers = 10;

/// The largest buffers of `program` at the step where most bytes are live.
std::vector<const BufferEntry *> atPeak(const BufferTable &table, const llvm::DenseMap<int64_t, Lifetime> &live) {
  int64_t end = 0, peakStep = 0;
  for (auto [buffer, lifetime] : live)
    end = std::max(end, lifetime.last + 1);
  std::vector<uint64_t> bytes(end, 0);
  for (auto [buffer, lifetime] : live)
    for (int64_t step = lifetime.first; step <= lifetime.last; ++step)
      bytes[step] += table.buffers[buffer].bytes;
  for (int64_t step = 0; step < end; ++step)
    if (bytes[step] > bytes[peakStep])
      peakStep = step;
  std::vector<const BufferEntry *> found;
  for (auto [buffer, lifetime] : live)
    if (lifetime.first <= peakStep && peakStep <= lifetime.last)
      found.push_back(&table.buffers[buffer]);
  llvm::sort(found, [](const BufferEntry *a, const BufferEntry *b) {
    return a->bytes != b->bytes ? a->bytes > b->bytes : a->name < b->name;
  });
  if (found.size() > kPeakBuffers)
    found.resize(kPeakBuffers);
  return found;
}

} // namespace

FailureOr<plan::Certificate> makeCertificate(ModuleOp module) {
  FailureOr<BufferTable> table = BufferTable::read(module);
  if (failed(table))
    return failure();
  plan::Certificate certificate;
  for (ArenaClass arena : {ArenaClass::State, ArenaClass::Gradients, ArenaClass::Step, ArenaClass::Staging}) {
    uint64_t end = 0;
    for (const BufferEntry &buffer : table->buffers)
      if (buffer.arena == arena && buffer.offset)
        end = std::max(end, llvm::alignTo(*buffer.offset + buffer.bytes, kBufferAlignment));
    if (end == 0)
      continue;
    plan::Certificate::Class *entry = certificate.add_classes();
    entry->set_name(arenaName(arena).str());
    entry->set_bytes(end);
    certificate.set_total(certificate.total() + end);
  }
  certificate.set_library_overhead(kLibraryOverhead);
  uint64_t bound = 0;
  func::FuncOp largest;
  for (auto function : module.getOps<func::FuncOp>())
    if (auto attr = function->getAttrOfType<IntegerAttr>(kLowerBoundAttr);
        attr && static_cast<uint64_t>(attr.getInt()) >= bound) {
      bound = static_cast<uint64_t>(attr.getInt());
      largest = function;
    }
  certificate.set_live_lower_bound(bound);
  if (largest) {
    FailureOr<llvm::DenseMap<int64_t, Lifetime>> live = lifetimes(largest, *table);
    if (failed(live))
      return failure();
    for (const BufferEntry *buffer : atPeak(*table, *live)) {
      plan::Certificate::Class *entry = certificate.add_peak();
      entry->set_name(buffer->name);
      entry->set_bytes(buffer->bytes);
    }
  }
  if (auto step = module.lookupSymbol<func::FuncOp>("micro_step")) {
    double flops = 0;
    for (Operation &op : step.getBody().front().without_terminator())
      if (auto compute = dyn_cast<MoeOpInterface>(op);
          compute && compute.getBufferUse().kind == BufferUse::Kind::Compute)
        flops += compute.getCost().flops;
    certificate.set_flops_per_micro_step(flops);
  }
  return certificate;
}

} // namespace moe::codegen
