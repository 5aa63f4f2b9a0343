//===- Fuse.cpp - Which operations one kernel computes ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// Walks a program backwards. Each operation that a kernel can compute joins the regions of its users where they agree
// on the iteration space, becomes an extra result of one of them if others read it too, or starts a region of its own.
// Operations that cost nothing to repeat (constants, indices, broadcasts) are copied into every region that reads them.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Fuse.h"

#include "codegen/analysis/FusionRules.h"
#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "passes/Passes.h"

using namespace mlir;
using moe::codegen::classifyFusible;
using moe::codegen::FusionRole;

namespace moe::ir {

#define GEN_PASS_DEF_FUSE
#include "passes/Passes.h.inc"

namespace {

bool isPrefix(ArrayRef<int64_t> prefix, ArrayRef<int64_t> shape) {
  return prefix.size() <= shape.size() && shape.take_front(prefix.size()) == prefix;
}

ArrayRef<int64_t> shapeOf(Value value) {
  return typeOf(value).getShape();
}

/// Costs nothing to compute again: no memory is read that its user would not read.
bool isFree(Operation *op) {
  FusionRole role = classifyFusible(op);
  return role == FusionRole::Source || isa<BroadcastOp>(op);
}

/// Runs over the trailing dimensions of its operand.
bool reducesTrailing(ReduceOp op) {
  SmallVector<int64_t> dims(op.getDims());
  llvm::sort(dims);
  int64_t rank = typeOf(op.getInput()).getRank();
  for (auto [i, dim] : llvm::enumerate(dims))
    if (dim != rank - static_cast<int64_t>(dims.size()) + static_cast<int64_t>(i))
      return false;
  return true;
}

/// A reduction to few numbers over much data, which its kernel cuts into chunks: it takes no epilogue.
bool isSplitReduction(ReduceOp op) {
  int64_t rows = op.getType().getNumElements();
  return rows < 64 && typeOf(op.getInput()).getNumElements() / std::max<int64_t>(rows, 1) > 4096;
}

struct Region {
  enum class Form { Pointwise, Rows, Columns };
  Form form = Form::Pointwise;
  /// Shape of full values.
  SmallVector<int64_t> space;
  /// Leading dimensions that rows keep; meaningful for Rows.
  size_t rowRank = 0;
  llvm::SetVector<Operation *> members;
  unsigned lastPosition = 0;

  ArrayRef<int64_t> rowShape() const { return ArrayRef<int64_t>(space).take_front(rowRank); }
};

class FusionPlanner {
public:
  explicit FusionPlanner(Block &block) : block(block) {
    for (Operation &op : block) {
      position[&op] = position.size();
      if (auto read = dyn_cast<ReadOp>(op))
        readsOf[read.getStateAttr().getAttr()].push_back(&op);
    }
  }

  std::vector<std::unique_ptr<Region>> run() {
    for (Operation &op : llvm::reverse(block)) {
      FusionRole role = classifyFusible(&op);
      if (role == FusionRole::None || isFree(&op) || op.use_empty() || isa<ReshapeOp>(op))
        continue;
      place(&op);
    }
    for (size_t i = 0, end = regions.size(); i < end; ++i)
      splitUnlessReducing(*regions[i]);
    // Free operations that something other than a region reads are regions of one operation.
    for (Operation &op : block)
      if (isFree(&op) &&
          llvm::any_of(op.getUsers(), [&](Operation *user) { return !regionsOf.count(user) && !isFree(user); }))
        start(&op);
    return std::move(regions);
  }

private:
  /// Users of a value, seen through free operations.
  void collectUsers(Value value, SmallVectorImpl<Operation *> &users) {
    for (Operation *user : value.getUsers()) {
      if (isFree(user))
        for (Value result : user->getResults())
          collectUsers(result, users);
      else
        users.push_back(user);
    }
  }

  void place(Operation *op) {
    SmallVector<Operation *> users;
    for (Value result : op->getResults())
      collectUsers(result, users);
    llvm::SetVector<Region *> readers;
    bool outside = false;
    for (Operation *user : users) {
      auto found = regionsOf.find(user);
      if (found == regionsOf.end())
        outside = true;
      else
        readers.insert(found->second.begin(), found->second.end());
    }
    SmallVector<Region *> takers;
    for (Region *region : readers)
      if (canJoin(op, *region, users))
        takers.push_back(region);
    llvm::sort(takers, [](Region *a, Region *b) { return a->lastPosition < b->lastPosition; });

    bool all = !outside && !takers.empty() && takers.size() == readers.size();
    if (all && (takers.size() == 1 || isWorthRepeating(op))) {
      for (Region *region : takers)
        join(op, *region);
      return;
    }
    if (Region *merged = all ? mergeUpdates(op, takers) : nullptr)
      return join(op, *merged);
    for (Region *region : takers)
      if (canBeOutput(op, *region) && staysConvex(op, *region, users))
        return join(op, *region, /*asOutput=*/true);
    start(op);
  }

  /// Makes one region of those that read `op`, if all of them do no more than update states, or all but one that the
  /// others do not depend on: what they share is then neither kept nor read again. So Adam's moments and parameters,
  /// each made of the values of the moments before the guard against overflow. Null: not possible.
  Region *mergeUpdates(Operation *op, ArrayRef<Region *> takers) {
    Region *target = nullptr;
    for (Region *region : takers) {
      if (region->form != Region::Form::Pointwise || shapeOf(op->getResult(0)) != ArrayRef<int64_t>(region->space))
        return nullptr;
      if (updatesStates(*region))
        continue;
      if (target)
        return nullptr;
      target = region;
    }
    if (!target)
      target = takers.back();
    else if (llvm::any_of(takers, [&](Region *region) { return region != target && leadsTo(*target, *region); }))
      return nullptr;
    for (Region *region : takers)
      if (region != target)
        merge(*region, *target);
    return target;
  }

  /// Do the results of a region go to states alone, none of which is read afterwards? Nothing depends on such a region.
  bool updatesStates(Region &region) {
    return llvm::all_of(region.members, [&](Operation *op) {
      SmallVector<Operation *> users;
      for (Value result : op->getResults())
        collectUsers(result, users);
      return llvm::all_of(users, [&](Operation *user) {
        return region.members.contains(user) || (isa<WriteOp>(user) && readsAfter(user).empty());
      });
    });
  }

  /// The reads of the state that `op` writes which follow it; none if it writes nothing.
  ArrayRef<Operation *> readsAfter(Operation *op) {
    auto write = dyn_cast<WriteOp>(op);
    auto reads = write ? readsOf.find(write.getStateAttr().getAttr()) : readsOf.end();
    if (reads == readsOf.end())
      return {};
    return ArrayRef<Operation *>(reads->second).drop_while([&](Operation *read) {
      return position[read] < position[op];
    });
  }

  void merge(Region &from, Region &into) {
    for (Operation *op : from.members) {
      SmallVector<Region *, 2> &holders = regionsOf[op];
      llvm::erase(holders, &from);
      if (into.members.insert(op))
        holders.push_back(&into);
    }
    into.lastPosition = std::max(into.lastPosition, from.lastPosition);
    llvm::erase_if(regions, [&](const std::unique_ptr<Region> &region) { return region.get() == &from; });
  }

  /// At most one operand is as large as the result: repeating the operation reads nothing more.
  bool isWorthRepeating(Operation *op) {
    if (!isa<AddOp, SubOp, MulOp, SelectOp, CastOp, NegOp, CompareOp, MaxOp, MinOp>(op))
      return false;
    int64_t size = typeOf(op->getResult(0)).getNumElements(), large = 0;
    for (Value operand : op->getOperands()) {
      Operation *producer = operand.getDefiningOp();
      bool small = producer && isFree(producer) &&
                   (producer->getNumOperands() == 0 || typeOf(producer->getOperand(0)).getNumElements() * 4 <= size);
      large += !small;
    }
    return large <= 1;
  }

  /// Is element i… read where i… are the leading indices of what is computed? Rows are computed one after another, so a
  /// value per row cannot be read across them, as by a broadcast of [n] along the columns of [n, n].
  static bool isReadByRow(Value value) {
    return llvm::all_of(value.getUsers(), [](Operation *user) {
      auto broadcast = dyn_cast<BroadcastOp>(user);
      if (!broadcast)
        return true;
      for (auto [i, dim] : llvm::enumerate(broadcast.getDims()))
        if (dim != static_cast<int64_t>(i))
          return false;
      return isReadByRow(broadcast.getResult());
    });
  }

  bool canJoin(Operation *op, Region &region, ArrayRef<Operation *> users) {
    ArrayRef<int64_t> shape = shapeOf(op->getResult(0)), space = region.space;
    if (shape != space && !llvm::all_of(op->getResults(), isReadByRow))
      return false;
    if (auto reduce = dyn_cast<ReduceOp>(op))
      return canReductionJoin(reduce, region);
    // Reads through slices, gathers and the like want their operands in memory.
    if (llvm::any_of(users, [&](Operation *user) {
          return region.members.contains(user) && classifyFusible(user) != FusionRole::Pointwise &&
                 !isa<ReduceOp>(user) && !isGatherIndex(op, user);
        }))
      return false;
    FusionRole role = classifyFusible(op);
    if (shape == space)
      return role == FusionRole::Pointwise || role == FusionRole::Indirect || role == FusionRole::Access;
    if (role != FusionRole::Pointwise)
      return false;
    if (region.form == Region::Form::Columns)
      return false;
    if (region.form == Region::Form::Rows)
      return shape == region.rowShape();
    // A value per row, computed once per row of a pointwise region.
    if (!isPrefix(shape, space) || shape.empty())
      return false;
    int64_t inner = 1;
    for (int64_t extent : space.drop_front(shape.size()))
      inner *= extent;
    return inner >= 8;
  }

  static bool isGatherIndex(Operation *op, Operation *user) {
    auto gather = dyn_cast<GatherOp>(user);
    return gather && gather.getIndex().getDefiningOp() == op && gather.getTable().getDefiningOp() != op;
  }

  bool canReductionJoin(ReduceOp reduce, Region &region) {
    if (!reducesTrailing(reduce) || isSplitReduction(reduce) || region.form == Region::Form::Columns)
      return false;
    ArrayRef<int64_t> operand = shapeOf(reduce.getInput()), rows = shapeOf(reduce);
    if (region.form == Region::Form::Rows)
      return operand == ArrayRef<int64_t>(region.space) && rows == region.rowShape();
    // A pointwise region over the operand's space that reads the result row by row, or one over the rows.
    return operand == ArrayRef<int64_t>(region.space) ||
           (rows == ArrayRef<int64_t>(region.space) && onlyPointwise(region));
  }

  static bool onlyPointwise(Region &region) {
    return llvm::all_of(region.members, [](Operation *op) { return classifyFusible(op) == FusionRole::Pointwise; });
  }

  bool canBeOutput(Operation *op, Region &region) {
    ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
    if (region.form == Region::Form::Columns)
      return false;
    if (shape == ArrayRef<int64_t>(region.space))
      return true;
    if (isa<ReduceOp>(op))
      return true;
    if (region.form == Region::Form::Rows)
      return shape == region.rowShape();
    return isPrefix(shape, region.space) && isMadeOfRows(op, region);
  }

  /// Is `op`, a value per row, computed from reductions over rows that `region`, which is pointwise, could do itself?
  /// So are the mean and the deviation of a norm, which its backward reads too.
  bool isMadeOfRows(Operation *op, Region &region) {
    return llvm::any_of(op->getOperands(), [&](Value operand) {
      Operation *producer = operand.getDefiningOp();
      if (!producer || shapeOf(operand) != shapeOf(op->getResult(0)))
        return false;
      if (auto reduce = dyn_cast<ReduceOp>(producer))
        return shapeOf(reduce.getInput()) == ArrayRef<int64_t>(region.space) && canReductionJoin(reduce, region);
      return classifyFusible(producer) == FusionRole::Pointwise && isMadeOfRows(producer, region);
    });
  }

  /// A region that has become one of rows for reductions which then found no place in it computes its values per row
  /// elsewhere: none of them depends on its full values.
  void splitUnlessReducing(Region &region) {
    if (region.form != Region::Form::Rows || llvm::any_of(region.members, llvm::IsaPred<ReduceOp>))
      return;
    region.form = Region::Form::Pointwise;
    SmallVector<Operation *> rows = llvm::filter_to_vector(
        region.members, [&](Operation *op) { return shapeOf(op->getResult(0)) == region.rowShape(); });
    auto own = std::make_unique<Region>();
    own->space.assign(region.rowShape().begin(), region.rowShape().end());
    for (Operation *op : rows) {
      region.members.remove(op);
      own->members.insert(op);
      own->lastPosition = std::max(own->lastPosition, position[op]);
      llvm::replace(regionsOf[op], &region, own.get());
    }
    regions.push_back(std::move(own));
  }

  /// What will be steps, on the way from one of them to all that depend on it: regions, and operations that are in
  /// none. A region reads a value of another one unless it holds a copy of the operation.
  struct Walk {
    llvm::DenseSet<void *> seen;
    SmallVector<Region *> regions;
    SmallVector<Operation *> plain;
  };

  void visitReader(Walk &walk, Operation *producer, Operation *user) {
    auto found = regionsOf.find(user);
    if (found == regionsOf.end()) {
      if (walk.seen.insert(user).second)
        walk.plain.push_back(user);
      return;
    }
    for (Region *reader : found->second)
      if (!reader->members.contains(producer) && walk.seen.insert(reader).second)
        walk.regions.push_back(reader);
  }

  bool arrives(Walk &walk, Region &target) {
    while (!walk.regions.empty() || !walk.plain.empty()) {
      if (walk.seen.contains(&target))
        return true;
      if (!walk.plain.empty()) {
        Operation *at = walk.plain.pop_back_val();
        for (Operation *user : at->getUsers())
          visitReader(walk, at, user);
        for (Operation *read : readsAfter(at))
          visitReader(walk, at, read);
        continue;
      }
      for (Operation *member : walk.regions.pop_back_val()->members)
        for (Operation *user : member->getUsers())
          visitReader(walk, member, user);
    }
    return walk.seen.contains(&target);
  }

  bool leadsTo(Region &from, Region &target) {
    Walk walk;
    walk.seen.insert(&from);
    walk.regions.push_back(&from);
    return arrives(walk, target);
  }

  /// May `op` become a result of `region`? Only if no other reader of it leads back into the region.
  bool staysConvex(Operation *op, Region &region, ArrayRef<Operation *> users) {
    Walk walk;
    walk.seen.insert(op);
    for (Operation *user : users) {
      auto found = regionsOf.find(user);
      if (found == regionsOf.end())
        visitReader(walk, op, user);
      else
        for (Region *reader : found->second)
          if (reader != &region && walk.seen.insert(reader).second)
            walk.regions.push_back(reader);
    }
    return !arrives(walk, region);
  }

  void join(Operation *op, Region &region, bool asOutput = false) {
    if (asOutput && region.form == Region::Form::Pointwise &&
        shapeOf(op->getResult(0)) != ArrayRef<int64_t>(region.space) && !isa<ReduceOp>(op)) {
      region.form = Region::Form::Rows;
      region.rowRank = typeOf(op->getResult(0)).getRank();
    }
    if (auto reduce = dyn_cast<ReduceOp>(op); reduce && region.form == Region::Form::Pointwise) {
      region.form = Region::Form::Rows;
      region.space.assign(shapeOf(reduce.getInput()).begin(), shapeOf(reduce.getInput()).end());
      region.rowRank = typeOf(reduce).getRank();
    }
    region.members.insert(op);
    regionsOf[op].push_back(&region);
  }

  void start(Operation *op) {
    auto region = std::make_unique<Region>();
    region->lastPosition = position[op];
    region->space.assign(shapeOf(op->getResult(0)).begin(), shapeOf(op->getResult(0)).end());
    if (auto reduce = dyn_cast<ReduceOp>(op)) {
      region->form = reducesTrailing(reduce) ? Region::Form::Rows : Region::Form::Columns;
      region->space.assign(shapeOf(reduce.getInput()).begin(), shapeOf(reduce.getInput()).end());
      region->rowRank = typeOf(reduce).getRank();
    }
    region->members.insert(op);
    regionsOf[op].push_back(region.get());
    regions.push_back(std::move(region));
  }

  Block &block;
  llvm::DenseMap<Operation *, unsigned> position;
  llvm::DenseMap<Attribute, SmallVector<Operation *, 2>> readsOf; ///< a state, in order
  llvm::DenseMap<Operation *, SmallVector<Region *, 2>> regionsOf;
  std::vector<std::unique_ptr<Region>> regions;
};

/// Moves regions of a block into `moe.fused` operations.
class Outliner {
public:
  explicit Outliner(Block &block) : block(block) {
    for (Operation &op : block)
      position[&op] = position.size();
  }

  void run(std::vector<std::unique_ptr<Region>> &regions) {
    llvm::DenseMap<Operation *, unsigned> copies;
    for (auto &region : regions)
      for (Operation *op : region->members)
        ++copies[op];
    // Which values must leave their region: read by something that has no copy of its own.
    for (auto &region : regions)
      outline(*region, regions, copies);
    for (auto &[from, to] : replacements)
      from.replaceAllUsesWith(to);
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
      if (op.use_empty() && isMemoryEffectFree(&op) && !op.hasTrait<OpTrait::IsTerminator>())
        op.erase();
  }

private:
  /// Is `value` read outside of the regions that compute it for themselves?
  bool escapes(Value value, Region &region) {
    SmallVector<Operation *> work(value.getUsers());
    while (!work.empty()) {
      Operation *user = work.pop_back_val();
      if (isFree(user) && !freeRoots.contains(user)) {
        llvm::append_range(work, user->getUsers());
        continue;
      }
      ArrayRef<Region *> readers = readersOf(user);
      if (readers.empty() ||
          llvm::any_of(readers, [&](Region *reader) { return !reader->members.contains(value.getDefiningOp()); }))
        return true;
    }
    return false;
  }

  ArrayRef<Region *> readersOf(Operation *op) {
    auto found = regionsOf.find(op);
    return found == regionsOf.end() ? ArrayRef<Region *>() : ArrayRef<Region *>(found->second);
  }

  void outline(Region &region, std::vector<std::unique_ptr<Region>> &regions,
               llvm::DenseMap<Operation *, unsigned> &copies) {
    if (regionsOf.empty())
      for (auto &each : regions) {
        for (Operation *op : each->members)
          regionsOf[op].push_back(each.get());
        if (each->members.size() == 1 && isFree(each->members.front()))
          freeRoots.insert(each->members.front());
      }
    // Members and the free operations they read, in order.
    llvm::SetVector<Operation *> body;
    SmallVector<Operation *> work(region.members.begin(), region.members.end());
    while (!work.empty()) {
      Operation *op = work.pop_back_val();
      if (!body.insert(op))
        continue;
      for (Value operand : op->getOperands())
        if (Operation *producer = operand.getDefiningOp(); producer && isFree(producer))
          work.push_back(producer);
    }
    SmallVector<Operation *> order(body.begin(), body.end());
    llvm::sort(order, [&](Operation *a, Operation *b) { return position[a] < position[b]; });

    SmallVector<Value> outputs;
    for (Operation *op : order) {
      if (!region.members.contains(op))
        continue;
      // Of the regions that hold a copy the first one is responsible for readers elsewhere.
      if (readersOf(op).front() != &region)
        continue;
      for (Value result : op->getResults())
        if (escapes(result, region))
          outputs.push_back(result);
    }
    if (outputs.empty())
      return;
    llvm::SetVector<Value> inputs;
    for (Operation *op : order)
      for (Value operand : op->getOperands())
        if (!operand.getDefiningOp() || !body.contains(operand.getDefiningOp()))
          inputs.insert(operand);

    Operation *last = order.back();
    for (Operation *op : region.members)
      if (position[op] > position[last])
        last = op;
    OpBuilder builder(last->getBlock(), std::next(last->getIterator()));
    SmallVector<Type> types = llvm::map_to_vector(outputs, [](Value v) { return v.getType(); });
    auto fused =
        FusedOp::create(builder, outputs.back().getLoc(), types, inputs.getArrayRef(), emitterOf(region, order));
    Block *inner = new Block;
    fused.getBody().push_back(inner);
    IRMapping mapping;
    for (Value input : inputs)
      mapping.map(input, inner->addArgument(input.getType(), input.getLoc()));
    OpBuilder innerBuilder = OpBuilder::atBlockBegin(inner);
    for (Operation *op : order)
      innerBuilder.clone(*op, mapping);
    YieldOp::create(innerBuilder, fused.getLoc(),
                    llvm::map_to_vector(outputs, [&](Value v) { return mapping.lookup(v); }));
    for (auto [output, result] : llvm::zip_equal(outputs, fused.getOutputs()))
      replacements.push_back({output, result});
  }

  static StringRef emitterOf(Region &region, ArrayRef<Operation *> order) {
    if (region.form == Region::Form::Rows)
      return "row_reduce";
    if (region.form == Region::Form::Columns)
      return "column_reduce";
    if (llvm::any_of(order, [](Operation *op) { return isa<GatherOp>(op); }))
      return "gather_scatter";
    return region.space.size() == 1 && region.space[0] > 1024 ? "multi_tensor" : "loop";
  }

  Block &block;
  llvm::DenseMap<Operation *, unsigned> position;
  llvm::DenseMap<Operation *, SmallVector<Region *, 2>> regionsOf;
  llvm::DenseSet<Operation *> freeRoots;
  SmallVector<std::pair<Value, Value>> replacements;
};

struct FusePass : impl::FuseBase<FusePass> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      Block &block = function.getBody().front();
      std::vector<std::unique_ptr<Region>> regions = FusionPlanner(block).run();
      Outliner(block).run(regions);
      if (failed(sortByDependencies(block)))
        return signalPassFailure();
    }
  }
};

} // namespace
} // namespace moe::ir
