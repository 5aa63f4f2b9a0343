//===- CheapValues.cpp - Tensors that are cheaper to compute again than to keep -----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/CheapValues.h"

#include "codegen/analysis/Product.h"
#include "ir/Ops.h"
#include "passes/BufferTable.h"
#include "passes/RegionSlice.h"
#include "passes/Rematerialize.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// What a copy may read, in bytes of what it computes: it is bound by memory, and must stay small beside the products
/// that read its result.
constexpr uint64_t kMostReads = 4;

/// Is `value` the whole of a state that ranks have in parts?
bool isGathered(Value value) {
  auto gather = value.getDefiningOp<AllGatherOp>();
  return gather && viewedValue(gather.getInput()).getDefiningOp<ReadOp>();
}

bool isProduct(Operation &op) {
  auto fused = dyn_cast<FusedOp>(op);
  return fused ? codegen::isProduct(fused) : isa<DotOp>(op);
}

class CheapFinder {
public:
  CheapFinder(Block &block, const llvm::DenseSet<Operation *> &forward, const CheapOptions &options)
      : block(block), forward(forward), options(options) {}

  llvm::DenseSet<Value> run() {
    findReaders();
    // Later ones first: of a chain of functions its first value is the one that stays.
    for (Operation &op : llvm::reverse(block))
      if (forward.contains(&op))
        for (OpResult result : op.getResults())
          consider(result);
    return std::move(cheap);
  }

private:
  struct Readers {
    unsigned lastForward = 0;
    std::optional<unsigned> firstBackward;
    double flops = 0; ///< of the products among those in the backward
  };

  void findReaders() {
    unsigned step = 0;
    for (Operation &op : block) {
      if (isa<ReadOp>(op) || (op.getNumResults() == 1 && viewedValue(op.getResult(0)) != op.getResult(0)))
        continue;
      ++step;
      for (Value result : op.getResults())
        readers[result].lastForward = step;
      for (Value operand : op.getOperands()) {
        Readers &found = readers[viewedValue(operand)];
        if (forward.contains(&op)) {
          found.lastForward = step;
          continue;
        }
        found.firstBackward = found.firstBackward.value_or(step);
        if (isProduct(op))
          found.flops += cast<MoeOpInterface>(op).getCost().flops;
      }
    }
  }

  /// Is `value` in memory during the backward, whatever is computed again?
  bool isAtHand(Value value) const {
    Operation *op = value.getDefiningOp();
    if (!op || isa<ReadOp>(op) || isGathered(value))
      return true;
    return !cheap.contains(value) && readers.lookup(value).firstBackward.has_value();
  }

  void consider(OpResult result) {
    const Readers read = readers.lookup(result);
    uint64_t bytes = tensorBytes(typeOf(result));
    if (!read.firstBackward || pinned.contains(result) || bytes < options.minBytes ||
        *read.firstBackward < read.lastForward + options.minSteps)
      return;
    if (isGathered(result)) {
      cheap.insert(result);
      return;
    }
    auto fused = dyn_cast<FusedOp>(result.getOwner());
    if (!fused || codegen::isProduct(fused))
      return;
    BitVector given(fused.getNumResults());
    for (OpResult other : fused->getResults())
      if (other != result && !cheap.contains(other))
        given.set(other.getResultNumber());
    RegionSlice slice(fused, result.getResultNumber(), given);
    if (!slice.isExact() || slice.isSum())
      return;
    // A region with sums of which nothing is kept is computed again as a whole (Rematerialize.h).
    SmallVector<Value> operands(given.none() && hasReductions(fused) ? ValueRange(fused.getInputs())
                                                                     : ValueRange(slice.operands()));
    uint64_t reads = 0;
    bool isOfGathered = false; // and thus whole where it should not be for long
    for (Value operand : operands) {
      Value source = viewedValue(operand);
      if (!isAtHand(source))
        return;
      reads += tensorBytes(typeOf(operand));
      isOfGathered |= isGathered(source);
    }
    const double least = static_cast<double>(options.minFlops) * static_cast<double>(reads + bytes);
    if (reads > kMostReads * bytes || (!isOfGathered && read.flops > 0 && read.flops < least))
      return;
    const unsigned again = *read.firstBackward;
    for (Value operand : operands) {
      Value source = viewedValue(operand);
      if (isGathered(source)) {
        std::optional<unsigned> &first = readers[source].firstBackward;
        first = std::min(first.value_or(again), again);
      } else {
        pinned.insert(source);
      }
    }
    cheap.insert(result);
  }

  Block &block;
  const llvm::DenseSet<Operation *> &forward;
  CheapOptions options;
  llvm::DenseMap<Value, Readers> readers;
  llvm::DenseSet<Value> cheap, pinned;
};

} // namespace

llvm::DenseSet<Value> cheapValues(Block &block, const llvm::DenseSet<Operation *> &forward,
                                  const CheapOptions &options) {
  return CheapFinder(block, forward, options).run();
}

} // namespace moe::ir
