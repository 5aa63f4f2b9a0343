//===- RegionBuilder.cpp - Indexing maps of fused regions -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/analysis/RegionBuilder.h"

#include "codegen/analysis/FusionRules.h"
#include "ir/RetypeTensors.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"
#include <map>
#include <tuple>

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

using Index = SmallVector<AffineExpr>;

/// A guard that is false everywhere.
constexpr NodeId never = -2;

/// Walks the region backwards from its results: `value(v, index, guard)` is the node of element `index` of v. The node
/// need be right only where `guard` holds.
class Builder {
public:
  Builder(FusedOp op, RegionForm form) : op(op), form(form), graph(op.getContext()) { graph.op = op; }

  FailureOr<KernelGraph> build();

private:
  using Key = std::tuple<const void *, std::vector<const void *>, NodeId>;

  FailureOr<NodeId> value(Value v, const Index &index, NodeId guard);
  FailureOr<NodeId> compute(Value v, const Index &index, NodeId guard);
  FailureOr<NodeId> gather(GatherOp gather, const Index &index, NodeId guard);
  FailureOr<NodeId> pad(PadOp pad, const Index &index, NodeId guard);
  FailureOr<NodeId> concat(ConcatOp concat, const Index &index, NodeId guard);
  FailureOr<NodeId> reduce(ReduceOp reduce, const Index &index, NodeId guard);
  FailureOr<NodeId> map(Operation *def, const Index &index, NodeId guard);
  FailureOr<NodeId> choose(NodeId condition, Value yes, const Index &index, NodeId guard, NodeId no);

  NodeId append(Node node);
  NodeId zero(Type type);
  NodeId inRange(AffineExpr expr, int64_t low, int64_t high);
  NodeId divides(AffineExpr expr, int64_t divisor);
  NodeId both(NodeId a, NodeId b);

  LogicalResult makeSpace();
  Type boolType() { return IntegerType::get(op.getContext(), 1); }
  IndexSpace &space() { return graph.space; }

  FusedOp op;
  RegionForm form;
  KernelGraph graph;
  std::map<Key, NodeId> memo;
  std::map<std::tuple<int, int, const void *, NodeId>, NodeId> loads;
  std::map<NodeId, AffineExpr> symbolOf;
  /// Row-major position in the space, among the kept and among the reduced dimensions.
  AffineExpr linear, keptLinear, reducedLinear;
  int64_t elements = 1, kept = 1, reduced = 1;
};

int64_t countOf(Value v) {
  return typeOf(v).getNumElements();
}

NodeId Builder::append(Node node) {
  if (node.address) {
    node.dims |= graph.dimsOf(node.address);
    node.stage = std::max(node.stage, graph.stageOf(node.address));
  }
  auto absorb = [&](NodeId other) {
    node.dims |= graph.nodes[other].dims;
    node.stage = std::max(node.stage, graph.nodes[other].stage);
  };
  if (node.guard != noNode)
    absorb(node.guard);
  for (NodeId operand : node.operands)
    absorb(operand);
  if (node.kind == Node::Kind::Reduce) {
    node.dims &= ~graph.reductionDims;
    ++node.stage;
  }
  graph.nodes.push_back(std::move(node));
  return static_cast<NodeId>(graph.nodes.size()) - 1;
}

NodeId Builder::zero(Type type) {
  Node node(Node::Kind::Splat, type);
  node.constant = isa<FloatType>(type) ? Attribute(FloatAttr::get(type, 0.0)) : Attribute(IntegerAttr::get(type, 0));
  return append(std::move(node));
}

NodeId Builder::inRange(AffineExpr expr, int64_t low, int64_t high) {
  IndexRange range = space().range(expr);
  if (range.low >= low && range.high < high)
    return noNode;
  if (range.high < low || range.low >= high)
    return never;
  Node node(Node::Kind::InRange, boolType());
  node.address = expr;
  node.low = low;
  node.high = high;
  return append(std::move(node));
}

NodeId Builder::divides(AffineExpr expr, int64_t divisor) {
  AffineExpr rest = space().mod(expr, divisor);
  if (auto constant = dyn_cast<AffineConstantExpr>(rest))
    return constant.getValue() == 0 ? noNode : never;
  Node node(Node::Kind::Divides, boolType());
  node.address = expr;
  node.high = divisor;
  return append(std::move(node));
}

NodeId Builder::both(NodeId a, NodeId b) {
  if (a == never || b == never)
    return never;
  if (a == noNode || a == b)
    return b;
  if (b == noNode)
    return a;
  Node node(Node::Kind::And, boolType());
  node.operands = {a, b};
  return append(std::move(node));
}

FailureOr<NodeId> Builder::value(Value v, const Index &index, NodeId guard) {
  Key key{v.getAsOpaquePointer(), {}, guard};
  for (AffineExpr expr : index)
    std::get<1>(key).push_back(expr.getAsOpaquePointer());
  if (auto it = memo.find(key); it != memo.end())
    return it->second;
  FailureOr<NodeId> node = compute(v, index, guard);
  if (succeeded(node))
    memo.emplace(std::move(key), *node);
  return node;
}

FailureOr<NodeId> Builder::choose(NodeId condition, Value yes, const Index &index, NodeId guard, NodeId no) {
  NodeId active = both(guard, condition);
  if (active == never)
    return no;
  FailureOr<NodeId> chosen = value(yes, index, active);
  if (failed(chosen) || condition == noNode)
    return chosen;
  Node node(Node::Kind::Choose, typeOf(yes).getElementType());
  node.operands = {condition, *chosen, no};
  return append(std::move(node));
}

FailureOr<NodeId> Builder::compute(Value v, const Index &index, NodeId guard) {
  RankedTensorType type = typeOf(v);
  ArrayRef<int64_t> shape = type.getShape();
  Type element = type.getElementType();
  if (auto argument = dyn_cast<BlockArgument>(v)) {
    Node node(Node::Kind::Load, element);
    node.input = argument.getArgNumber();
    node.address = space().linearize(index, shape);
    node.guard = guard;
    auto [it, isNew] = loads.try_emplace({0, node.input, node.address.getAsOpaquePointer(), guard}, noNode);
    if (isNew)
      it->second = append(std::move(node));
    return it->second;
  }
  Operation *def = v.getDefiningOp();
  return TypeSwitch<Operation *, FailureOr<NodeId>>(def)
      .Case([&](ConstantOp constant) -> FailureOr<NodeId> {
        auto elements = dyn_cast<DenseElementsAttr>(constant.getValue());
        if (!elements)
          return def->emitOpError("inside a fused region needs dense elements");
        Node node(elements.isSplat() ? Node::Kind::Splat : Node::Kind::Table, element);
        if (elements.isSplat()) {
          node.constant = elements.getSplatValue<Attribute>();
        } else {
          node.constant = elements;
          node.address = space().linearize(index, shape);
          node.guard = guard;
        }
        return append(std::move(node));
      })
      .Case([&](IotaOp iota) -> FailureOr<NodeId> {
        Node node(Node::Kind::Index, element);
        node.address = index[iota.getDim()];
        return append(std::move(node));
      })
      .Case([&](RandomUniformOp random) -> FailureOr<NodeId> {
        FailureOr<NodeId> updates = value(random.getRng(), {space().constant(0)}, guard);
        FailureOr<NodeId> microBatch = value(random.getRng(), {space().constant(1)}, guard);
        if (failed(updates) || failed(microBatch))
          return failure();
        Node node(Node::Kind::Random, element, def);
        node.operands = {*updates, *microBatch};
        auto whole = random->getAttrOfType<DenseI64ArrayAttr>(kWholeShapeAttr);
        if (whole) {
          FailureOr<NodeId> start = value(random.getRng(), {space().constant(2)}, guard);
          if (failed(start))
            return failure();
          node.operands.push_back(*start);
        }
        node.address = space().linearize(index, whole ? whole.asArrayRef() : shape);
        return append(std::move(node));
      })
      .Case([&](BroadcastOp broadcast) {
        Index inner;
        for (int64_t dim : broadcast.getDims())
          inner.push_back(index[dim]);
        return value(broadcast.getInput(), inner, guard);
      })
      .Case([&](ReshapeOp reshape) {
        return value(reshape.getInput(),
                     space().delinearize(space().linearize(index, shape), typeOf(reshape.getInput()).getShape()),
                     guard);
      })
      .Case([&](TransposeOp transpose) {
        Index inner(index.size());
        for (auto [position, dim] : llvm::enumerate(transpose.getPermutation()))
          inner[dim] = index[position];
        return value(transpose.getInput(), inner, guard);
      })
      .Case([&](SliceOp slice) {
        Index inner;
        for (size_t d = 0; d < index.size(); ++d)
          inner.push_back(
              space().add(space().mul(index[d], slice.getStrides()[d]), space().constant(slice.getStarts()[d])));
        return value(slice.getInput(), inner, guard);
      })
      .Case([&](PadOp op) { return pad(op, index, guard); })
      .Case([&](ConcatOp op) { return concat(op, index, guard); })
      .Case([&](GatherOp op) { return gather(op, index, guard); })
      .Case([&](ReduceOp op) { return reduce(op, index, guard); })
      .Case([&](ElementwiseOpInterface) { return map(def, index, guard); })
      .Default([&](Operation *) -> FailureOr<NodeId> {
        return def->emitOpError("cannot be computed inside a fused region");
      });
}

FailureOr<NodeId> Builder::map(Operation *def, const Index &index, NodeId guard) {
  Node node(Node::Kind::Map, typeOf(def->getResult(0)).getElementType(), def);
  for (Value operand : def->getOperands()) {
    FailureOr<NodeId> id = value(operand, index, guard);
    if (failed(id))
      return failure();
    node.operands.push_back(*id);
  }
  return append(std::move(node));
}

FailureOr<NodeId> Builder::pad(PadOp pad, const Index &index, NodeId guard) {
  NodeId valid = noNode;
  Index inner;
  for (size_t d = 0; d < index.size(); ++d) {
    AffineExpr shifted = space().add(index[d], space().constant(-pad.getLow()[d]));
    int64_t step = pad.getInterior()[d] + 1, size = typeOf(pad.getInput()).getDimSize(d);
    valid = both(valid, inRange(shifted, 0, (size - 1) * step + 1));
    valid = both(valid, divides(shifted, step));
    inner.push_back(space().floorDiv(shifted, step));
  }
  return choose(valid, pad.getInput(), inner, guard, zero(typeOf(pad.getInput()).getElementType()));
}

FailureOr<NodeId> Builder::concat(ConcatOp concat, const Index &index, NodeId guard) {
  int64_t dim = concat.getDim(), offset = typeOf(concat.getResult()).getDimSize(dim);
  FailureOr<NodeId> result = noNode;
  for (Value piece : llvm::reverse(concat.getInputs())) {
    int64_t end = offset;
    offset -= typeOf(piece).getDimSize(dim);
    Index inner = index;
    inner[dim] = space().add(index[dim], space().constant(-offset));
    // Pieces are tried from the last to the first, so the lower end alone decides where a later piece exists.
    NodeId here = inRange(index[dim], offset, end);
    if (here == never)
      continue;
    if (*result == noNode) {
      result = value(piece, inner, both(guard, here));
    } else {
      result = choose(here, piece, inner, guard, *result);
    }
    if (failed(result))
      return failure();
  }
  return result;
}

FailureOr<NodeId> Builder::gather(GatherOp gather, const Index &index, NodeId guard) {
  size_t rank = typeOf(gather.getIndex()).getRank();
  FailureOr<NodeId> row = value(gather.getIndex(), Index(index.begin(), index.begin() + rank), guard);
  if (failed(row))
    return failure();
  // Negative rows read zeros by definition; rows behind the end too, so that no index leads out of the table.
  Node node(Node::Kind::RowExists, boolType());
  node.operands = {*row};
  node.high = typeOf(gather.getTable()).getDimSize(0);
  NodeId valid = append(std::move(node));
  auto [it, isNew] = symbolOf.try_emplace(*row);
  if (isNew) {
    it->second = space().addSymbol({0, typeOf(gather.getTable()).getDimSize(0) - 1});
    graph.symbolNodes.push_back(*row);
  }
  Index inner{it->second};
  inner.append(index.begin() + rank, index.end());
  return choose(valid, gather.getTable(), inner, guard, zero(typeOf(gather.getTable()).getElementType()));
}

FailureOr<NodeId> Builder::reduce(ReduceOp reduce, const Index &index, NodeId guard) {
  RankedTensorType input = typeOf(reduce.getInput());
  SmallVector<int64_t> shape;
  for (int64_t dim : reduce.getDims())
    shape.push_back(input.getDimSize(dim));
  int64_t count = ShapedType::getNumElements(shape);
  Index columns = space().delinearize(count == 1 ? space().constant(0) : reducedLinear, shape), inner(input.getRank());
  for (auto [position, dim] : llvm::enumerate(reduce.getDims()))
    inner[dim] = columns[position];
  size_t next = 0;
  for (AffineExpr &expr : inner)
    if (!expr)
      expr = index[next++];
  // One element: nothing to combine.
  if (count == 1)
    return value(reduce.getInput(), inner, guard);
  if (form == RegionForm::Pointwise)
    return reduce.emitOpError("cannot be computed by an emitter without reductions");
  if (count != reduced)
    return reduce.emitOpError() << "combines " << count << " elements, but the region's reductions combine " << reduced;
  for (AffineExpr expr : index)
    if (graph.dimsOf(expr) & graph.reductionDims)
      return reduce.emitOpError("is read at indices that vary along the reduced dimensions");
  if (form == RegionForm::ColumnReduce && space().linearize(index, typeOf(reduce.getResult()).getShape()) != keptLinear)
    return reduce.emitOpError("is read at other indices than those of the outputs");
  if (reduce.getKind() == ReduceKind::Sum && input.getElementType().isInteger(1))
    return reduce.emitOpError("sums booleans; cast them to an integer type first");
  FailureOr<NodeId> operand = value(reduce.getInput(), inner, guard);
  if (failed(operand))
    return failure();
  Node node(Node::Kind::Reduce, input.getElementType(), reduce);
  node.operands = {*operand};
  NodeId id = append(std::move(node));
  graph.reductions.push_back(id);
  if (form == RegionForm::ColumnReduce && graph.nodes[id].stage > 1)
    return reduce.emitOpError("depends on another reduction, which column_reduce cannot compute");
  return id;
}

LogicalResult Builder::makeSpace() {
  Operation *yield = op.getBody().front().getTerminator();
  SmallVector<int64_t> shape, keptShape, reducedShape;
  SmallVector<bool> isReduced;
  ReduceOp widest;
  if (form != RegionForm::Pointwise)
    op.getBody().walk([&](ReduceOp reduce) {
      if (countOf(reduce.getInput()) > countOf(reduce.getResult()) &&
          (!widest || countOf(reduce.getInput()) > countOf(widest.getInput())))
        widest = reduce;
    });
  if (widest) {
    llvm::append_range(shape, typeOf(widest.getInput()).getShape());
    isReduced.resize(shape.size());
    for (int64_t dim : widest.getDims())
      isReduced[dim] = true;
  } else {
    for (Value output : yield->getOperands())
      if (ArrayRef<int64_t> candidate = typeOf(output).getShape(); candidate.size() > shape.size())
        shape.assign(candidate.begin(), candidate.end());
    isReduced.resize(shape.size());
  }
  if (shape.size() > 60)
    return op.emitOpError("has a region of more than 60 dimensions");
  if (llvm::is_contained(shape, 0))
    return op.emitOpError("has a region without elements");
  Index all, keptIndex, reducedIndex;
  for (size_t d = 0; d < shape.size(); ++d) {
    AffineExpr dim = space().addDim(shape[d]);
    all.push_back(dim);
    (isReduced[d] ? reducedIndex : keptIndex).push_back(dim);
    (isReduced[d] ? reducedShape : keptShape).push_back(shape[d]);
    if (isReduced[d])
      graph.reductionDims |= uint64_t{1} << d;
  }
  elements = ShapedType::getNumElements(shape);
  kept = ShapedType::getNumElements(keptShape);
  reduced = ShapedType::getNumElements(reducedShape);
  linear = space().linearize(all, shape);
  keptLinear = space().linearize(keptIndex, keptShape);
  reducedLinear = space().linearize(reducedIndex, reducedShape);
  return success();
}

FailureOr<KernelGraph> Builder::build() {
  Block &body = op.getBody().front();
  for (BlockArgument argument : body.getArguments())
    if (!isKernelElementType(typeOf(argument).getElementType()))
      return op.emitOpError() << "reads elements of type " << typeOf(argument).getElementType()
                              << ", which kernels do not support";
  if (failed(makeSpace()))
    return failure();
  for (auto [number, output] : llvm::enumerate(body.getTerminator()->getOperands())) {
    ArrayRef<int64_t> shape = typeOf(output).getShape();
    int64_t count = countOf(output);
    if (!isKernelElementType(typeOf(output).getElementType()))
      return op.emitOpError() << "yields elements of type " << typeOf(output).getElementType()
                              << ", which kernels do not support";
    bool full = count == elements && (form != RegionForm::ColumnReduce || elements == kept);
    if (!full && count != kept)
      return op.emitOpError() << "yields result " << number << " with " << count << " elements; the region has "
                              << elements << " elements, " << kept << " after reduction";
    AffineExpr position = full ? linear : keptLinear;
    FailureOr<NodeId> node = value(output, space().delinearize(position, shape), noNode);
    if (failed(node))
      return failure();
    if (*node == never)
      return op.emitOpError("yields a value that is nowhere defined");
    graph.outputs.push_back({*node, position, graph.dimsOf(position)});
  }
  return std::move(graph);
}

} // namespace

std::optional<RegionForm> formOf(StringRef emitter) {
  return llvm::StringSwitch<std::optional<RegionForm>>(emitter)
      .Cases({"loop", "gather_scatter", "multi_tensor"}, RegionForm::Pointwise)
      .Case("row_reduce", RegionForm::RowReduce)
      .Case("column_reduce", RegionForm::ColumnReduce)
      .Default(std::nullopt);
}

FailureOr<KernelGraph> buildKernelGraph(FusedOp op) {
  std::optional<RegionForm> form = formOf(op.getEmitter());
  if (!form)
    return op.emitOpError() << "names the unknown emitter '" << op.getEmitter()
                            << "'; known: loop, gather_scatter, multi_tensor, row_reduce, column_reduce";
  return Builder(op, *form).build();
}

} // namespace moe::codegen
