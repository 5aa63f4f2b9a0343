//===- LayoutSweep.cpp - Layouts through a program, from its arguments and states on ------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/LayoutSweep.h"

#include "ir/Infer.h"
#include "ir/Reshard.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

#include <limits>

using namespace mlir;

namespace moe::ir {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

LayoutAttr layoutOf(Type type) {
  return cast<LayoutAttr>(cast<RankedTensorType>(type).getEncoding());
}

/// An operation as it was before the sweep reached it.
struct Before {
  Operation *op;
  LayoutRule rule;
  SmallVector<RankedTensorType> wholeResults;
  SmallVector<LayoutAttr> operands, results;
};

/// How the operands of an operation lie on one axis.
struct Way {
  struct Side {
    AxisKind kind = AxisKind::Replicate;
    int64_t dim = 0;
  };
  SmallVector<Side> operands;
  /// What the axis splits, if anything.
  int factor = LayoutRule::whole;
};

class Sweep {
public:
  Sweep(func::FuncOp function, MeshAttr mesh, StringRef insertedBy)
      : function(function), mesh(mesh), insertedBy(insertedBy), builder(function.getContext()) {}

  LogicalResult run(ModuleOp module, ArrayRef<LayoutAttr> arguments) {
    Block &block = function.getBody().front();
    std::vector<Before> program;
    for (Operation &op : block.without_terminator())
      program.push_back(describe(op));
    for (auto [argument, layout] : llvm::zip_equal(block.getArguments(), arguments)) {
      FailureOr<RankedTensorType> type = partType(argument.getLoc(), wholeType(typeOf(argument), mesh), layout, mesh);
      if (failed(type))
        return failure();
      argument.setType(*type);
    }
    for (const Before &before : program)
      if (failed(visit(module, before)))
        return failure();
    function.setFunctionType(
        builder.getFunctionType(block.getArgumentTypes(), block.getTerminator()->getOperandTypes()));
    return success();
  }

private:
  func::FuncOp function;
  MeshAttr mesh;
  StringRef insertedBy;
  OpBuilder builder;
  llvm::DenseMap<std::pair<Value, Attribute>, Value> resharded;
  /// Parameters that lie in parts, and what only renames or narrows them.
  llvm::DenseSet<Value> pinned;

  Before describe(Operation &op) {
    Before before{&op, cast<MoeOpInterface>(op).getLayoutRule(), {}, {}, {}};
    for (Value operand : op.getOperands())
      before.operands.push_back(layoutOf(operand.getType()));
    for (Type type : op.getResultTypes()) {
      before.wholeResults.push_back(wholeType(cast<RankedTensorType>(type), mesh));
      before.results.push_back(layoutOf(type));
    }
    return before;
  }

  LogicalResult visit(ModuleOp module, const Before &before) {
    Operation *op = before.op;
    builder.setInsertionPoint(op);
    if (auto read = dyn_cast<ReadOp>(op)) {
      read.getResult().setType(module.lookupSymbol<StateOp>(read.getState()).getTensorType());
      if (!layoutOf(read.getType()).isReplicated())
        pinned.insert(read.getResult());
      return success();
    }
    // What an earlier pass moved between ranks goes to the same place, from where it is now.
    if (isa<CollectiveOpInterface>(op) && op->getNumOperands() == 1)
      return again(op, before);
    if (before.rule.free || op->getNumOperands() == 0)
      return keep(op, before);
    return lay(op, before);
  }

  LogicalResult again(Operation *op, const Before &before) {
    FailureOr<Value> moved = bring(op->getOperand(0), before.results[0]);
    if (failed(moved))
      return failure();
    op->getResult(0).replaceAllUsesWith(*moved);
    op->erase();
    return success();
  }

  LogicalResult keep(Operation *op, const Before &before) {
    for (auto [operand, layout] : llvm::zip_equal(op->getOpOperands(), before.operands)) {
      FailureOr<Value> brought = bring(operand.get(), layout);
      if (failed(brought))
        return failure();
      operand.set(*brought);
    }
    return success();
  }

  LogicalResult lay(Operation *op, const Before &before) {
    SmallVector<LayoutAttr> wanted;
    for (Value operand : op->getOperands())
      wanted.push_back(layoutOf(operand.getType()));
    const LayoutAttr any = wanted.front();
    /// Parts into which the axes so far cut each factor.
    llvm::DenseMap<int, int64_t> cuts;
    for (unsigned axis = 0; axis < any.getAxes().size(); ++axis) {
      if (mesh.getSizes()[axis] == 1)
        continue;
      const std::optional<Way> way = cheapest(op, before, axis, cuts);
      if (!way)
        return op->emitError() << "'" << op->getName() << "' cannot lie on mesh axis '"
                               << any.getAxes()[axis].getValue() << "' with operands " << op->getOperandTypes();
      if (way->factor != LayoutRule::whole)
        cuts.try_emplace(way->factor, 1).first->second *= mesh.getSizes()[axis];
      for (auto [layout, side] : llvm::zip_equal(wanted, way->operands))
        layout = layout.with(axis, side.kind, side.dim);
    }
    bool stays = false;
    for (auto [operand, layout] : llvm::zip_equal(op->getOpOperands(), wanted)) {
      stays |= pinned.contains(operand.get());
      FailureOr<Value> brought = bring(operand.get(), layout);
      if (failed(brought))
        return failure();
      operand.set(*brought);
    }
    if (failed(retype(op, before.rule, before.wholeResults)))
      return failure();
    if (stays && op->getNumOperands() == 1)
      pinned.insert(op->result_begin(), op->result_end());
    return success();
  }

  /// Result types from those of the operands.
  LogicalResult retype(Operation *op, const LayoutRule &rule, ArrayRef<RankedTensorType> wholeResults) {
    SmallVector<Type> types(op->getResultTypes());
    if (failed(inferLayouts(op->getLoc(), rule, op->getOperands(), types)))
      return failure();
    for (auto [result, type, whole] : llvm::zip_equal(op->getResults(), types, wholeResults)) {
      FailureOr<RankedTensorType> part = partType(op->getLoc(), whole, layoutOf(type), mesh);
      if (failed(part))
        return failure();
      result.setType(*part);
    }
    cast<MoeOpInterface>(op).localize();
    return success();
  }

  //===--------------------------------------------------------------------------------------------------------------===//
  // Ways to lie on an axis
  //===--------------------------------------------------------------------------------------------------------------===//

  static SmallVector<Way> waysOf(const LayoutRule &rule) {
    SmallVector<Way> ways;
    const size_t count = rule.operands.size();
    ways.push_back({SmallVector<Way::Side>(count), LayoutRule::whole});
    for (const auto &set : rule.linear) {
      Way way{SmallVector<Way::Side>(count), LayoutRule::whole};
      for (unsigned i : set)
        way.operands[i].kind = AxisKind::Partial;
      ways.push_back(std::move(way));
    }
    SmallVector<int> seen;
    for (const LayoutRule::Dims &dims : rule.operands)
      for (int factor : dims) {
        if (factor == LayoutRule::whole || llvm::is_contained(seen, factor))
          continue;
        seen.push_back(factor);
        Way way{SmallVector<Way::Side>(count), factor};
        for (size_t i = 0; i < count; ++i)
          for (auto [d, other] : llvm::enumerate(rule.operands[i]))
            if (other == factor)
              way.operands[i] = {AxisKind::Shard, static_cast<int64_t>(d)};
        if (llvm::is_contained(rule.partialWith, factor))
          for (unsigned i : rule.partialOperands)
            way.operands[i] = {AxisKind::Partial};
        ways.push_back(std::move(way));
      }
    return ways;
  }

  /// Parts must be equal. That results are split along the factor or sums over it is for `inferLayouts` to say.
  bool isPossible(const Before &before, const Way &way, unsigned axis, const llvm::DenseMap<int, int64_t> &cuts) {
    if (way.factor == LayoutRule::whole)
      return true;
    auto found = cuts.find(way.factor);
    const int64_t parts = mesh.getSizes()[axis] * (found == cuts.end() ? 1 : found->second);
    for (auto [dims, whole] : llvm::zip_equal(before.rule.results, before.wholeResults))
      for (auto [d, factor] : llvm::enumerate(dims))
        if (factor == way.factor && whole.getDimSize(static_cast<int64_t>(d)) % parts != 0)
          return false;
    for (auto [i, side] : llvm::enumerate(way.operands))
      if (side.kind == AxisKind::Shard &&
          wholeType(typeOf(before.op->getOperand(i)), mesh).getDimSize(side.dim) % parts != 0)
        return false;
    return true;
  }

  double costOf(Value operand, const Way::Side &side, unsigned axis) {
    RankedTensorType type = typeOf(operand);
    LayoutAttr from = layoutOf(type), to = from.with(axis, side.kind, side.dim);
    if (from == to)
      return 0;
    // Integers add up to nothing, and parameters do not travel.
    bool sums = from.kind(axis) == AxisKind::Partial || side.kind == AxisKind::Partial;
    if ((sums && !isa<FloatType>(type.getElementType())) ||
        (pinned.contains(operand) && from.kind(axis) == AxisKind::Shard))
      return kNever;
    return reshardCost(type, to, mesh);
  }

  std::optional<Way> cheapest(Operation *op, const Before &before, unsigned axis,
                              const llvm::DenseMap<int, int64_t> &cuts) {
    std::optional<Way> best;
    double least = kNever;
    for (Way &way : waysOf(before.rule)) {
      if (!isPossible(before, way, axis, cuts))
        continue;
      double cost = 0;
      // Tables of a part are partial integers, so they go nowhere else.
      for (auto [operand, side] : llvm::zip_equal(op->getOperands(), way.operands))
        cost += costOf(operand, side, axis);
      if (cost < least) {
        least = cost;
        best = std::move(way);
      }
    }
    return best;
  }

  //===--------------------------------------------------------------------------------------------------------------===//
  // From where a value is to where it is needed
  //===--------------------------------------------------------------------------------------------------------------===//

  FailureOr<Value> bring(Value value, LayoutAttr to) {
    if (layoutOf(value.getType()) == to)
      return value;
    Value &known = resharded[{value, to}];
    if (known)
      return known;
    if (Value made = makeInParts(value, to))
      return resharded[{value, to}] = made;
    FailureOr<Value> moved = reshard(builder, value, to, mesh, insertedBy);
    if (failed(moved))
      return failure();
    return resharded[{value, to}] = *moved;
  }

  /// The operation behind `value` once more, on parts of its operands, if it is cheap and all that `to` asks for is to
  /// cut; null otherwise.
  Value makeInParts(Value value, LayoutAttr to) {
    Operation *op = value.getDefiningOp();
    LayoutAttr from = layoutOf(value.getType());
    if (!op || op->getNumResults() != 1 || !isPure(op) || isa<CollectiveOpInterface>(op))
      return {};
    const LayoutRule rule = cast<MoeOpInterface>(op).getLayoutRule();
    auto elements = static_cast<double>(typeOf(value).getNumElements());
    if (!rule.summed.empty() || cast<MoeOpInterface>(op).getCost().flops > elements ||
        (rule.free && op->getNumOperands() > 0))
      return {};
    SmallVector<LayoutAttr> operands;
    for (Value operand : op->getOperands())
      operands.push_back(layoutOf(operand.getType()));
    for (unsigned axis = 0; axis < from.getAxes().size(); ++axis) {
      if (from.with(axis, to.kind(axis), to.getDims()[axis]) == from)
        continue;
      if (from.kind(axis) != AxisKind::Replicate || to.kind(axis) != AxisKind::Shard)
        return {};
      const int factor = rule.free ? 0 : rule.results[0][to.getDims()[axis]];
      if (factor == LayoutRule::whole || llvm::is_contained(rule.partialWith, factor))
        return {};
      for (auto [i, layout] : llvm::enumerate(operands))
        for (auto [d, other] : llvm::enumerate(rule.operands[i]))
          if (other == factor)
            layout = layout.with(axis, AxisKind::Shard, static_cast<int64_t>(d));
    }
    FailureOr<RankedTensorType> type = partType(std::nullopt, wholeType(typeOf(value), mesh), to, mesh);
    if (failed(type))
      return {};
    for (auto [operand, layout] : llvm::zip_equal(op->getOperands(), operands))
      if (failed(partType(std::nullopt, wholeType(typeOf(operand), mesh), layout, mesh)))
        return {};
    SmallVector<Value> parts;
    for (auto [operand, layout] : llvm::zip_equal(op->getOperands(), operands)) {
      FailureOr<Value> part = bring(operand, layout);
      if (failed(part))
        return {};
      parts.push_back(*part);
    }
    Operation *clone = builder.clone(*op);
    clone->setOperands(parts);
    clone->getResult(0).setType(*type);
    cast<MoeOpInterface>(clone).localize();
    return clone->getResult(0);
  }
};

} // namespace

LayoutSweep::LayoutSweep(ModuleOp module, MeshAttr mesh, StringRef insertedBy)
    : module(module), mesh(mesh), insertedBy(insertedBy) {}

LogicalResult LayoutSweep::run(func::FuncOp function, ArrayRef<LayoutAttr> arguments) {
  return Sweep(function, mesh, insertedBy).run(module, arguments);
}

} // namespace moe::ir
