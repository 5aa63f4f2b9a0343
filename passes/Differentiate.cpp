//===- Differentiate.cpp - Forward and backward in one block ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Reshard.h"
#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Passes.h"
#include "passes/TrainingAttributes.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_DIFFERENTIATE
#include "passes/Passes.h.inc"

namespace {

/// Moves `builder` behind the last operation that makes one of `values`; it stays where it is if none does.
void moveBehind(OpBuilder &builder, ArrayRef<Value> values) {
  Operation *last = nullptr;
  for (Value value : values)
    if (Operation *op = value.getDefiningOp(); op && (!last || last->isBeforeInBlock(op)))
      last = op;
  if (last)
    builder.setInsertionPointAfter(last);
}

/// Reverse-mode differentiation of one block of pure operations and state reads.
class ReverseSweep {
public:
  ReverseSweep(func::FuncOp function) : block(function.getBody().front()) {}

  /// Appends, at `builder`, the backward of `loss` with the given seed. Afterwards `gradient` answers for the reads of
  /// parameters. Fails at the first operation that has no adjoint, after naming all of them.
  LogicalResult run(OpBuilder &builder, Value loss, Value seed, ArrayRef<ReadOp> parameters) {
    findActive(loss, parameters);
    if (failed(checkDifferentiable()))
      return failure();
    contributions[loss].push_back(seed);
    // The forward part ends where the seed was created.
    SmallVector<Operation *> forward;
    for (Operation &op : block.without_terminator())
      forward.push_back(&op);
    for (Operation *op : llvm::reverse(forward))
      if (active.contains(op) && failed(differentiate(builder, op)))
        return failure();
    return success();
  }

  /// Moves `builder` to where all of what arrives at `value` is there.
  void moveBehindParts(OpBuilder &builder, Value value) {
    if (auto found = contributions.find(value); found != contributions.end())
      moveBehind(builder, found->second);
  }

  /// Sum of what arrived at `value`, or null for zero.
  Value gradient(OpBuilder &builder, Value value) {
    auto found = contributions.find(value);
    if (found == contributions.end() || found->second.empty())
      return {};
    SmallVector<Value> &parts = found->second;
    if (parts.size() > 1)
      parts = {AddNOp::create(builder, gradientLocation(value.getLoc()), ValueRange(SmallVector<Value>(parts)))};
    return parts.front();
  }

private:
  /// Active operations lie on a path from a parameter to the loss through floating-point values.
  void findActive(Value loss, ArrayRef<ReadOp> parameters) {
    llvm::DenseSet<Value> varied;
    for (ReadOp read : parameters)
      varied.insert(read.getResult());
    for (Operation &op : block) {
      if (llvm::none_of(op.getOperands(), [&](Value v) { return varied.contains(v); }))
        continue;
      for (Value result : op.getResults())
        if (isa<FloatType>(typeOf(result).getElementType()))
          varied.insert(result);
    }
    llvm::DenseSet<Value> useful{loss};
    for (Operation &op : llvm::reverse(block)) {
      if (llvm::none_of(op.getResults(), [&](Value v) { return useful.contains(v) && varied.contains(v); }))
        continue;
      active.insert(&op);
      for (Value operand : op.getOperands())
        if (varied.contains(operand))
          useful.insert(operand);
    }
    for (Value value : varied)
      if (useful.contains(value))
        needed.insert(value);
  }

  LogicalResult checkDifferentiable() {
    bool ok = true;
    for (Operation &op : block) {
      if (!active.contains(&op) || isa<DifferentiableOpInterface>(op) || op.getNumOperands() == 0)
        continue;
      auto described = dyn_cast<MoeOpInterface>(op);
      op.emitError() << "'" << op.getName() << "' lies between a trained parameter and the loss but has no gradient: "
                     << (described ? described.getObligations().adjoint : StringRef("unknown operation"));
      ok = false;
    }
    return success(ok);
  }

  LogicalResult differentiate(OpBuilder &builder, Operation *op) {
    auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
    if (!differentiable)
      return success();
    SmallVector<Value> resultGrads;
    for (Value result : op->getResults())
      resultGrads.push_back(gradient(builder, result));
    if (llvm::none_of(resultGrads, [](Value v) { return static_cast<bool>(v); }))
      return success();
    llvm::SmallBitVector operandsNeeded(op->getNumOperands());
    for (auto [i, operand] : llvm::enumerate(op->getOperands()))
      if (needed.contains(operand))
        operandsNeeded.set(i);
    SmallVector<Value> operandGrads(op->getNumOperands());
    Operation *before = block.getTerminator()->getPrevNode();
    if (failed(differentiable.buildAdjoint(builder, resultGrads, operandsNeeded, operandGrads)))
      return failure();
    for (Operation *made = before->getNextNode(); made != block.getTerminator(); made = made->getNextNode())
      made->setLoc(gradientLocation(op->getLoc()));
    for (auto [operand, gradient] : llvm::zip_equal(op->getOperands(), operandGrads))
      if (gradient && needed.contains(operand))
        contributions[operand].push_back(gradient);
    return success();
  }

  Block &block;
  llvm::DenseSet<Operation *> active;
  llvm::DenseSet<Value> needed;
  llvm::DenseMap<Value, SmallVector<Value>> contributions;
};

struct DifferentiatePass : impl::DifferentiateBase<DifferentiatePass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto forward = module.lookupSymbol<func::FuncOp>("forward");
    FailureOr<TrainingAttributes> training = TrainingAttributes::read(module);
    if (failed(training))
      return signalPassFailure();
    if (!forward || !llvm::hasSingleElement(forward.getBody())) {
      module.emitError("there is no function @forward of one block to differentiate");
      return signalPassFailure();
    }
    if (failed(makeMicroStep(module, forward, *training)))
      signalPassFailure();
  }

  LogicalResult makeMicroStep(ModuleOp module, func::FuncOp forward, const TrainingAttributes &training) {
    func::FuncOp step = forward.clone();
    step.setName("micro_step");
    step->setAttr(kProgramAttr, StringAttr::get(module.getContext(), "micro_step"));
    module.getBody()->getOperations().insertAfter(forward->getIterator(), step);

    auto terminator = cast<func::ReturnOp>(step.getBody().front().getTerminator());
    std::optional<unsigned> lossIndex = findResult(step, training.loss);
    if (!lossIndex) {
      InFlightDiagnostic error = forward.emitError() << "the model has no output '" << training.loss
                                                     << "' to minimise; outputs: " << resultNames(step);
      error.attachNote()
          << "try: --set loss.output=NAME, or --set 'loss.cross_entropy={logits: logits, labels: labels}' "
             "(keys of the recipe)";
      return error;
    }
    Value loss = terminator.getOperand(*lossIndex);
    if (typeOf(loss).getNumElements() != 1 || !isa<FloatType>(typeOf(loss).getElementType()))
      return forward.emitError() << "the loss '" << training.loss << "' must be one floating-point number, but it is "
                                 << loss.getType();
    OpBuilder builder(terminator);
    TensorBuilder b(builder, gradientLocation(loss.getLoc()));
    if (typeOf(loss).getRank() != 0)
      loss = b.reshape(loss, {});

    std::optional<unsigned> weightIndex = findResult(step, "loss_weight");
    Value weight = weightIndex ? terminator.getOperand(*weightIndex) : b.splatLike(loss, 1.0);
    weight = b.cast(weight, typeOf(loss).getElementType());
    MeshAttr mesh = MeshAttr::of(module);
    FailureOr<Value> counted = everywhere(builder, weight, mesh, getArgument());
    if (failed(counted))
      return failure();
    weight = *counted;
    FailureOr<Value> seed = seedFor(builder, loss, weight, mesh);
    if (failed(seed))
      return failure();

    SmallVector<ReadOp> parameters;
    for (ReadOp read : step.getOps<ReadOp>())
      if (module.lookupSymbol<StateOp>(read.getState()).getKind() == StateKind::Parameter)
        parameters.push_back(read);
    ReverseSweep sweep(step);
    if (failed(sweep.run(builder, loss, *seed, parameters)))
      return failure();

    StateWriter states(module, builder);
    // One parameter may be read several times.
    llvm::MapVector<StateOp, SmallVector<Value>> gradients;
    for (ReadOp read : parameters) {
      auto &parts = gradients[module.lookupSymbol<StateOp>(read.getState())];
      OpBuilder::InsertionGuard guard(builder);
      sweep.moveBehindParts(builder, read.getResult());
      if (Value gradient = sweep.gradient(builder, read.getResult()))
        parts.push_back(gradient);
    }
    for (auto &[parameter, parts] : gradients)
      writeGradient(builder, states, parameter, parts, training, mesh);
    accumulate(builder, states, step, loss, weight);

    terminator.getOperandsMutable().clear();
    step.setFunctionType(builder.getFunctionType(step.getArgumentTypes(), {}));
    step.removeResAttrsAttr();
    return success();
  }

  /// The weight in the dual of the loss's layout: where all ranks have the same loss, it is the gradient of one of
  /// them.
  FailureOr<Value> seedFor(OpBuilder &builder, Value loss, Value weight, MeshAttr mesh) {
    auto layout = dyn_cast_if_present<LayoutAttr>(gradientType(typeOf(loss), mesh).getEncoding());
    if (!layout || !mesh)
      return weight;
    return reshard(builder, weight, layout, mesh, getArgument());
  }

  /// Right where the gradient is complete, so that what it is made of need not be there until the end.
  void writeGradient(OpBuilder &builder, StateWriter &states, StateOp parameter, ArrayRef<Value> parts,
                     const TrainingAttributes &training, MeshAttr mesh) {
    std::string name = (parameter.getSymName() + ".grad").str();
    Location loc = NameLoc::get(builder.getStringAttr(name));
    OpBuilder::InsertionGuard guard(builder);
    moveBehind(builder, parts);
    TensorBuilder b(builder, loc);
    const RankedTensorType type = gradientType(parameter.getTensorType(), mesh);
    StateOp state = states.declare(name, type, StateKind::Gradient);
    state.setOfAttr(FlatSymbolRefAttr::get(parameter.getSymNameAttr()));
    Value gradient = parts.empty() ? b.splat(type, 0.0) : parts.front();
    if (parts.size() > 1)
      gradient = b.make<AddNOp>(ValueRange(parts));
    if (training.accumulate > 1)
      gradient = b.add(states.read(builder, loc, name), gradient);
    states.write(builder, loc, name, gradient);
  }

  /// Adds loss, weight and metrics to the sums of the update, and counts the micro-batch.
  void accumulate(OpBuilder &builder, StateWriter &states, func::FuncOp step, Value loss, Value weight) {
    auto terminator = cast<func::ReturnOp>(step.getBody().front().getTerminator());
    auto addTo = [&](StringRef name, Value value) {
      Location loc = NameLoc::get(builder.getStringAttr(name));
      TensorBuilder b(builder, loc);
      states.declare(name, typeOf(value), StateKind::Control, 0.0);
      states.write(builder, loc, name, b.add(states.read(builder, loc, name), value));
    };
    TensorBuilder b(builder, loss.getLoc());
    addTo("sum.loss", b.mul(loss, weight));
    addTo("sum.weight", weight);
    if (std::optional<unsigned> inner = findResult(step, "inner_loss_sum"))
      addTo("sum.inner_loss", b.reshape(terminator.getOperand(*inner), {}));
    if (std::optional<unsigned> aux = findResult(step, "aux_loss"))
      addTo("sum.aux_loss", b.mul(b.reshape(terminator.getOperand(*aux), {}), weight));
    if (std::optional<unsigned> metrics = findResult(step, "moe_metrics"))
      addTo("sum.moe_metrics", terminator.getOperand(*metrics));
    if (std::optional<unsigned> dropped = findResult(step, "moe_dropped"))
      addTo("sum.dropped", terminator.getOperand(*dropped));

    Location loc = NameLoc::get(builder.getStringAttr(kProgressState));
    auto type = states.progressType(typeOf(loss));
    states.declare(kProgressState, type, StateKind::Control, 0.0).setCheckpointed(true);
    TensorBuilder p(builder, loc);
    auto step01 = cast<ElementsAttr>(DenseElementsAttr::get(type, ArrayRef<int64_t>{0, 1}));
    Value one = ConstantOp::create(builder, loc, type, step01);
    states.write(builder, loc, kProgressState, p.add(states.read(builder, loc, kProgressState), one));
  }
};

} // namespace
} // namespace moe::ir
