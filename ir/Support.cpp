//===- Support.cpp - Helpers behind the interfaces of operations ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Support.h"

using namespace mlir;

namespace moe::ir {

AdjointReads AdjointReads::everything(Operation *op) {
  return {llvm::SmallBitVector(op->getNumOperands(), true), llvm::SmallBitVector(op->getNumResults(), true)};
}

AdjointReads AdjointReads::of(Operation *op, ArrayRef<unsigned> operands, ArrayRef<unsigned> results) {
  AdjointReads reads{llvm::SmallBitVector(op->getNumOperands()), llvm::SmallBitVector(op->getNumResults())};
  for (unsigned i : operands)
    reads.operands.set(i);
  for (unsigned i : results)
    reads.results.set(i);
  return reads;
}

BufferUse BufferUse::compute(Operation *op) {
  BufferUse use;
  if (auto pairs = op->getAttrOfType<DenseI64ArrayAttr>(kInPlaceAttr))
    for (int64_t i = 0; i + 1 < pairs.size(); i += 2)
      use.inPlace.push_back({static_cast<unsigned>(pairs[i]), static_cast<unsigned>(pairs[i + 1])});
  return use;
}

unsigned elementBytes(Type elementType) {
  return elementType.isInteger(1) ? 1 : elementType.getIntOrFloatBitWidth() / 8;
}

uint64_t tensorBytes(RankedTensorType type) {
  return static_cast<uint64_t>(type.getNumElements()) * elementBytes(type.getElementType());
}

double bytesMoved(Operation *op) {
  double bytes = 0;
  for (Value operand : op->getOperands())
    bytes += static_cast<double>(tensorBytes(typeOf(operand)));
  for (Value result : op->getResults())
    bytes += static_cast<double>(tensorBytes(typeOf(result)));
  return bytes;
}

Cost elementwiseCost(Operation *op) {
  Cost cost;
  for (Value result : op->getResults())
    cost.flops += static_cast<double>(typeOf(result).getNumElements());
  cost.bytes = bytesMoved(op);
  return cost;
}

} // namespace moe::ir
