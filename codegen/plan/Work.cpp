//===- Work.cpp - Operations as steps of a plan -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/plan/Work.h"

#include "codegen/analysis/Product.h"
#include "runtime/plan/Collectives.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

int64_t extent(RankedTensorType type, ArrayRef<int64_t> dims) {
  int64_t product = 1;
  for (int64_t d : dims)
    product *= type.getDimSize(d);
  return product;
}

/// Is `order` the identity over [0, rank), dimensions of size one left out of account?
bool isIdentity(RankedTensorType type, ArrayRef<int64_t> order) {
  SmallVector<int64_t> wide;
  for (int64_t d : order)
    if (type.getDimSize(d) != 1)
      wide.push_back(d);
  return llvm::is_sorted(wide);
}

SmallVector<int64_t> joined(ArrayRef<int64_t> a, ArrayRef<int64_t> b, ArrayRef<int64_t> c) {
  SmallVector<int64_t> all(a);
  llvm::append_range(all, b);
  llvm::append_range(all, c);
  return all;
}

} // namespace

FailureOr<GemmShape> gemmShape(DotOp dot) {
  RankedTensorType a = typeOf(dot.getLhs()), b = typeOf(dot.getRhs());
  SmallVector<int64_t> aFree = dot.lhsFree(), bFree = dot.rhsFree();
  GemmShape shape;
  shape.batch = extent(a, dot.getLhsBatch());
  shape.m = extent(a, aFree);
  shape.n = extent(b, bFree);
  shape.k = extent(a, dot.getLhsContract());
  if (isIdentity(a, joined(dot.getLhsBatch(), aFree, dot.getLhsContract())))
    shape.transposeA = false;
  else if (isIdentity(a, joined(dot.getLhsBatch(), dot.getLhsContract(), aFree)))
    shape.transposeA = true;
  else
    return failure();
  if (isIdentity(b, joined(dot.getRhsBatch(), dot.getRhsContract(), bFree)))
    shape.transposeB = false;
  else if (isIdentity(b, joined(dot.getRhsBatch(), bFree, dot.getRhsContract())))
    shape.transposeB = true;
  else
    return failure();
  return shape;
}

namespace {

LogicalResult fillGemm(DotOp dot, plan::Step &step) {
  FailureOr<GemmShape> shape = gemmShape(dot);
  if (failed(shape))
    return dot.emitOpError("has operands whose batch, free and contracted dimensions are not grouped in memory");
  plan::Gemm *gemm = step.mutable_gemm();
  gemm->set_batch(shape->batch);
  gemm->set_m(shape->m);
  gemm->set_n(shape->n);
  gemm->set_k(shape->k);
  gemm->set_transpose_a(shape->transposeA);
  gemm->set_transpose_b(shape->transposeB);
  gemm->set_lda(shape->transposeA ? shape->m : shape->k);
  gemm->set_ldb(shape->transposeB ? shape->k : shape->n);
  gemm->set_ldc(shape->n);
  gemm->set_stride_a(shape->m * shape->k);
  gemm->set_stride_b(shape->k * shape->n);
  gemm->set_stride_c(shape->m * shape->n);
  gemm->set_alpha(1.0f);
  gemm->set_beta(0.0f);
  return success();
}

LogicalResult fillProduct(FusedOp op, plan::Step &step) {
  FailureOr<Product> product = Product::of(op);
  if (failed(product))
    return op.emitOpError("does not hold what a library computes with a matrix product");
  if (failed(fillGemm(product->dot, step)))
    return failure();
  plan::Gemm *gemm = step.mutable_gemm();
  gemm->set_has_bias(product->bias.has_value());
  gemm->set_beta(product->accumulator ? 1.0f : 0.0f);
  if (product->relu)
    gemm->set_activation(plan::Gemm::RELU);
  return success();
}

/// Element types of A, B, C and the bias of a product; of the result of anything else.
SmallVector<Type> elementTypes(Operation *op) {
  SmallVector<Value> values;
  if (auto dot = dyn_cast<DotOp>(op))
    values = {dot.getLhs(), dot.getRhs(), dot};
  else if (auto fused = dyn_cast<FusedOp>(op)) {
    Product product = *Product::of(fused);
    values = {fused.getInputs()[product.lhs], fused.getInputs()[product.rhs], fused.getOutputs()[0]};
    if (product.bias)
      values.push_back(fused.getInputs()[*product.bias]);
  } else
    values = {op->getResult(0)};
  return llvm::map_to_vector(values, [](Value value) { return typeOf(value).getElementType(); });
}

template <typename OpTy> LogicalResult fillAttention(OpTy op, bool backward, plan::Step &step) {
  RankedTensorType q = typeOf(op.getQuery()), k = typeOf(op.getKey());
  plan::Attention *attention = step.mutable_attention();
  attention->set_backward(backward);
  attention->set_batch(q.getDimSize(0));
  attention->set_heads(q.getDimSize(2));
  attention->set_kv_heads(k.getDimSize(2));
  attention->set_queries(q.getDimSize(1));
  attention->set_keys(k.getDimSize(1));
  attention->set_head_dim(q.getDimSize(3));
  attention->set_scale(static_cast<float>(op.getScale().convertToDouble()));
  attention->set_causal(op.getCausal());
  attention->set_dropout(static_cast<float>(op.getRate().convertToDouble()));
  attention->set_seed(op.getSeed());
  attention->set_site(op.getSite());
  attention->set_has_padding(static_cast<bool>(op.getPadding()));
  attention->set_softcap(static_cast<float>(op.getSoftcap().convertToDouble()));
  attention->set_window(static_cast<int64_t>(op.getWindow()));
  return success();
}

void fillRouteShape(plan::Route *route, RankedTensorType probs, int64_t topK) {
  route->set_groups(probs.getDimSize(0));
  route->set_tokens(probs.getDimSize(1));
  route->set_experts(probs.getDimSize(2));
  route->set_top_k(topK);
}

LogicalResult fillRoute(RouteOp op, plan::Step &step) {
  plan::Route *route = step.mutable_route();
  fillRouteShape(route, typeOf(op.getLogits()), static_cast<int64_t>(op.getTopK()));
  route->set_capacity(static_cast<int64_t>(op.getCapacity()));
  route->set_policy(static_cast<plan::Route::Policy>(op.getPolicy()));
  route->set_normalize_before_dropping(op.getNormalizeBeforeDropping());
  route->set_batch_prioritized(op.getBatchPrioritized());
  route->set_has_mask(static_cast<bool>(op.getMask()));
  return success();
}

LogicalResult fillRouteBackward(RouteBackwardOp op, plan::Step &step) {
  plan::Route *route = step.mutable_route();
  fillRouteShape(route, typeOf(op.getProbs()), typeOf(op.getExpert()).getDimSize(2));
  route->set_backward(true);
  route->set_normalize_before_dropping(op.getNormalizeBeforeDropping());
  return success();
}

/// Tables of rows lie behind each other, and so do their blocks.
void fillBlocks(plan::GroupedGemm *gemm, Value rows, Value blockExpert) {
  RankedTensorType table = typeOf(rows), blocks = typeOf(blockExpert);
  gemm->set_blocks(blocks.getNumElements());
  gemm->set_block_rows(table.getDimSize(1) / blocks.getDimSize(1));
  gemm->set_left(table.getDimSize(2));
}

/// Each rank has the rows of one part.
LogicalResult verifyOnePart(Operation *op, int64_t experts, uint64_t partExperts) {
  if (partExperts != 0 && static_cast<int64_t>(partExperts) != experts)
    return op->emitOpError() << "has rows of " << experts / static_cast<int64_t>(partExperts)
                             << " parts of a table; insert-expert-parallel leaves one to each rank";
  return success();
}

LogicalResult fillGroupedDot(GroupedDotOp op, plan::Step &step) {
  plan::GroupedGemm *gemm = step.mutable_grouped_gemm();
  fillBlocks(gemm, op.getRows(), op.getBlockExpert());
  gemm->set_right(op.getType().getDimSize(2));
  gemm->set_experts(op.experts());
  gemm->set_transposed(op.getTransposed());
  gemm->set_separate(op.isSeparate());
  return verifyOnePart(op, op.experts(), op.getPartExperts());
}

LogicalResult fillGroupedDotWeightGrad(GroupedDotWeightGradOp op, plan::Step &step) {
  plan::GroupedGemm *gemm = step.mutable_grouped_gemm();
  fillBlocks(gemm, op.getLhs(), op.getBlockExpert());
  gemm->set_weight_grad(true);
  gemm->set_right(typeOf(op.getRhs()).getDimSize(2));
  gemm->set_experts(static_cast<int64_t>(op.getExperts()));
  gemm->set_separate(op.getSeparate());
  return verifyOnePart(op, static_cast<int64_t>(op.getExperts()), op.getPartExperts());
}

LogicalResult fillScatterAdd(ScatterAddOp op, plan::Step &step) {
  plan::ScatterAdd *scatter = step.mutable_scatter_add();
  RankedTensorType table = op.getType();
  scatter->set_rows(typeOf(op.getIndex()).getNumElements());
  scatter->set_table_rows(table.getDimSize(0));
  scatter->set_width(table.getDimSize(0) == 0 ? 0 : table.getNumElements() / table.getDimSize(0));
  scatter->set_accumulate(static_cast<bool>(op.getInit()));
  return success();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Between ranks
//===----------------------------------------------------------------------------------------------------------------===//

/// Numbers of the axes in the mesh, and the ranks of a group.
struct Group {
  SmallVector<uint32_t> axes;
  int64_t ranks = 1;
};

Group groupOf(CollectiveOpInterface op) {
  Group group;
  MeshAttr mesh = MeshAttr::of(op->getParentOfType<ModuleOp>());
  for (StringAttr name : op.groupAxes())
    for (auto [i, axis] : llvm::enumerate(mesh.getAxes()))
      if (axis == name) {
        group.axes.push_back(static_cast<uint32_t>(i));
        group.ranks *= mesh.getSizes()[i];
      }
  return group;
}

/// How a dimension of `type` falls into parts, each `size` long.
void setParts(plan::Parts *parts, RankedTensorType type, int64_t dim, int64_t size) {
  int64_t outer = 1, inner = size;
  for (int64_t d = 0; d < dim; ++d)
    outer *= type.getDimSize(d);
  for (int64_t d = dim + 1; d < type.getRank(); ++d)
    inner *= type.getDimSize(d);
  parts->set_outer(outer);
  parts->set_inner(inner);
}

/// `split` and `concat`: dimensions, or -1.
LogicalResult fillCollective(CollectiveOpInterface op, plan::Collective::Kind kind, int64_t split, int64_t concat,
                             plan::Step &step) {
  const Group group = groupOf(op);
  plan::Collective *collective = step.mutable_collective();
  collective->set_kind(kind);
  for (uint32_t axis : group.axes)
    collective->add_axes(axis);
  RankedTensorType input = typeOf(op->getOperand(0)), output = typeOf(op->getResult(0));
  collective->set_count(input.getNumElements());
  if (split >= 0)
    setParts(collective->mutable_split(), input, split, input.getDimSize(split) / group.ranks);
  if (concat >= 0)
    setParts(collective->mutable_concat(), output, concat, output.getDimSize(concat) / group.ranks);
  collective->set_scratch_bytes(
      collectiveScratchBytes(*collective, toPlanType(input.getElementType()), static_cast<uint64_t>(group.ranks)));
  return success();
}

/// The part of a rank along `dim` of `whole`, or back.
LogicalResult fillAxisSlice(CollectiveOpInterface op, RankedTensorType whole, int64_t dim, bool pad, plan::Step &step) {
  const Group group = groupOf(op);
  plan::AxisSlice *slice = step.mutable_axis_slice();
  for (uint32_t axis : group.axes)
    slice->add_axes(axis);
  setParts(slice->mutable_parts(), whole, dim, whole.getDimSize(dim) / group.ranks);
  slice->set_pad(pad);
  return success();
}

LogicalResult fillAsPartial(AsPartialOp op, plan::Step &step) {
  for (uint32_t axis : groupOf(op).axes)
    step.mutable_as_partial()->add_axes(axis);
  return success();
}

void setScratchBytes(plan::Step &step, uint64_t bytes) {
  switch (step.work_case()) {
  case plan::Step::kGemm:
    return step.mutable_gemm()->set_scratch_bytes(bytes);
  case plan::Step::kAttention:
    return step.mutable_attention()->set_scratch_bytes(bytes);
  case plan::Step::kRoute:
    return step.mutable_route()->set_scratch_bytes(bytes);
  case plan::Step::kGroupedGemm:
    return step.mutable_grouped_gemm()->set_scratch_bytes(bytes);
  case plan::Step::kScatterAdd:
    return step.mutable_scatter_add()->set_scratch_bytes(bytes);
  default:
    return;
  }
}

} // namespace

LogicalResult fillLibraryWork(Operation *op, const KernelTarget &target, plan::Step &step) {
  step.set_flops(cast<MoeOpInterface>(op).getCost().flops);
  LogicalResult filled =
      TypeSwitch<Operation *, LogicalResult>(op)
          .Case([&](DotOp dot) { return fillGemm(dot, step); })
          .Case([&](FusedOp fused) { return fillProduct(fused, step); })
          .Case([&](AttentionOp attention) {
            step.mutable_attention()->set_has_sinks(static_cast<bool>(attention.getSinks()));
            return fillAttention(attention, false, step);
          })
          .Case([&](AttentionBackwardOp attention) { return fillAttention(attention, true, step); })
          .Case([&](RouteOp route) { return fillRoute(route, step); })
          .Case([&](RouteBackwardOp route) { return fillRouteBackward(route, step); })
          .Case([&](GroupedDotOp dot) { return fillGroupedDot(dot, step); })
          .Case([&](GroupedDotWeightGradOp grad) { return fillGroupedDotWeightGrad(grad, step); })
          .Case([&](ScatterAddOp scatter) { return fillScatterAdd(scatter, step); })
          .Case([&](AllReduceOp all) { return fillCollective(all, plan::Collective::ALL_REDUCE, -1, -1, step); })
          .Case([&](AllGatherOp all) {
            return fillCollective(all, plan::Collective::ALL_GATHER, -1, static_cast<int64_t>(all.getDim()), step);
          })
          .Case([&](ReduceScatterOp all) {
            return fillCollective(all, plan::Collective::REDUCE_SCATTER, static_cast<int64_t>(all.getDim()), -1, step);
          })
          .Case([&](AllToAllOp all) {
            return fillCollective(all, plan::Collective::ALL_TO_ALL, static_cast<int64_t>(all.getTo()),
                                  static_cast<int64_t>(all.getFrom()), step);
          })
          .Case([&](AllSliceOp cut) {
            return fillAxisSlice(cut, typeOf(cut.getInput()), static_cast<int64_t>(cut.getDim()), false, step);
          })
          .Case([&](PadSliceOp pad) {
            return fillAxisSlice(pad, pad.getType(), static_cast<int64_t>(pad.getDim()), true, step);
          })
          .Case([&](AsPartialOp part) { return fillAsPartial(part, step); })
          .Case([&](BucketJoinOp) {
            // The first of its steps (StepEmitter::emitJoin).
            step.mutable_fill();
            return success();
          })
          .Default([&](Operation *other) {
            bool isCpu = target.device() == "cpu";
            InFlightDiagnostic error = other->emitError() << "'" << other->getName() << "' cannot run on "
                                                          << (isCpu ? "the CPU" : "CUDA") << ": ";
            ir::Obligations obligations = cast<MoeOpInterface>(other).getObligations();
            StringRef status = isCpu ? obligations.cpu : obligations.cuda;
            if (!status.starts_with("yes"))
              return LogicalResult(error << status);
            // What kernels compute has been fused by now, unless they do not know its element types.
            return LogicalResult(error << "no kernel for its element types " << other->getOperandTypes() << " -> "
                                       << other->getResultTypes());
          });
  if (succeeded(filled) && !isa<CollectiveOpInterface>(op))
    setScratchBytes(step, target.libraryScratchBytes(step, elementTypes(op)));
  return filled;
}

uint64_t scratchBytes(const plan::Step &step) {
  switch (step.work_case()) {
  case plan::Step::kGemm:
    return step.gemm().scratch_bytes();
  case plan::Step::kAttention:
    return step.attention().scratch_bytes();
  case plan::Step::kRoute:
    return step.route().scratch_bytes();
  case plan::Step::kGroupedGemm:
    return step.grouped_gemm().scratch_bytes();
  case plan::Step::kScatterAdd:
    return step.scatter_add().scratch_bytes();
  case plan::Step::kCollective:
    return step.collective().scratch_bytes();
  default:
    return 0;
  }
}

} // namespace moe::codegen
