//===- StackExperts.cpp - One parameter of all experts instead of one for each ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "passes/StackExperts.h"

#include "ir/TensorBuilder.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace moe::ir {

namespace {

/// A read of a parameter and what is done to it before it is joined to others.
struct Chain {
  ReadOp read;
  SmallVector<Operation *> ops;
};

std::optional<Chain> chainTo(Value value) {
  Chain chain;
  while (value.hasOneUse() && value.getDefiningOp()) {
    Operation *op = value.getDefiningOp();
    if (auto read = dyn_cast<ReadOp>(op)) {
      chain.read = read;
      std::reverse(chain.ops.begin(), chain.ops.end());
      return chain;
    }
    if (!isa<ReshapeOp, TransposeOp, CastOp>(op))
      return std::nullopt;
    chain.ops.push_back(op);
    value = op->getOperand(0);
  }
  return std::nullopt;
}

bool areAlike(const Chain &a, const Chain &b) {
  return ReadOp(a.read).getType() == ReadOp(b.read).getType() && a.ops.size() == b.ops.size() &&
         llvm::all_of(llvm::zip_equal(a.ops, b.ops), [](auto pair) {
           auto [x, y] = pair;
           return x->getName() == y->getName() && x->getAttrDictionary() == y->getAttrDictionary() &&
                  x->getResultTypes() == y->getResultTypes();
         });
}

/// One join of parameters: of expert 0, 1, ...
struct Join {
  ConcatOp op;
  SmallVector<Chain> chains;

  static std::optional<Join> of(ConcatOp op) {
    Join join{op, {}};
    if (op.getDim() != 0 || op->getNumOperands() < 2)
      return std::nullopt;
    llvm::DenseSet<Attribute> states;
    for (Value part : op.getInputs()) {
      std::optional<Chain> chain = chainTo(part);
      if (!chain || typeOf(part).getDimSize(0) != 1 || !states.insert(chain->read.getStateAttr()).second ||
          (!join.chains.empty() && !areAlike(join.chains.front(), *chain)))
        return std::nullopt;
      join.chains.push_back(std::move(*chain));
    }
    return join;
  }

  ArrayAttr names() const {
    SmallVector<Attribute> names;
    for (const Chain &chain : chains)
      names.push_back(ReadOp(chain.read).getStateAttr());
    return ArrayAttr::get(ConcatOp(op).getContext(), names);
  }
};

RankedTensorType stackedType(RankedTensorType type, int64_t count) {
  SmallVector<int64_t> shape{count};
  llvm::append_range(shape, type.getShape());
  return withShape(type, shape);
}

/// The value of the stack where its members were joined.
void replace(const Join &join, StateOp stack) {
  ConcatOp op = join.op;
  const auto count = static_cast<int64_t>(join.chains.size());
  const Chain &first = join.chains.front();
  OpBuilder builder(ReadOp(first.read).getOperation());
  Value value = ReadOp::create(builder, stack.getLoc(), stack.getTensorType(), stack.getSymName());
  builder.setInsertionPoint(op);
  for (Operation *each : first.ops) {
    RankedTensorType type = stackedType(typeOf(each->getResult(0)), count);
    Location loc = each->getLoc();
    if (auto transpose = dyn_cast<TransposeOp>(each)) {
      SmallVector<int64_t> order{0};
      for (int64_t dim : transpose.getPermutation())
        order.push_back(dim + 1);
      value = TransposeOp::create(builder, loc, value, order);
    } else if (isa<CastOp>(each)) {
      value = CastOp::create(builder, loc, value, type.getElementType());
    } else {
      value = ReshapeOp::create(builder, loc, type, value);
    }
  }
  op.replaceAllUsesWith(ReshapeOp::create(builder, op.getLoc(), op.getType(), value).getResult());
  op.erase();
  for (const Chain &chain : join.chains) {
    for (Operation *each : llvm::reverse(chain.ops))
      each->erase();
    ReadOp(chain.read).erase();
  }
}

/// The states of `names`, if a stack can stand for them: alike, and nothing else knows them.
SmallVector<StateOp> membersOf(ModuleOp module, ArrayAttr names, const llvm::DenseMap<Attribute, int64_t> &reads,
                               size_t joins) {
  SmallVector<StateOp> members;
  for (auto name : names.getAsRange<FlatSymbolRefAttr>()) {
    auto state = module.lookupSymbol<StateOp>(name.getAttr());
    auto layout = dyn_cast_if_present<LayoutAttr>(state.getTensorType().getEncoding());
    if (state.getBucket() || state.getMembers() || state.getOf() || (layout && !layout.isReplicated()) ||
        static_cast<size_t>(reads.lookup(name)) != joins ||
        (!members.empty() &&
         (members.front().getType() != state.getType() || members.front().getKind() != state.getKind() ||
          members.front().getCheckpointed() != state.getCheckpointed())))
      return {};
    members.push_back(state);
  }
  return members;
}

StateOp stackOf(ArrayRef<StateOp> members) {
  StateOp first = members.front();
  OpBuilder builder(first);
  SmallVector<Attribute> described;
  for (StateOp member : members) {
    SmallVector<NamedAttribute> entry{builder.getNamedAttr("name", member.getSymNameAttr())};
    if (Attribute initial = member.getInitialAttr())
      entry.push_back(builder.getNamedAttr("initial", initial));
    described.push_back(builder.getDictionaryAttr(entry));
  }
  auto stack = cast<StateOp>(builder.clone(*first));
  stack.setSymName((first.getSymName() + ".stack").str());
  stack.setTypeAttr(TypeAttr::get(stackedType(first.getTensorType(), static_cast<int64_t>(members.size()))));
  stack.removeInitialAttr();
  stack.setMembersAttr(builder.getArrayAttr(described));
  stack->setLoc(NameLoc::get(stack.getSymNameAttr()));
  for (StateOp member : members)
    member.erase();
  return stack;
}

} // namespace

SmallVector<StateOp> stackExperts(ModuleOp module, ArrayRef<ConcatOp> joins) {
  llvm::MapVector<ArrayAttr, SmallVector<Join>> found;
  for (ConcatOp op : joins)
    if (std::optional<Join> join = Join::of(op))
      found[join->names()].push_back(std::move(*join));
  llvm::DenseMap<Attribute, int64_t> reads;
  module.walk([&](ReadOp read) { ++reads[read.getStateAttr()]; });
  SmallVector<StateOp> stacks;
  for (auto &[names, same] : found) {
    SmallVector<StateOp> members = membersOf(module, names, reads, same.size());
    if (members.empty() ||
        !llvm::all_of(same, [&](const Join &join) { return areAlike(same[0].chains[0], join.chains[0]); }))
      continue;
    StateOp stack = stackOf(members);
    for (const Join &join : same)
      replace(join, stack);
    stacks.push_back(stack);
  }
  return stacks;
}

} // namespace moe::ir
