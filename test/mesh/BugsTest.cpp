//===- BugsTest.cpp - Public bugs that come out right -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Each test is a bug that users of other systems have reported, made again with a model and meshes that would show it,
// run by the float64 interpreter. The forms of such bugs that do not pass the type checker are in test/mesh/bugs, those
// of the runtime in test/e2e/mesh_bugs.py.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/mesh/MeshRun.h"
#include <cmath>
#include <gtest/gtest.h>

using namespace moe::test;
using moe::ir::HostTensor;

namespace {

constexpr const char *kGate = "decoder.layers.1.moe_layer.gate.wg.weight";
constexpr const char *kExperts = "decoder.layers.1.moe_layer.experts.fc2.weight";

double norm(const HostTensor &tensor) {
  double sum = 0;
  for (double value : tensor.floats)
    sum += value * value;
  return std::sqrt(sum);
}

HostTensor difference(const HostTensor &a, const HostTensor &b) {
  HostTensor result = a;
  for (size_t i = 0; i < result.floats.size(); ++i)
    result.floats[i] -= b.floats[i];
  return result;
}

/// Nothing, with a failure, if training fails or ranks differ in what should be equal.
Trained train(MeshModel &model, const Parallel &how, int updates = 1) {
  std::string messages;
  std::optional<Trained> trained = model.train(how, updates, messages);
  if (!trained) {
    ADD_FAILURE() << how.name() << ": " << messages;
    return {};
  }
  return *trained;
}

/// Replicas, dense or of experts, on all meshes of four ranks.
const Parallel kMeshes[] = {{4, 1, "off", ""}, {2, 2, "off", ""}, {2, 2, "full", ""}, {1, 4, "optimizer", ""}};

/// Routers and replicas of experts whose gradients were not reduced, and drifted apart: `train` compares what ranks
/// have in common after every update. https://github.com/pytorch/torchtitan/issues/2387 (routers),
/// https://github.com/facebookresearch/fairseq/issues/4220 (replicas of experts)
TEST(PublicBugs, RoutersAndReplicasOfExpertsStayEqual) {
  ModelSpec spec;
  MeshModel model(spec);
  Trained one = train(model, {}, 3);
  for (const Parallel &how : kMeshes) {
    Trained many = train(model, how, 3);
    for (const char *name : {kGate, kExperts})
      EXPECT_LE(norm(difference(many.weights[name], one.weights[name])), 1e-12 * norm(one.weights[name]))
          << how.name() << ": " << name;
  }
}

/// Gradients of experts that were as many times too large as there are expert-parallel ranks. Adam hides it, SGD does
/// not. https://github.com/deepspeedai/DeepSpeed/issues/6545, https://github.com/pytorch/pytorch/issues/160285
TEST(PublicBugs, GradientsOfExpertsHaveNoFactorOfTheMesh) {
  ModelSpec spec;
  spec.clipNorm = 1e6;
  MeshModel model(spec);
  const double one = norm(train(model, {}).gradients[kExperts]);
  ASSERT_GT(one, 0);
  for (int64_t expert : {1, 2, 4, 8, 16})
    EXPECT_NEAR(norm(train(model, {16 / expert, expert, "full", ""}).gradients[kExperts]) / one, 1, 1e-12)
        << expert << " expert-parallel ranks";
}

/// Norms that left out the experts of other ranks, or were an average of the norms of ranks: here against the root of
/// the sum of squares of all gradients. https://github.com/deepspeedai/DeepSpeed/issues/8475,
/// https://github.com/NVIDIA/Megatron-LM/pull/5916, https://github.com/NVIDIA-NeMo/Automodel/issues/3816
TEST(PublicBugs, TheNormCountsEveryParameterOnce) {
  ModelSpec spec;
  MeshModel model(spec);
  Trained one = train(model, {});
  double labels = 0;
  for (const Parallel &how : kMeshes) {
    Trained many = train(model, how);
    double all = 0, dense = 0;
    for (const auto &[name, gradient] : many.gradients) {
      all = std::hypot(all, norm(gradient));
      dense = std::hypot(dense, name.find("experts") == std::string::npos ? norm(gradient) : 0);
    }
    // Gradients are sums over the labels that count, the norm is that of their mean.
    labels = labels > 0 ? labels : all / one.gnorm[0];
    EXPECT_NEAR(labels, std::round(labels), 1e-9);
    EXPECT_NEAR(many.gnorm[0], all / labels, 1e-12 * many.gnorm[0]) << how.name();
    EXPECT_NEAR(many.clip[0], spec.clipNorm / (many.gnorm[0] + 1e-6), 1e-9) << how.name();
    EXPECT_LT(dense, 0.99 * all) << "experts hardly count, so that a norm without them would pass";
  }
}

/// Gate losses whose weight depended on the ranks, and such whose gradient never reached the gate: what the gate loss
/// adds to the gradient is the same on all meshes, and not nothing. https://github.com/NVIDIA/Megatron-LM/pull/3768,
/// https://github.com/NVIDIA-NeMo/Automodel/pull/1412
TEST(PublicBugs, TheGateLossHasOneWeight) {
  ModelSpec with, without;
  without.gateLossWeight = 0;
  MeshModel model(with), plain(without);
  const HostTensor one = difference(train(model, {}).gradients[kGate], train(plain, {}).gradients[kGate]);
  ASSERT_GT(norm(one), 1e-3);
  for (const Parallel &how : kMeshes) {
    HostTensor many = difference(train(model, how).gradients[kGate], train(plain, how).gradients[kGate]);
    EXPECT_LE(norm(difference(many, one)), 1e-11 * norm(one)) << how.name();
  }
}

/// Ranks that share tokens, each with some of the experts: routers that got the gradient of slots of experts elsewhere,
/// or lost it in a gather without an adjoint. https://github.com/huggingface/transformers/issues/48687,
/// https://github.com/NVIDIA-NeMo/Automodel/pull/2995
TEST(PublicBugs, RoutersLearnFromTheSlotsOfAllRanks) {
  ModelSpec spec;
  spec.groups = 1;
  spec.gateLossWeight = 0;
  MeshModel model(spec);
  const HostTensor one = train(model, {}).gradients[kGate];
  ASSERT_GT(norm(one), 1e-3);
  for (int64_t expert : {2, 4, 8, 16})
    EXPECT_LE(norm(difference(train(model, {1, expert, "off", ""}).gradients[kGate], one)), 1e-12 * norm(one));
}

/// Experts that no token chose: ranks that had them joined no reduction and all others waited, or did not decay their
/// weights. https://github.com/deepspeedai/DeepSpeed/issues/4808, https://github.com/NVIDIA-NeMo/Automodel/pull/2995
TEST(PublicBugs, ExpertsWithoutTokensAreUpdatedLikeOthers) {
  ModelSpec spec;
  spec.top1 = true;
  spec.optimizer = "{name: adam, lr: 0.1, weight_decay: 0.1}";
  MeshModel model(spec);
  Trained one = train(model, {}, 3);
  ASSERT_GT(one.overflow, 0) << "every expert has tokens";
  for (const Parallel &how : kMeshes) {
    Trained many = train(model, how, 3);
    EXPECT_LE(norm(difference(many.weights[kExperts], one.weights[kExperts])), 1e-9 * norm(one.weights[kExperts]))
        << how.name();
  }
}

/// An expert whose gradients are not finite, on one rank: that rank left out the update and others did not.
/// https://github.com/deepspeedai/DeepSpeed/pull/5259 (norms and overflow under expert parallelism)
TEST(PublicBugs, AllRanksLeaveOutAnUpdateThatIsNotFinite) {
  ModelSpec spec;
  spec.huge = kExperts;
  MeshModel model(spec);
  for (const Parallel &how : kMeshes) {
    Trained before = train(model, how, 0), after = train(model, how, 1);
    ASSERT_FALSE(after.gnorm.empty());
    EXPECT_FALSE(std::isfinite(after.gnorm[0])) << how.name() << ": the case is none";
    for (const auto &[name, weight] : before.weights)
      EXPECT_EQ(after.weights[name].floats, weight.floats) << how.name() << ": " << name;
  }
}

} // namespace
