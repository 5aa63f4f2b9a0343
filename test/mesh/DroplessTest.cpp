//===- DroplessTest.cpp - Exported experts that drop nothing, on meshes -------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// An exported Mixtral (two layers of four experts, two choices, weights gathered for each choice), in float64 on all
// ranks in step, beside one rank: as it is, with a bias for each expert, and with parameters of its own for each
// expert, stored transposed. Sums over ranks in another order differ by 1e-16; a row that went to another expert, a
// reduction that is missing or made twice, or a gradient that counts too often by 1e-2.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "test/mesh/Same.h"
#include <gtest/gtest.h>

using namespace mlir;
using namespace moe::test;
using namespace moe::ir;

namespace {

ModelSpec mixtral() {
  ModelSpec spec;
  spec.onnx = MOEC_TEST_DATA "/onnx/mixtral/model.onnx";
  spec.recipe = "loss:\n  cross_entropy: {logits: logits, labels: labels, ignore_index: -100}\n"
                "parameters: {default: train, freeze: [m.model.rotary_emb.inv_freq]}\n";
  return spec;
}

/// Reads of the weights of experts: tables of matrices that a product gathers from.
SmallVector<std::pair<ReadOp, GatherOp>> tables(func::FuncOp function) {
  SmallVector<std::pair<ReadOp, GatherOp>> found;
  function.walk([&](GatherOp gather) {
    if (auto read = gather.getTable().getDefiningOp<ReadOp>(); read && typeOf(read).getRank() == 3)
      found.emplace_back(read, gather);
  });
  return found;
}

StateOp declare(ModuleOp module, StringAttr name, RankedTensorType type) {
  if (auto known = module.lookupSymbol<StateOp>(name))
    return known;
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  return StateOp::create(builder, module.getLoc(), name.getValue(), type, StateKind::Parameter, Attribute(),
                         FlatSymbolRefAttr(), FlatSymbolRefAttr(), IntegerAttr(), /*checkpointed=*/true, ArrayAttr());
}

/// A matrix for each expert, transposed, in place of their table.
void separate(ModuleOp module) {
  llvm::SmallVector<StateOp> old;
  for (auto function : module.getOps<func::FuncOp>())
    for (auto [read, gather] : tables(function)) {
      OpBuilder builder(read);
      TensorBuilder b(builder, read.getLoc());
      RankedTensorType type = typeOf(read), matrix = withShape(type, {type.getDimSize(2), type.getDimSize(1)});
      SmallVector<Value> parts;
      for (int64_t e = 0; e < type.getDimSize(0); ++e) {
        auto name = StringAttr::get(module.getContext(), read.getState() + "." + std::to_string(e));
        Value weight = b.make<ReadOp>(matrix, declare(module, name, matrix).getSymName());
        Value turned = b.make<TransposeOp>(weight, ArrayRef<int64_t>{1, 0});
        parts.push_back(b.reshape(turned, {1, type.getDimSize(1), type.getDimSize(2)}));
      }
      if (auto state = module.lookupSymbol<StateOp>(read.getState()); !llvm::is_contained(old, state))
        old.push_back(state);
      read.getResult().replaceAllUsesWith(b.make<ConcatOp>(parts, 0));
      read.erase();
    }
  for (StateOp state : old)
    state.erase();
}

/// A bias for each expert, added to its products.
void addBiases(ModuleOp module) {
  for (auto function : module.getOps<func::FuncOp>())
    for (auto [read, gather] : tables(function)) {
      auto product = cast<DotOp>(*gather->user_begin());
      RankedTensorType type = typeOf(read), vectors = withShape(type, type.getShape().drop_back());
      OpBuilder builder(product->getContext());
      builder.setInsertionPointAfter(product);
      TensorBuilder b(builder, product.getLoc());
      auto name = StringAttr::get(module.getContext(), read.getState() + ".bias");
      Value bias = b.make<ReadOp>(vectors, declare(module, name, vectors).getSymName());
      Value added = b.reshape(b.make<GatherOp>(bias, gather.getIndex()), product.getType().getShape());
      Value sum = b.add(product, added);
      product.getResult().replaceAllUsesExcept(sum, sum.getDefiningOp());
    }
}

struct Case {
  const char *name;
  void (*change)(ModuleOp);
  int64_t accumulate;
};

class Dropless : public testing::TestWithParam<Case> {};

/// What a rank has of the parameters whose name begins so.
int64_t localElements(ModuleOp module, StringRef prefix) {
  int64_t elements = 0;
  module.walk([&](StateOp state) {
    if (state.getKind() == StateKind::Parameter && state.getSymName().starts_with(prefix))
      elements += state.getTensorType().getNumElements();
  });
  return elements;
}

TEST_P(Dropless, TrainTheSameModel) {
  ModelSpec spec = mixtral();
  spec.change = GetParam().change;
  spec.accumulate = GetParam().accumulate;
  MeshModel model(spec);
  std::string messages;
  std::optional<Trained> one = model.train({}, 2, messages);
  ASSERT_TRUE(one) << messages;
  EXPECT_LT(one->clip[0], 1) << "nothing is clipped";
  const std::vector<Parallel> meshes = {{2, 1, "off", ""},       {1, 2, "off", ""},     {1, 2, "full", "full"},
                                        {4, 1, "full", ""},      {2, 2, "off", "none"}, {2, 2, "full", ""},
                                        {2, 2, "optimizer", ""}, {1, 4, "off", "full"}, {4, 2, "optimizer", ""},
                                        {2, 4, "full", "full"},  {1, 8, "off", ""}};
  for (const Parallel &how : meshes) {
    SCOPED_TRACE(how.name());
    std::string reported;
    std::optional<Trained> many = model.train(how, 2, reported);
    ASSERT_TRUE(many) << reported;
    expectSame(*many, *one);
  }
}

// The layer's weights, named for their first matrix, and the rows that a rank multiplies with them.
TEST_P(Dropless, ExpertsLieOnTheirRanks) {
  ModelSpec spec = mixtral();
  spec.change = GetParam().change;
  MeshModel model(spec);
  std::string messages;
  OwningOpRef<ModuleOp> one = model.parallel({}, messages), many = model.parallel({2, 4, "off", ""}, messages);
  ASSERT_TRUE(one && many) << messages;
  for (const char *weight : {"val_342", "val_351", "val_563", "val_571"}) {
    ASSERT_GT(localElements(*one, weight), 0) << weight;
    EXPECT_EQ(localElements(*many, weight) * 4, localElements(*one, weight)) << weight;
  }
  auto flops = [](ModuleOp module) {
    double sum = 0;
    module.lookupSymbol<func::FuncOp>("micro_step").walk([&](Operation *op) {
      if (isa<GroupedDotOp, GroupedDotWeightGradOp>(op))
        sum += cast<MoeOpInterface>(op).getCost().flops;
    });
    return sum;
  };
  EXPECT_LE(flops(*many), 1.15 * flops(*one) / 8);
  EXPECT_GE(flops(*many), 0.85 * flops(*one) / 8);
}

INSTANTIATE_TEST_SUITE_P(All, Dropless,
                         testing::Values(Case{"stacked", nullptr, 1}, Case{"separate", separate, 2},
                                         Case{"biased", addBiases, 1}),
                         [](const auto &info) { return info.param.name; });

} // namespace
