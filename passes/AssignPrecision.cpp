//===- AssignPrecision.cpp - The compute type of the recipe -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Works before differentiation, so that gradients take the types of the values they belong to: a parameter stays
// float32 and is cast where a product reads it; the gradient that arrives at the cast is narrow, leaves it as float32
// and is accumulated and applied in float32 (master weights). Casts cost no memory traffic of their own: the fused
// kernels read and write the narrow type and compute in float32 between.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/targets/Targets.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "passes/Passes.h"

#include "llvm/ADT/DenseSet.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_ASSIGNPRECISION
#include "passes/Passes.h.inc"

namespace {

PrecisionRole roleOf(Operation *op) {
  auto described = dyn_cast<MoeOpInterface>(op);
  return described ? described.getPrecisionRole() : PrecisionRole::Keep;
}

/// Rewrites one function of one block.
class Narrowing {
public:
  Narrowing(func::FuncOp function, Type narrow)
      : block(function.getBody().front()), narrow(narrow), wide(Float32Type::get(function.getContext())) {}

  void run() {
    findExact();
    for (Operation &op : llvm::make_early_inc_range(block)) {
      PrecisionRole role = roleOf(&op);
      bool isNarrow = !exact.contains(&op) &&
                      (role == PrecisionRole::Compute || (role == PrecisionRole::Follow && followsNarrow(&op)));
      bool computes = false;
      for (OpOperand &operand : op.getOpOperands())
        if (Type element = elementOf(operand.get()); element && (element == narrow || element == wide)) {
          Type chosen = isNarrow ? narrow : wide;
          if (auto results = dyn_cast<func::ReturnOp>(&op))
            chosen = getElementTypeOrSelf(
                results->getParentOfType<func::FuncOp>().getResultTypes()[operand.getOperandNumber()]);
          computes = true;
          operand.set(convert(operand.get(), chosen, &op));
        }
      // An operation that the model itself computes in bfloat16 may have become wide.
      if (computes)
        retype(&op, isNarrow ? narrow : wide);
    }
  }

private:
  /// Gives `op`, whose operands have become tensors of `element`, the result types that it has by its own rule, or
  /// such.
  void retype(Operation *op, Type element) {
    SmallVector<Type> types;
    auto infers = dyn_cast<InferTypeOpInterface>(op);
    if (!infers ||
        failed(infers.inferReturnTypes(op->getContext(), op->getLoc(), op->getOperands(), op->getAttrDictionary(),
                                       op->getPropertiesStorage(), op->getRegions(), types)))
      for (Value result : op->getResults())
        types.push_back(elementOf(result) == (element == narrow ? wide : narrow) ? typeOf(result).clone(element)
                                                                                 : result.getType());
    for (auto [result, type] : llvm::zip_equal(op->getResults(), types))
      result.setType(type);
  }

  /// A narrow operand makes the result narrow, unless another one was computed in float32: the sum of a residual stream
  /// and what a layer adds to it stays wide, as in PyTorch. Parameters and constants are narrowed.
  bool followsNarrow(Operation *op) {
    return llvm::any_of(op->getOperands(), [&](Value operand) { return elementOf(operand) == narrow; }) &&
           llvm::none_of(op->getOperands(),
                         [&](Value operand) { return elementOf(operand) == wide && !isStored(operand); });
  }

  /// Is `value` a parameter or a constant, moved perhaps?
  static bool isStored(Value value) {
    Operation *source = value.getDefiningOp();
    if (!source || source->getNumOperands() == 0)
      return source != nullptr;
    return roleOf(source) == PrecisionRole::Follow && source->getNumOperands() == 1 && isStored(source->getOperand(0));
  }

  static Type elementOf(Value value) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    return type ? type.getElementType() : Type();
  }

  /// Products from which an exact operation takes its operands, through whatever only passes numbers on.
  void findExact() {
    SmallVector<Value> pending;
    for (Operation &op : block)
      if (roleOf(&op) == PrecisionRole::Exact)
        llvm::append_range(pending, op.getOperands());
    while (!pending.empty()) {
      Operation *source = pending.pop_back_val().getDefiningOp();
      if (!source || !exact.insert(source).second)
        continue;
      if (roleOf(source) == PrecisionRole::Follow)
        llvm::append_range(pending, source->getOperands());
    }
  }

  /// `value` as a tensor of `element`, cast once per value and type, right after its definition. What a reshape shows
  /// is narrowed before it: one kernel then computes and rounds it, and nothing stores it wide.
  Value convert(Value value, Type element, Operation *user) {
    if (elementOf(value) == element)
      return value;
    if (Value known = casts.lookup({value, element}))
      return known;
    OpBuilder builder(user);
    Operation *source = value.getDefiningOp();
    Value converted;
    if (auto reshape = dyn_cast_or_null<ReshapeOp>(source); reshape && element == narrow) {
      Value shown = convert(reshape.getInput(), element, reshape);
      builder.setInsertionPointAfter(reshape);
      converted = ReshapeOp::create(builder, value.getLoc(), typeOf(value).clone(element), shown);
    } else {
      if (source)
        builder.setInsertionPointAfter(source);
      else
        builder.setInsertionPointToStart(&block);
      converted = CastOp::create(builder, value.getLoc(), value, element);
    }
    casts[{value, element}] = converted;
    return converted;
  }

  Block &block;
  Type narrow, wide;
  llvm::DenseSet<Operation *> exact;
  llvm::DenseMap<std::pair<Value, Type>, Value> casts;
};

struct AssignPrecisionPass : impl::AssignPrecisionBase<AssignPrecisionPass> {
  using AssignPrecisionBase::AssignPrecisionBase;

  void runOnOperation() override {
    if (compute == "f32")
      return;
    if (compute != "bf16") {
      getOperation().emitError() << "precision.compute: " << compute
                                 << " is planned; f32 and bf16 are implemented, bf16 without a loss scale";
      return signalPassFailure();
    }
    Type narrow = BFloat16Type::get(&getContext());
    std::unique_ptr<codegen::KernelTarget> machine;
    if (!target.empty()) {
      std::string error;
      machine = codegen::createTarget(target, /*threads=*/1, error);
      if (!machine) {
        getOperation().emitError() << error;
        return signalPassFailure();
      }
      if (std::string why = machine->whyNotIn(narrow); !why.empty()) {
        getOperation().emitError() << "precision.compute: bf16 is not possible on " << target << ": " << why;
        return signalPassFailure();
      }
    }
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isExternal())
        Narrowing(function, narrow).run();
  }
};

} // namespace
} // namespace moe::ir
