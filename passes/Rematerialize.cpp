//===- Rematerialize.cpp - Computing values of the forward again in the backward ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Rematerialize.h"

#include "codegen/analysis/Product.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "passes/BufferTable.h"
#include "passes/RegionSlice.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// Named as what Differentiate makes.
bool isGradient(Operation *op) {
  std::string name = locationName(op->getLoc());
  return name == "grad" || StringRef(name).ends_with(".grad");
}

bool isView(Operation *op) {
  auto described = dyn_cast<MoeOpInterface>(op);
  return described && described.getBufferUse().kind == BufferUse::Kind::View;
}

Location againLocation(Location loc) {
  std::string name = locationName(loc);
  return name.empty() ? loc : Location(NameLoc::get(StringAttr::get(loc.getContext(), name + ".again")));
}

/// Copies operations of one block.
class Rematerializer {
public:
  Rematerializer(Block &block, llvm::DenseSet<Operation *> forward, llvm::DenseSet<Value> keep)
      : block(block), forward(std::move(forward)), keep(std::move(keep)) {}

  Rematerialized run() {
    settleRegions();
    for (Operation &op : block)
      position[&op] = position.size();
    findNeeded();
    for (Operation &op : llvm::make_early_inc_range(block))
      if (position.contains(&op) && !forward.contains(&op))
        supply(&op);
    dropUnread();
    return done;
  }

private:
  /// Must `value` be computed again where the backward reads it?
  bool isLost(Value value) const {
    Operation *op = value.getDefiningOp();
    return op && forward.contains(op) && !isa<ReadOp>(op) && !keep.contains(value);
  }

  BitVector keptResults(Operation *op) const {
    BitVector kept(op->getNumResults());
    for (OpResult result : op->getResults())
      if (keep.contains(result))
        kept.set(result.getResultNumber());
    return kept;
  }

  /// Decides for regions of which a part is kept what else has to be, and lets them store it.
  void settleRegions() {
    for (Operation &op : llvm::make_early_inc_range(block)) {
      auto fused = dyn_cast<FusedOp>(op);
      if (!fused || !forward.contains(&op) || codegen::isProduct(fused) || keptResults(&op).none())
        continue;
      keepInexact(fused);
      BitVector kept = keptResults(&op), lost = kept;
      lost.flip();
      llvm::SetVector<Value> sums;
      for (unsigned result : lost.set_bits()) {
        RegionSlice slice(fused, result, kept);
        sums.insert(slice.sums().begin(), slice.sums().end());
      }
      if (!sums.empty())
        storeSums(fused, sums.getArrayRef());
    }
  }

  /// Keeps results that are sums, or that cannot be computed from what is kept. The more is kept the more is read.
  void keepInexact(FusedOp fused) {
    bool changed = true;
    while (changed) {
      changed = false;
      for (OpResult result : fused->getResults()) {
        BitVector kept = keptResults(fused);
        RegionSlice slice(fused, result.getResultNumber(), kept);
        if (kept.test(result.getResultNumber()) || (slice.isExact() && !slice.isSum()))
          continue;
        keep.insert(result);
        changed = true;
      }
    }
  }

  /// Gives the region further results, which are kept.
  void storeSums(FusedOp fused, ArrayRef<Value> sums) {
    FusedOp wider = withResults(fused, sums);
    forward.erase(fused);
    forward.insert(wider);
    for (auto [before, after] : llvm::zip(fused.getResults(), wider.getResults()))
      if (keep.erase(before))
        keep.insert(after);
    for (OpResult result : wider->getResults().drop_front(fused.getNumResults()))
      keep.insert(result);
    fused->replaceAllUsesWith(wider->getResults().take_front(fused.getNumResults()));
    fused.erase();
  }

  /// What of `op` a copy computes, and from what.
  struct Copy {
    BitVector results;
    std::optional<RegionSlice> slice; ///< nothing: the whole operation
    SmallVector<Value> operands;
  };

  Copy planCopy(Operation *op, const BitVector &results) const {
    Copy copy{results, std::nullopt, {}};
    auto fused = dyn_cast<FusedOp>(op);
    if (fused && !codegen::isProduct(fused) && (keptResults(op).any() || !hasReductions(fused))) {
      copy.slice.emplace(fused, results, keptResults(op));
      copy.operands.assign(copy.slice->operands().begin(), copy.slice->operands().end());
    } else {
      copy.operands.assign(op->operand_begin(), op->operand_end());
    }
    return copy;
  }

  /// Which results of which operations the backward needs again, directly or by way of others.
  void findNeeded() {
    SmallVector<Value> work;
    for (Operation &op : block)
      if (!forward.contains(&op))
        llvm::append_range(work, op.getOperands());
    while (!work.empty()) {
      auto value = work.pop_back_val();
      if (!isLost(value))
        continue;
      auto result = cast<OpResult>(value);
      Copy &copy = copies.try_emplace(result.getOwner(), Copy{BitVector(result.getOwner()->getNumResults()), {}, {}})
                       .first->second;
      if (copy.results.test(result.getResultNumber()))
        continue;
      copy.results.set(result.getResultNumber());
      copy = planCopy(result.getOwner(), copy.results);
      llvm::append_range(work, copy.operands);
    }
  }

  /// Puts before `reader` the copies that it needs and that are not there yet.
  void supply(Operation *reader) {
    llvm::SetVector<Operation *> missing;
    SmallVector<Value> work(reader->getOperands());
    while (!work.empty()) {
      Value value = work.pop_back_val();
      if (!isLost(value) || again.contains(value) || !missing.insert(value.getDefiningOp()))
        continue;
      llvm::append_range(work, copies.find(value.getDefiningOp())->second.operands);
    }
    SmallVector<Operation *> ordered = missing.takeVector();
    llvm::sort(ordered, [&](Operation *a, Operation *b) { return position[a] < position[b]; });
    OpBuilder builder(reader);
    for (Operation *op : ordered)
      insertCopy(builder, op);
    for (OpOperand &operand : reader->getOpOperands())
      if (auto found = again.find(operand.get()); found != again.end())
        operand.set(found->second);
  }

  void insertCopy(OpBuilder &builder, Operation *op) {
    const Copy &copy = copies.find(op)->second;
    IRMapping mapping;
    for (Value operand : copy.operands)
      if (auto found = again.find(operand); found != again.end())
        mapping.map(operand, found->second);
    SmallVector<Operation *> made;
    if (copy.slice) {
      for (auto [result, value] : copy.slice->build(builder, mapping, made))
        again[op->getResult(result)] = value;
    } else {
      made.push_back(builder.clone(*op, mapping));
      for (auto [before, after] : llvm::zip(op->getResults(), made.back()->getResults()))
        if (!keep.contains(before))
          again[before] = after;
    }
    for (Operation *each : made) {
      each->setLoc(againLocation(op->getLoc()));
      each->setAttr(kRecomputedAttr, builder.getUnitAttr());
      if (isView(each))
        continue;
      ++done.operations;
      done.flops += cast<MoeOpInterface>(each).getCost().flops;
    }
  }

  /// Erases what nothing reads any more. Regions that sum stay as they are, since sums must not change.
  void dropUnread() {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block))) {
      if (!forward.contains(&op) || op.hasTrait<OpTrait::IsTerminator>() || !isMemoryEffectFree(&op))
        continue;
      if (op.use_empty()) {
        op.erase();
        continue;
      }
      auto fused = dyn_cast<FusedOp>(op);
      if (!fused || codegen::isProduct(fused) || hasReductions(fused))
        continue;
      BitVector read(op.getNumResults());
      for (OpResult result : op.getResults())
        if (!result.use_empty())
          read.set(result.getResultNumber());
      if (read.all())
        continue;
      OpBuilder builder(&op);
      SmallVector<Operation *> made;
      for (auto [result, value] : RegionSlice(fused, read, BitVector(read.size())).build(builder, IRMapping(), made))
        op.getResult(result).replaceAllUsesWith(value);
      op.erase();
    }
  }

  Block &block;
  llvm::DenseSet<Operation *> forward;
  llvm::DenseSet<Value> keep;
  llvm::DenseMap<Operation *, unsigned> position;
  llvm::DenseMap<Operation *, Copy> copies;
  llvm::DenseMap<Value, Value> again;
  Rematerialized done;
};

} // namespace

llvm::DenseSet<Operation *> forwardPart(Block &block) {
  auto module = block.getParentOp()->getParentOfType<ModuleOp>();
  llvm::DenseSet<Operation *> forward;
  SmallVector<Operation *> work;
  for (auto write : block.getOps<WriteOp>())
    if (module.lookupSymbol<StateOp>(write.getState()).getKind() != StateKind::Gradient)
      work.push_back(write);
  while (!work.empty()) {
    Operation *op = work.pop_back_val();
    if (op && forward.insert(op).second)
      for (Value operand : op->getOperands())
        work.push_back(operand.getDefiningOp());
  }
  for (Operation &op : block.without_terminator())
    if (!isa<WriteOp>(op) && !isGradient(&op) && !op.hasAttr(kRecomputedAttr) &&
        llvm::all_of(op.getOperands(), [&](Value operand) {
          return !operand.getDefiningOp() || forward.contains(operand.getDefiningOp());
        }))
      forward.insert(&op);
  return forward;
}

Value viewedValue(Value value) {
  while (value.getDefiningOp() && isView(value.getDefiningOp()))
    value = value.getDefiningOp()->getOperand(0);
  return value;
}

uint64_t bytesKept(Block &block, const llvm::DenseSet<Operation *> &forward) {
  llvm::DenseSet<Value> kept;
  for (Operation &op : block)
    if (!forward.contains(&op))
      for (Value value : op.getOperands()) {
        value = viewedValue(value);
        if (Operation *maker = value.getDefiningOp(); maker && forward.contains(maker) && !isa<ReadOp>(maker))
          kept.insert(value);
      }
  uint64_t bytes = 0;
  for (Value value : kept)
    bytes += tensorBytes(typeOf(value));
  return bytes;
}

Rematerialized rematerialize(Block &block, llvm::DenseSet<Operation *> forward, llvm::DenseSet<Value> keep) {
  return Rematerializer(block, std::move(forward), std::move(keep)).run();
}

} // namespace moe::ir
