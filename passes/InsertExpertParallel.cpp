//===- InsertExpertParallel.cpp - Each rank has some of the experts -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Reshard.h"
#include "ir/TensorBuilder.h"
#include "passes/EmptySlots.h"
#include "passes/LayoutSweep.h"
#include "passes/Passes.h"
#include "passes/StackExperts.h"
#include "passes/TrainingAttributes.h"
#include "passes/recompose/ExpertStates.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_INSERTEXPERTPARALLEL
#include "passes/Passes.h.inc"

namespace {

constexpr StringLiteral kExpertAxis = "expert";
/// Dimensions of the rows [E,G,C,M] of experts.
constexpr int64_t kExperts = 0, kSlots = 2;

struct InsertExpertParallelPass : impl::InsertExpertParallelBase<InsertExpertParallelPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    MeshAttr mesh = MeshAttr::of(module);
    if (!mesh) {
      module.emitError("insert-expert-parallel needs a mesh; run shard first");
      return signalPassFailure();
    }
    if (mesh.ranks() == 1)
      return;
    SmallVector<func::FuncOp> programs;
    for (auto function : module.getOps<func::FuncOp>())
      if (function->hasAttr(kProgramAttr))
        programs.push_back(function);
    recompose::ExpertStates states;
    for (func::FuncOp program : programs)
      program.walk(
          [&](DispatchOp dispatch) { states.follow(dispatch.getRows(), partsOf(dispatch) > 1 ? kSlots : kExperts); });
    if (mesh.ranks(StringAttr::get(&getContext(), kExpertAxis)).value_or(1) > 1)
      for (StateOp stack : stackExperts(module, states.joins.getArrayRef()))
        states.found.insert({stack.getSymNameAttr(), 0});
    if (failed(splitStates(module, mesh, states)))
      return signalPassFailure();
    LayoutSweep sweep(module, mesh, getArgument());
    for (func::FuncOp program : programs) {
      bool ok = true;
      program.walk([&](DispatchOp dispatch) { ok &= succeeded(splitRows(dispatch, mesh)); });
      program.walk([&](GroupRowsOp table) { ok &= succeeded(splitTable(table, mesh)); });
      SmallVector<LayoutAttr> arguments;
      for (Type type : program.getArgumentTypes())
        arguments.push_back(cast<LayoutAttr>(cast<RankedTensorType>(type).getEncoding()));
      if (!ok || failed(sweep.run(program, arguments)))
        return signalPassFailure();
    }
  }

  static LogicalResult splitStates(ModuleOp module, MeshAttr mesh, const recompose::ExpertStates &states) {
    StateOp odd;
    int64_t oddExperts = 0, oddStates = 0;
    for (auto [name, dim] : states.found) {
      auto state = module.lookupSymbol<StateOp>(name);
      RankedTensorType type = state.getTensorType();
      auto layout = cast<LayoutAttr>(type.getEncoding());
      std::optional<unsigned> axis = layout.axis(kExpertAxis);
      if (!axis || mesh.getSizes()[*axis] == 1 || type.getDimSize(dim) == 1)
        continue;
      const int64_t ranks = mesh.getSizes()[*axis];
      if (type.getDimSize(dim) % ranks != 0) {
        if (!odd)
          odd = state;
        oddExperts = type.getDimSize(dim);
        ++oddStates;
        continue;
      }
      FailureOr<RankedTensorType> part =
          partType(state.getLoc(), wholeType(type, mesh), layout.with(*axis, AxisKind::Shard, dim), mesh);
      if (failed(part))
        return failure();
      state.setTypeAttr(TypeAttr::get(*part));
    }
    if (!odd)
      return success();
    auto diagnostic = odd.emitError() << "the " << oddExperts << " experts of '" << odd.getSymName() << "'";
    if (oddStates > 1)
      diagnostic << " and " << oddStates - 1 << " more tensors";
    return diagnostic << " do not divide among the " << *mesh.ranks(StringAttr::get(mesh.getContext(), kExpertAxis))
                      << " ranks of axis 'expert'; choose an --expert-parallel that divides them";
  }

  /// Parts of the table of rows, each of some experts, that `dispatch` fills; 1 if it is no such table.
  static int64_t partsOf(DispatchOp dispatch) {
    auto table = dispatch.getToken().getDefiningOp<GroupRowsOp>();
    return table ? static_cast<int64_t>(table.getParts()) : 1;
  }

  /// What ranks of an axis share of the rows: their experts, or slots, or, if these do not divide, experts whose
  /// parameters all ranks have. Where nothing divides they share slots after empty ones have been added. Absent where
  /// that cannot be: each rank then makes all rows.
  static std::optional<int64_t> dimToCut(DispatchOp dispatch, unsigned axis, MeshAttr mesh) {
    RankedTensorType token = typeOf(dispatch.getToken());
    auto layout = cast<LayoutAttr>(token.getEncoding());
    const int64_t ranks = mesh.getSizes()[axis];
    if (layout.getAxes()[axis].getValue() == kExpertAxis)
      return kExperts;
    if (token.getDimSize(kSlots) % ranks == 0)
      return kSlots;
    if (!isSplit(token, kExperts) && token.getDimSize(kExperts) % ranks == 0)
      return kExperts;
    const auto slots = static_cast<int64_t>(llvm::alignTo(token.getDimSize(kSlots), ranks));
    return succeeded(addEmptySlots(dispatch, slots, mesh)) ? std::optional<int64_t>(kSlots) : std::nullopt;
  }

  /// A table that was made in parts: each rank of the axis takes one, with the experts that it is of.
  static LogicalResult splitTable(GroupRowsOp table, MeshAttr mesh) {
    auto layout = cast<LayoutAttr>(typeOf(table.getToken()).getEncoding());
    const std::optional<unsigned> axis = layout.axis(kExpertAxis);
    const auto parts = static_cast<int64_t>(table.getParts());
    if (!axis || parts == 1 || parts != mesh.getSizes()[*axis] || layout.kind(*axis) != AxisKind::Replicate)
      return success();
    OpBuilder builder(table->getContext());
    builder.setInsertionPointAfter(table);
    TensorBuilder b(builder, table.getLoc());
    Value slot = table.getSlot(), token = table.getToken(), one = b.splatLike(slot, 0);
    FailureOr<OwnSlotsTypes> types =
        ownSlotsTypes(table.getLoc(), typeOf(slot), typeOf(token), kExpertAxis, parts, kSlots);
    if (failed(types))
      return failure();
    auto own = OwnSlotsOp::create(builder, table.getLoc(), types->choice, types->choice, types->token, one, slot, token,
                                  layout.getAxes()[*axis], builder.getI64IntegerAttr(kSlots));
    slot.replaceAllUsesExcept(own.getOwnSlot(), own);
    token.replaceAllUsesExcept(own.getOwnToken(), own);
    // All rows are of the one expert of the table; which rank has them is a part of that now.
    for (Operation *user : llvm::to_vector(own.getOwnToken().getUsers())) {
      OpOperand *expert = nullptr;
      if (auto dispatch = dyn_cast<DispatchOp>(user))
        expert = &dispatch.getExpertMutable();
      else if (auto combine = dyn_cast<CombineOp>(user))
        expert = &combine.getExpertMutable();
      if (!expert)
        return user->emitOpError("cannot read a table of rows in parts");
      builder.setInsertionPoint(user);
      RankedTensorType type = typeOf(expert->get());
      expert->set(b.reshape(own.getOwnExpert(), type.getShape()));
    }
    return success();
  }

  /// Where groups of tokens span ranks, each of them has gathered the tokens; it takes its part of the rows.
  static LogicalResult splitRows(DispatchOp dispatch, MeshAttr mesh) {
    auto rows = cast<LayoutAttr>(typeOf(dispatch.getRows()).getEncoding());
    OpBuilder builder(dispatch);
    for (unsigned axis = rows.getAxes().size(); axis-- > 0;) {
      const int64_t ranks = mesh.getSizes()[axis];
      // A single table for all experts is in blocks, which slots would cut.
      if (ranks == 1 || rows.kind(axis) != AxisKind::Replicate || typeOf(dispatch.getRows()).getDimSize(0) == 1)
        continue;
      const std::optional<int64_t> dim = dimToCut(dispatch, axis, mesh);
      if (!dim)
        continue;
      Value expert = dispatch.getExpert(), slot = dispatch.getSlot(), token = dispatch.getToken();
      FailureOr<OwnSlotsTypes> types =
          ownSlotsTypes(dispatch.getLoc(), typeOf(expert), typeOf(token), rows.getAxes()[axis].getValue(), ranks, *dim);
      if (failed(types))
        return failure();
      auto own = OwnSlotsOp::create(builder, dispatch.getLoc(), types->choice, types->choice, types->token, expert,
                                    slot, token, rows.getAxes()[axis], builder.getI64IntegerAttr(*dim));
      // Of the whole table remain metrics and the gradient of the gate.
      auto movesRows = [](OpOperand &use) { return isa<DispatchOp, CombineOp>(use.getOwner()); };
      expert.replaceUsesWithIf(own.getOwnExpert(), movesRows);
      slot.replaceUsesWithIf(own.getOwnSlot(), movesRows);
      token.replaceUsesWithIf(own.getOwnToken(), movesRows);
    }
    return success();
  }
};

} // namespace
} // namespace moe::ir
