// RUN: moe-opt %s --shard="axes=data,expert sizes=1,2" --insert-data-parallel --insert-expert-parallel | FileCheck %s --check-prefixes=CHECK,EACH
// RUN: moe-opt %s --shard="axes=data,expert sizes=2,4" --insert-data-parallel --insert-expert-parallel | FileCheck %s --check-prefix=SPAN
// RUN: not moe-opt %s --shard="axes=data,expert sizes=1,8" --insert-data-parallel --insert-expert-parallel 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: not moe-opt %s --insert-expert-parallel 2>&1 | FileCheck %s --check-prefix=NOMESH

// MANY: error: the 4 experts of 'w' do not divide among the 8 ranks of axis 'expert'; choose an --expert-parallel that divides them
// NOMESH: error: insert-expert-parallel needs a mesh; run shard first

module {
  // Of each rank's experts.
  // CHECK: moe.state parameter @w : tensor<2x3x5xf32,
  // SPAN: moe.state parameter @w : tensor<1x3x5xf32,
  moe.state parameter @w : tensor<4x3x5xf32>
  moe.state parameter @gate : tensor<3x4xf32>
  func.func @forward(%x: tensor<8x4x3xf32>) -> tensor<2x16x5xf32> attributes {moe.program = "forward"} {
    %gate = moe.read @gate : tensor<3x4xf32>
    %w = moe.read @w : tensor<4x3x5xf32>
    %tokens = moe.reshape %x : (tensor<8x4x3xf32>) -> tensor<2x16x3xf32>
    %logits = moe.dot %tokens, %gate {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<2x16x3xf32>, tensor<3x4xf32>) -> tensor<2x16x4xf32>
    // Two groups on two ranks: each routes its own, and rows travel to their experts and back.
    // EACH: moe.route %{{.*}} : (tensor<1x16x4xf32,
    // EACH: %[[ROWS:.*]] = moe.dispatch
    // EACH: %[[THERE:.*]] = moe.all_to_all %[[ROWS]] {axes = ["expert"], from = 1 : i64, moe.inserted_by = "insert-expert-parallel", to = 0 : i64} : (tensor<4x1x8x3xf32, {{.*}}>) -> tensor<2x2x8x3xf32,
    // EACH: %[[DONE:.*]] = moe.dot %[[THERE]]
    // EACH: moe.all_to_all %[[DONE]] {axes = ["expert"], from = 0 : i64, {{.*}}, to = 1 : i64}
    // EACH: moe.combine
    // Two groups on 2 x 4 ranks: on axis `expert` ranks share a group. They know all its choices, make the rows of
    // their own experts, and add up what these say about each token.
    // SPAN: moe.route %{{.*}} : (tensor<1x16x4xf32,
    // SPAN: moe.own_slots %{{.*}} {axis = "expert", dim = 0 : i64}
    // SPAN: moe.dispatch %{{.*}} -> tensor<1x1x8x3xf32, #[[PART:.*]]>
    // SPAN-NOT: moe.all_to_all
    // SPAN: moe.combine %{{.*}} -> tensor<1x16x5xf32, #[[SUM:.*]]>
    %expert, %slot, %weight, %token, %aux, %probs, %first, %metrics = moe.route %logits {operandSegmentSizes = array<i32: 1, 0, 0>, top_k = 2 : i64, capacity = 8 : i64} : (tensor<2x16x4xf32>) -> (tensor<2x16x2xi32>, tensor<2x16x2xi32>, tensor<2x16x2xf32>, tensor<4x2x8xi32>, tensor<2xf32>, tensor<2x16x4xf32>, tensor<2x4xf32>, tensor<2x9xf32>)
    %rows = moe.dispatch %tokens, %expert, %slot, %token : (tensor<2x16x3xf32>, tensor<2x16x2xi32>, tensor<2x16x2xi32>, tensor<4x2x8xi32>) -> tensor<4x2x8x3xf32>
    %out = moe.dot %rows, %w {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 1>} : (tensor<4x2x8x3xf32>, tensor<4x3x5xf32>) -> tensor<4x2x8x5xf32>
    %y = moe.combine %out, %expert, %slot, %token, %weight : (tensor<4x2x8x5xf32>, tensor<2x16x2xi32>, tensor<2x16x2xi32>, tensor<4x2x8xi32>, tensor<2x16x2xf32>) -> tensor<2x16x5xf32>
    return %y : tensor<2x16x5xf32>
  }
}
