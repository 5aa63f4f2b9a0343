//===- RegionSlice.cpp - Part of what a fused region computes -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/RegionSlice.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// Is `value`, as the region computes with it, what it is in memory?
bool isRounded(Value value) {
  Type element = typeOf(value).getElementType();
  return (!element.isBF16() && !element.isF16()) || isa<BlockArgument>(value) || isa<CastOp>(value.getDefiningOp());
}

BitVector only(unsigned bit, size_t size) {
  BitVector bits(size);
  bits.set(bit);
  return bits;
}

} // namespace

bool hasReductions(FusedOp fused) {
  return llvm::any_of(fused.getBody().front(), llvm::IsaPred<ReduceOp>);
}

FusedOp withResults(FusedOp fused, ArrayRef<Value> values) {
  OpBuilder builder(fused->getBlock(), std::next(fused->getIterator()));
  IRMapping mapping;
  SmallVector<Type> types(fused.getResultTypes());
  for (Value value : values)
    types.push_back(value.getType());
  auto wider = FusedOp::create(builder, fused.getLoc(), types, fused.getInputs(), fused.getEmitter());
  wider->setDiscardableAttrs(fused->getDiscardableAttrDictionary());
  fused.getBody().cloneInto(&wider.getBody(), mapping);
  Operation *yield = wider.getBody().front().getTerminator();
  for (Value value : values)
    yield->insertOperands(yield->getNumOperands(), mapping.lookup(value));
  return wider;
}

RegionSlice::RegionSlice(FusedOp fused, BitVector wanted, BitVector given)
    : fused(fused), wanted(std::move(wanted)), given(std::move(given)) {
  this->wanted.reset(this->given);
  walk();
}

RegionSlice::RegionSlice(FusedOp fused, unsigned wanted, BitVector given)
    : RegionSlice(fused, only(wanted, given.size()), given) {}

Value RegionSlice::yielded(unsigned result) const {
  return fused.getBody().front().getTerminator()->getOperand(result);
}

void RegionSlice::walk() {
  llvm::DenseMap<Value, Value> stored;
  for (unsigned result : given.set_bits())
    stored.try_emplace(yielded(result), fused.getResult(result));
  SmallVector<Value> work;
  for (unsigned result : wanted.set_bits())
    work.push_back(yielded(result));
  llvm::DenseSet<Value> seen;
  while (!work.empty()) {
    Value value = work.pop_back_val();
    if (!seen.insert(value).second)
      continue;
    if (auto argument = dyn_cast<BlockArgument>(value)) {
      outside[value] = fused.getInputs()[argument.getArgNumber()];
    } else if (auto found = stored.find(value); found != stored.end()) {
      outside[value] = found->second;
      exact &= isRounded(value);
    } else if (isa<ReduceOp>(value.getDefiningOp())) {
      missing.insert(value);
      exact &= isRounded(value);
    } else {
      body.insert(value.getDefiningOp());
      llvm::append_range(work, value.getDefiningOp()->getOperands());
    }
  }
  // In the order of the region, whatever the order of the walk.
  auto read = [&](Value value) {
    if (auto found = outside.find(value); found != outside.end())
      inputs.insert(found->second);
  };
  for (Operation &op : fused.getBody().front())
    if (body.contains(&op))
      llvm::for_each(op.getOperands(), read);
  for (unsigned result : wanted.set_bits())
    read(yielded(result));
}

std::vector<std::pair<unsigned, Value>> RegionSlice::build(OpBuilder &builder, const IRMapping &mapping,
                                                           SmallVectorImpl<Operation *> &made) const {
  llvm::MapVector<int64_t, SmallVector<unsigned>> bySize;
  for (unsigned result : wanted.set_bits())
    bySize[typeOf(fused.getResult(result)).getNumElements()].push_back(result);
  std::vector<std::pair<unsigned, Value>> values;
  for (const auto &[size, results] : bySize) {
    FusedOp region = buildRegion(builder, mapping, results);
    made.push_back(region);
    for (auto [result, value] : llvm::zip_equal(results, region.getResults()))
      values.push_back({result, value});
  }
  return values;
}

FusedOp RegionSlice::buildRegion(OpBuilder &builder, const IRMapping &mapping, ArrayRef<unsigned> results) const {
  // What these results need of the slice.
  RegionSlice part = *this;
  if (results.size() < wanted.count()) {
    BitVector bits(wanted.size());
    for (unsigned result : results)
      bits.set(result);
    part = RegionSlice(fused, bits, given);
  }
  SmallVector<Type> types =
      llvm::map_to_vector(results, [&](unsigned result) { return fused.getResult(result).getType(); });
  SmallVector<Value> operands =
      llvm::map_to_vector(part.inputs, [&](Value value) { return mapping.lookupOrDefault(value); });
  StringRef emitter = fused.getEmitter();
  if (hasReductions(fused))
    emitter = llvm::any_of(part.body, llvm::IsaPred<GatherOp>) ? "gather_scatter" : "loop";
  auto region = FusedOp::create(builder, fused.getLoc(), types, operands, emitter);
  Block *block = new Block;
  region.getBody().push_back(block);
  llvm::DenseMap<Value, Value> arguments;
  for (Value input : part.inputs)
    arguments[input] = block->addArgument(input.getType(), input.getLoc());
  IRMapping inner;
  for (auto [value, source] : part.outside)
    inner.map(value, arguments.lookup(source));
  OpBuilder b = OpBuilder::atBlockBegin(block);
  for (Operation &op : fused.getBody().front())
    if (part.body.contains(&op))
      b.clone(op, inner);
  YieldOp::create(b, fused.getLoc(),
                  llvm::map_to_vector(results, [&](unsigned result) { return inner.lookup(yielded(result)); }));
  return region;
}

} // namespace moe::ir
