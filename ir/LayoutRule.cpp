//===- LayoutRule.cpp - Layouts of results from layouts of operands -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/LayoutRule.h"
#include "ir/Infer.h"
#include "ir/LayoutPicture.h"
#include "ir/Ops.h"
#include "ir/Reshard.h"

using namespace mlir;

namespace moe::ir {

static LayoutRule::Dims parseDims(StringRef text) {
  LayoutRule::Dims dims;
  for (char letter : text)
    dims.push_back(letter == '.' ? LayoutRule::whole : letter);
  return dims;
}

LayoutRule LayoutRule::parse(ArrayRef<StringRef> operands, ArrayRef<StringRef> results) {
  LayoutRule rule;
  for (StringRef text : operands)
    rule.operands.push_back(parseDims(text));
  for (StringRef text : results)
    rule.results.push_back(parseDims(text));
  return rule;
}

LayoutRule LayoutRule::elementwise(int64_t rank, unsigned operands, unsigned results) {
  Dims dims;
  for (int64_t d = 0; d < rank; ++d)
    dims.push_back(static_cast<int>(d));
  LayoutRule rule;
  rule.operands.assign(operands, dims);
  rule.results.assign(results, dims);
  return rule;
}

LayoutRule &&LayoutRule::linearIn(SmallVector<unsigned, 2> set) && {
  linear.push_back(std::move(set));
  return std::move(*this);
}

LayoutRule &&LayoutRule::summing(StringRef factors) && {
  for (char letter : factors)
    summed.push_back(letter);
  return std::move(*this);
}

LayoutRule &&LayoutRule::partialAlong(StringRef factors, SmallVector<unsigned, 2> operands) && {
  for (char letter : factors)
    partialWith.push_back(letter);
  partialOperands = std::move(operands);
  return std::move(*this);
}

namespace {

/// How results lie on one axis: all partial, split at a factor, or neither.
struct AxisState {
  bool partial = false;
  int factor = LayoutRule::whole;
};

/// Derives and checks the layouts of one operation.
class Inference {
public:
  /// `values`: the operands, to name them, or nothing.
  Inference(std::optional<Location> loc, const LayoutRule &rule, TypeRange operands, ValueRange values)
      : loc(loc), rule(rule), types(operands), values(values) {}

  /// Finds the mesh; null if no operand has a layout.
  FailureOr<LayoutAttr> mesh() {
    LayoutAttr found;
    for (auto [i, type] : llvm::enumerate(types)) {
      Attribute encoding = cast<RankedTensorType>(type).getEncoding();
      if (!encoding)
        continue;
      auto layout = dyn_cast<LayoutAttr>(encoding);
      if (!layout)
        return emitOptionalError(loc, "operand ", i, " has an encoding that is no #moe.layout: ", encoding);
      if (found && found.getAxes() != layout.getAxes())
        return emitOptionalError(loc, "operands lie on different meshes: ", found, " and ", layout);
      for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
        if (layout.kind(axis) == AxisKind::Shard && layout.getDims()[axis] >= cast<RankedTensorType>(type).getRank())
          return emitOptionalError(loc, "operand ", i, " is split along a dimension that it does not have: ", type);
      found = layout;
    }
    return found;
  }

  FailureOr<AxisState> axis(unsigned axis) {
    AxisState state;
    SmallVector<unsigned> partial;
    std::optional<unsigned> splitter;
    for (auto [i, type] : llvm::enumerate(types)) {
      auto layout = dyn_cast_if_present<LayoutAttr>(cast<RankedTensorType>(type).getEncoding());
      if (!layout || layout.kind(axis) == AxisKind::Replicate)
        continue;
      if (layout.kind(axis) == AxisKind::Partial) {
        partial.push_back(i);
        continue;
      }
      int64_t dim = layout.getDims()[axis];
      int factor = rule.operands[i][dim];
      if (factor == LayoutRule::whole)
        return complain(axis, {i}, operand(axis, i), " is split along dimension ", dim,
                        ", which this operation needs whole: ", type, "; gather it first");
      if (splitter && factor != state.factor)
        return complain(axis, {i, *splitter}, operand(axis, i), " is split along another dimension than ",
                        operand(axis, *splitter), ": ", type, " and ", types[*splitter],
                        "; gather or exchange one of them");
      state.factor = factor;
      splitter = i;
    }
    if (splitter && failed(checkSplit(axis, *splitter, state.factor, partial)))
      return failure();
    if (!partial.empty() && !splitter) {
      if (!llvm::is_contained(rule.linear, ArrayRef<unsigned>(partial)))
        return complain(axis, {partial.front()}, operand(axis, partial.front()),
                        " is a partial sum: ", types[partial.front()],
                        rule.linear.empty() ? ", and this operation is not linear in it"
                                            : ", and this operation is linear only in other sets of operands",
                        "; reduce it over '", axisName(axis), "' first");
      state.partial = true;
    }
    return state;
  }

private:
  std::optional<Location> loc;
  const LayoutRule &rule;
  TypeRange types;
  ValueRange values;

  StringRef axisName(unsigned axis) {
    FailureOr<LayoutAttr> layout = mesh();
    return succeeded(layout) && *layout ? (*layout).getAxes()[axis].getValue() : "";
  }

  /// Always a failure, also where there is nowhere to report it. `about`: the operands, which are drawn.
  template <typename... Parts> LogicalResult complain(unsigned axis, ArrayRef<size_t> about, const Parts &...parts) {
    if (!loc)
      return failure();
    InFlightDiagnostic error = emitError(*loc);
    error << "on mesh axis '" << axisName(axis) << "' ";
    (error << ... << parts);
    for (size_t i : about)
      if (i < values.size())
        drawLayout(error, operand(axis, i), typeOf(values[i]), values[i].getParentRegion());
    return error;
  }

  /// "operand 0 ('the_tensor', from insert-fsdp)"
  std::string operand(unsigned axis, unsigned i) {
    return "operand " + std::to_string(i) + (i < values.size() ? describeOrigin(values[i], axis) : "");
  }

  LogicalResult checkSplit(unsigned axis, unsigned splitter, int factor, ArrayRef<unsigned> partial) {
    const bool wantsPartial = llvm::is_contained(rule.partialWith, factor);
    for (unsigned i : rule.partialOperands)
      if (wantsPartial && !llvm::is_contained(partial, i))
        return complain(axis, {splitter, i}, operand(axis, splitter), " is split, so ", operand(axis, i),
                        " must be what each rank has of it, a partial sum: ", types[splitter], " and ", types[i],
                        "; take the latter from as_partial or own_slots");
    if (wantsPartial)
      partial = {};
    if (!partial.empty())
      return complain(axis, {splitter, partial.front()}, operand(axis, splitter), " is split and ",
                      operand(axis, partial.front()), " a partial sum: ", types[splitter], " and ",
                      types[partial.front()], "; reduce the latter first");
    for (auto [i, type] : llvm::enumerate(types)) {
      auto layout = dyn_cast_if_present<LayoutAttr>(cast<RankedTensorType>(type).getEncoding());
      if (llvm::is_contained(rule.operands[i], factor) && (!layout || layout.kind(axis) != AxisKind::Shard))
        return complain(axis, {i, splitter}, operand(axis, i), " is whole where ", operand(axis, splitter),
                        " is split: ", type, " and ", types[splitter],
                        "; take a slice of the former or gather the latter");
    }
    for (const LayoutRule::Dims &dims : rule.results)
      if (!llvm::is_contained(dims, factor) && !llvm::is_contained(rule.summed, factor))
        return complain(axis, {splitter}, operand(axis, splitter),
                        " is split along a dimension that a result is neither split along nor a ",
                        "sum over: ", types[splitter], "; gather it first");
    return success();
  }
};

/// Kind and dimension of one axis of a result.
std::pair<AxisKind, int64_t> lies(const AxisState &state, const LayoutRule::Dims &dims) {
  if (state.partial)
    return {AxisKind::Partial, 0};
  if (state.factor == LayoutRule::whole)
    return {AxisKind::Replicate, 0};
  for (auto [d, factor] : llvm::enumerate(dims))
    if (factor == state.factor)
      return {AxisKind::Shard, static_cast<int64_t>(d)};
  return {AxisKind::Partial, 0};
}

} // namespace

std::string describeOrigin(Value value, unsigned axis) {
  std::string text;
  if (auto name = value.getLoc()->findInstanceOf<NameLoc>())
    text = "'" + name.getName().str() + "'";
  auto liesWhole = [&](Value other) {
    auto layout = dyn_cast_if_present<LayoutAttr>(typeOf(other).getEncoding());
    return !layout || layout.kind(axis) == AxisKind::Replicate;
  };
  // Up through what has the layout of its operands; far enough for any layer, without an end for none.
  Operation *op = value.getDefiningOp();
  for (int steps = 0; steps < 1000 && op; ++steps) {
    if (auto pass = op->getAttrOfType<StringAttr>(kInsertedByAttr)) {
      text += (text.empty() ? "from " : ", from ") + pass.getValue().str();
      break;
    }
    auto above = llvm::find_if_not(op->getOperands(), liesWhole);
    op = above == op->operand_end() ? nullptr : (*above).getDefiningOp();
  }
  return text.empty() ? text : " (" + text + ")";
}

static LogicalResult inferLayouts(std::optional<Location> loc, const LayoutRule &rule, TypeRange operands,
                                  ValueRange values, MutableArrayRef<Type> results) {
  Inference inference(loc, rule, operands, values);
  FailureOr<LayoutAttr> mesh = inference.mesh();
  if (failed(mesh))
    return failure();
  if (!*mesh)
    return success();
  SmallVector<SmallVector<int32_t>> kinds(results.size());
  SmallVector<SmallVector<int64_t>> dims(results.size());
  for (unsigned axis = 0; axis < (*mesh).getAxes().size(); ++axis) {
    FailureOr<AxisState> state = inference.axis(axis);
    if (failed(state))
      return failure();
    for (size_t r = 0; r < results.size(); ++r) {
      auto [kind, dim] = lies(*state, rule.results[r]);
      kinds[r].push_back(static_cast<int32_t>(kind));
      dims[r].push_back(dim);
    }
  }
  for (size_t r = 0; r < results.size(); ++r) {
    auto type = cast<RankedTensorType>(results[r]);
    results[r] = RankedTensorType::get(type.getShape(), type.getElementType(),
                                       LayoutAttr::get(type.getContext(), (*mesh).getAxes(), kinds[r], dims[r]));
  }
  return success();
}

LogicalResult inferLayouts(std::optional<Location> loc, const LayoutRule &rule, TypeRange operands,
                           MutableArrayRef<Type> results) {
  return inferLayouts(loc, rule, operands, {}, results);
}

LogicalResult inferLayouts(std::optional<Location> loc, const LayoutRule &rule, ValueRange operands,
                           MutableArrayRef<Type> results) {
  return inferLayouts(loc, rule, operands.getTypes(), operands, results);
}

RankedTensorType dualType(RankedTensorType type) {
  auto layout = dyn_cast_if_present<LayoutAttr>(type.getEncoding());
  if (!layout)
    return type;
  SmallVector<int32_t> kinds;
  for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis) {
    AxisKind kind = layout.kind(axis);
    AxisKind dual = kind == AxisKind::Replicate ? AxisKind::Partial
                    : kind == AxisKind::Partial ? AxisKind::Replicate
                                                : AxisKind::Shard;
    kinds.push_back(static_cast<int32_t>(dual));
  }
  return RankedTensorType::get(type.getShape(), type.getElementType(),
                               LayoutAttr::get(type.getContext(), layout.getAxes(), kinds, layout.getDims()));
}

LogicalResult verifyLayouts(Operation *op) {
  for (Type type : op->getResultTypes()) {
    Attribute encoding = cast<RankedTensorType>(type).getEncoding();
    auto layout = dyn_cast_if_present<LayoutAttr>(encoding);
    if (encoding && !layout)
      return op->emitOpError() << "has a result whose encoding is no #moe.layout: " << type;
    for (unsigned axis = 0; layout && axis < layout.getAxes().size(); ++axis)
      if (layout.kind(axis) == AxisKind::Shard && layout.getDims()[axis] >= cast<RankedTensorType>(type).getRank())
        return op->emitOpError() << "has a result that is split along a dimension that it does not have: " << type;
  }
  LayoutRule rule = cast<MoeOpInterface>(op).getLayoutRule();
  if (rule.free)
    return success();
  Inference inference(op->getLoc(), rule, op->getOperandTypes(), op->getOperands());
  FailureOr<LayoutAttr> mesh = inference.mesh();
  if (failed(mesh))
    return failure();
  for (auto [r, type] : llvm::enumerate(op->getResultTypes())) {
    auto actual = dyn_cast_if_present<LayoutAttr>(cast<RankedTensorType>(type).getEncoding());
    if (*mesh && (!actual || actual.getAxes() != (*mesh).getAxes()))
      return op->emitOpError() << "changes the layout: operands on the mesh of " << *mesh << ", result " << r << " "
                               << type;
    if (!*mesh && actual && op->getNumOperands() > 0)
      return op->emitOpError() << "changes the layout: operands on no mesh, result " << r << " " << type;
    // Without operands on a mesh, what is replicated is the rule, and parts of repeated values are allowed.
    for (unsigned axis = 0; actual && axis < actual.getAxes().size(); ++axis) {
      FailureOr<AxisState> state = *mesh ? inference.axis(axis) : FailureOr<AxisState>(AxisState());
      if (failed(state))
        return failure();
      auto [kind, dim] = lies(*state, rule.results[r]);
      if (kind == actual.kind(axis) && (kind != AxisKind::Shard || dim == actual.getDims()[axis]))
        continue;
      if (kind == AxisKind::Replicate && actual.kind(axis) == AxisKind::Shard &&
          actual.getDims()[axis] < static_cast<int64_t>(rule.results[r].size())) {
        int factor = rule.results[r][actual.getDims()[axis]];
        bool ofOperand =
            llvm::any_of(rule.operands, [&](const LayoutRule::Dims &dims) { return llvm::is_contained(dims, factor); });
        if (factor != LayoutRule::whole && !ofOperand)
          continue;
      }
      StringRef expected = kind == AxisKind::Shard     ? "split along a dimension of its operands"
                           : kind == AxisKind::Partial ? "a partial sum"
                                                       : "whole";
      return op->emitOpError() << "changes the layout on mesh axis '" << actual.getAxes()[axis].getValue()
                               << "': result " << r << " is " << expected << ", but its type says " << type;
    }
  }
  return success();
}

} // namespace moe::ir
