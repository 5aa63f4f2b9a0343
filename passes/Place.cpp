//===- Place.cpp - Byte offsets in arenas -----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/BufferTable.h"
#include "passes/Passes.h"
#include "passes/Placement.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_PLACE
#include "passes/Passes.h.inc"

namespace {

struct PlacePass : impl::PlaceBase<PlacePass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<BufferTable> table = BufferTable::read(module);
    if (failed(table))
      return signalPassFailure();
    // What outlives programs lies side by side.
    std::map<ArenaClass, uint64_t> ends;
    for (BufferEntry &buffer : table->buffers) {
      if (buffer.arena == ArenaClass::Step)
        continue;
      uint64_t &end = ends[buffer.arena];
      buffer.offset = end;
      end = llvm::alignTo(end + buffer.bytes, kBufferAlignment);
    }
    for (auto function : module.getOps<func::FuncOp>()) {
      FailureOr<llvm::DenseMap<int64_t, Lifetime>> live = lifetimes(function, *table);
      if (failed(live))
        return signalPassFailure();
      std::vector<PlacementItem> items;
      std::vector<int64_t> indices;
      for (int64_t i = 0; i < static_cast<int64_t>(table->buffers.size()); ++i) {
        auto found = live->find(i);
        if (found == live->end())
          continue;
        uint64_t bytes = llvm::alignTo(std::max<uint64_t>(table->buffers[i].bytes, 1), kBufferAlignment);
        items.push_back({bytes, found->second.first, found->second.last});
        indices.push_back(i);
      }
      Placement placement = placeBuffers(items);
      for (auto [item, index] : llvm::enumerate(indices))
        table->buffers[index].offset = placement.offsets[item];
      function->setAttr(kLowerBoundAttr,
                        Builder(&getContext()).getI64IntegerAttr(static_cast<int64_t>(placement.lowerBound)));
    }
    table->write(module);
  }
};

} // namespace
} // namespace moe::ir
