//===- GroupsTest.cpp - Routing groups that do not divide among ranks --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Groups belong to the model: whether they are fewer than the ranks, more, or no multiple of them, and whether slots
// and experts divide or not, any mesh whose ranks divide the batch trains what one rank trains. In the float64
// interpreter: losses, norms, every gradient, weights after two updates, share of dropped tokens. Where ranks share the
// slots of a group and these do not divide, empty ones are added; a wrong row there is an error far above rounding. And
// no rank makes rows that another one makes: the slots of all ranks together are those of one rank and what is added.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "test/mesh/Same.h"
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

struct Model {
  const char *name;
  bool top1;
  int64_t sequences, experts;
  std::vector<int64_t> groups;
  std::vector<std::pair<int64_t, int64_t>> meshes;
};

ModelSpec specOf(const Model &model, int64_t groups) {
  ModelSpec spec;
  spec.top1 = model.top1;
  spec.groups = groups;
  spec.sequences = model.sequences;
  spec.experts = model.experts;
  return spec;
}

class Groups : public testing::TestWithParam<Model> {};

/// Rows [E,G,C,M] of experts that a rank makes in the forward.
int64_t rowsOfRank(mlir::ModuleOp module) {
  int64_t rows = 0;
  module.lookupSymbol<mlir::func::FuncOp>("micro_step").walk([&](ir::DispatchOp dispatch) {
    if (!dispatch.getWeight())
      rows += ir::typeOf(dispatch.getRows()).getNumElements() / ir::typeOf(dispatch.getRows()).getShape().back();
  });
  return rows;
}

TEST_P(Groups, TrainTheSameModelOnAnyMesh) {
  const Model &param = GetParam();
  int number = 0;
  for (int64_t groups : param.groups) {
    MeshModel model(specOf(param, groups));
    std::string messages;
    std::optional<Trained> one = model.train({}, 2, messages);
    ASSERT_TRUE(one) << messages;
    EXPECT_GT(one->overflow, 0) << "no token is dropped";
    for (auto [data, expert] : param.meshes) {
      // Each mesh and number of groups meets another --fsdp and policy.
      constexpr const char *kFsdp[] = {"off", "optimizer", "full"}, *kRecompute[] = {"", "none", "full"};
      Parallel how{data, expert, kFsdp[number % 3], kRecompute[number / 3 % 3]};
      ++number;
      SCOPED_TRACE(std::to_string(groups) + " groups on " + how.name());
      std::string reported;
      std::optional<Trained> many = model.train(how, 2, reported);
      ASSERT_TRUE(many) << reported;
      expectSame(*many, *one);
    }
  }
}

TEST_P(Groups, ShareTheRows) {
  const Model &param = GetParam();
  for (int64_t groups : param.groups) {
    MeshModel model(specOf(param, groups));
    std::string messages;
    auto one = model.parallel({}, messages);
    ASSERT_TRUE(one) << messages;
    const int64_t all = rowsOfRank(*one);
    ASSERT_GT(all, 0);
    for (auto [data, expert] : param.meshes) {
      const Parallel how{data, expert, "off", ""};
      SCOPED_TRACE(std::to_string(groups) + " groups on " + how.name());
      auto many = model.parallel(how, messages);
      ASSERT_TRUE(many) << messages;
      const int64_t ranks = data * expert, own = rowsOfRank(*many);
      // One slot more of each expert and group at most.
      EXPECT_GE(own * ranks, all);
      EXPECT_LT((own - param.experts * groups) * ranks, all);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Groups,
    testing::Values(
        // Neither 5 experts nor their 2 * ceil(48 / G / 5) slots divide among 3, 4, 6 or 12 ranks, but for some G.
        Model{"Prime", false, 12, 5, {1, 2, 3, 4, 6, 12}, {{2, 1}, {3, 1}, {4, 1}, {6, 1}, {12, 1}}},
        // One choice: ceil(48 / G / 5) slots.
        Model{"PrimeTop1", true, 12, 5, {1, 3, 4}, {{3, 1}, {4, 1}, {6, 1}}},
        // Experts on ranks of their own, data on odd numbers of them: 5 x 2, 5 x 3, 2 x 3, 3 x 2.
        Model{"Odd", false, 30, 6, {1, 2, 3, 5, 10}, {{3, 1}, {1, 3}, {5, 1}, {1, 6}, {2, 3}, {3, 2}, {5, 2}, {5, 3}}}),
    [](const auto &info) { return std::string(info.param.name); });

} // namespace
