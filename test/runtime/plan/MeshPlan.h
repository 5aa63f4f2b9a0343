//===- MeshPlan.h - A plan for many ranks written in code ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_PLAN_MESHPLAN_H
#define MOEC_TEST_RUNTIME_PLAN_MESHPLAN_H

#include "test/runtime/plan/PlanBuilder.h"

namespace moe::test {

/// Adds an axis to the mesh.
void addAxis(PlanBuilder &builder, const std::string &name, int64_t size);

/// A step that does a collective over `axes`, whose operands are up to the caller.
plan::Step &addCollective(PlanBuilder &builder, plan::Collective::Kind kind, const std::vector<uint32_t> &axes,
                          int64_t count);

/// Steps of `meshPlan`.
namespace mesh_step {
enum { Fill, AllReduce, AllGather, ReduceScatter, AllToAll, InPlace, Slice, Pad, AsPartial };
} // namespace mesh_step

/// A plan for data=2 expert=3 that the validator accepts: state that is sharded ("split" [6, 4] over data and expert),
/// partial ("split.grad"), and two tensors of one flat bucket over both axes ("flat0" of 10 elements and "flat1" of 7
/// in 18); an input of 6 rows; one step of every kind of work between ranks, all in lane 1.
PlanFile meshPlan();

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_PLAN_MESHPLAN_H
