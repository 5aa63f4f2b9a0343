//===- StateAliases.cpp - Which states share memory -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/StateAliases.h"

using namespace mlir;

namespace moe::ir {

StateAliases::StateAliases(ModuleOp module) {
  for (StateOp state : module.getOps<StateOp>()) {
    Place place{state, state.getSymNameAttr(), 0, state.getTensorType().getNumElements()};
    if (state.getBucket()) {
      place.storage = state.getBucketAttr().getAttr();
      place.offset = static_cast<int64_t>(*state.getOffset());
    }
    places[state.getSymNameAttr()] = place;
  }
}

bool StateAliases::overlap(FlatSymbolRefAttr a, FlatSymbolRefAttr b) const {
  const Place &x = place(a), &y = place(b);
  return x.storage == y.storage && x.offset < y.offset + y.size && y.offset < x.offset + x.size;
}

} // namespace moe::ir
