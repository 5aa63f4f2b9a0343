//===- Index.cpp --------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Checks.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// The third argument of torch's embedding, as its exporter notes it in the call's text; absent or -1 if there is none.
std::optional<int64_t> paddingOfTorch(llvm::StringRef call) {
  auto [before, arguments] = call.split("target=torch.ops.aten.embedding.default](args = (");
  llvm::SmallVector<llvm::StringRef> words;
  arguments.take_until([](char c) { return c == ')'; }).split(words, ',');
  int64_t value = 0;
  if (words.size() < 3 || words[2].trim().getAsInteger(10, value) || value < 0)
    return std::nullopt;
  return value;
}

/// The row of an embedding that no gradient reaches: an attribute that ONNX does not have.
std::optional<int64_t> paddingIndex(NodeContext &n) {
  for (const onnx::StringStringEntryProto &entry : n.node.metadata_props()) {
    int64_t value = 0;
    if (entry.key() == "ai.moec.padding_index" && !llvm::StringRef(entry.value()).getAsInteger(10, value))
      return value;
    if (entry.key() == "pkg.torch.onnx.fx_node")
      return paddingOfTorch(entry.value());
  }
  return std::nullopt;
}

/// Rows of `table`; the one at `padding` comes from a copy of the table that no gradient reaches.
Value gatherRows(NodeContext &n, Value table, Value index, std::optional<int64_t> padding) {
  if (!padding)
    return n.make<ir::GatherOp>(table, index);
  Value none = n.splatLike(index, -1.0);
  Value hit = n.make<ir::CompareOp>(ir::ComparePredicate::EQ, index, n.splatLike(index, static_cast<double>(*padding)));
  Value constant = n.make<ir::ScaleGradientOp>(table, n.builder.getF64FloatAttr(0.0));
  Value trained = n.make<ir::GatherOp>(table, n.make<ir::SelectOp>(hit, none, index));
  return n.make<ir::AddOp>(trained, n.make<ir::GatherOp>(constant, n.make<ir::SelectOp>(hit, index, none)));
}

/// result[a…, i…, b…] = x[a…, index[i…], b…]: the axis is moved to the front and its place taken by the index's
/// dimensions.
void gather(NodeContext &n) {
  Value x = n.input(0), index = n.input(1);
  int64_t rank = n.rank(x), axis = n.axis("axis", 0, rank);
  if (!n.failed() && !isIndex(n.element(index)))
    n.fail("its indices are not integers of 32 or 64 bits");
  if (n.failed())
    return n.output(0, {});
  Shape extents = n.shape(x);
  const int64_t indexRank = n.rank(index);
  // A single known index is a slice: no table is read.
  if (std::optional<ir::HostTensor> known = n.program.evaluate(index); known && known->size() == 1) {
    int64_t position = n.normalizeAxis(known->ints[0], extents[axis]);
    Shape from(extents.size(), 0), to = extents, strides(extents.size(), 1), result = extents;
    from[axis] = position;
    to[axis] = position + 1;
    result.erase(result.begin() + axis);
    result.insert(result.begin() + axis, indexRank, 1);
    return n.output(0, n.failed() ? Value() : n.reshape(n.make<ir::SliceOp>(x, from, to, strides), result));
  }
  Shape toFront = {axis};
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      toFront.push_back(i);
  Value rows = gatherRows(n, n.transpose(x, toFront), wrapNegative(n, index, extents[axis]), paddingIndex(n));
  // Now [i…, a…, b…]; the a… dimensions go back to the front.
  Shape back;
  for (int64_t i = 0; i < axis; ++i)
    back.push_back(indexRank + i);
  for (int64_t i = 0; i < indexRank; ++i)
    back.push_back(i);
  for (int64_t i = indexRank + axis; i < indexRank + rank - 1; ++i)
    back.push_back(i);
  n.output(0, n.failed() ? Value() : n.transpose(rows, back));
}

void cumsum(NodeContext &n) {
  Value x = n.input(0);
  std::optional<double> axis = n.scalar(1);
  if (n.failed() || !axis)
    return n.output(0, {});
  int64_t dim = n.normalizeAxis(static_cast<int64_t>(*axis), n.rank(x));
  n.output(0, n.make<ir::CumsumOp>(x, dim, n.integer("exclusive", 0) != 0, n.integer("reverse", 0) != 0));
}

constexpr OpEntry kOps[] = {
    {"", "Gather", 1, gather},
    {"", "CumSum", 11, cumsum},
};

} // namespace

llvm::ArrayRef<OpEntry> indexOps() {
  return kOps;
}

} // namespace moe::frontend
