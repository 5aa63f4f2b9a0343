// RUN: moe-opt %s --shard="axes=data,expert sizes=2,1" --insert-data-parallel --insert-expert-parallel -split-input-file | FileCheck %s

// Neither the 3 experts nor the 5 slots of the one group divide among 2 ranks. They share 6 slots, of which one is always
// empty; elements that have random numbers are numbered as if there were 5.
// CHECK-LABEL: @slots
module {
  moe.state parameter @w : tensor<3x4x4xf32>
  moe.state parameter @gate : tensor<4x3xf32>
  func.func @slots(%x: tensor<8x4xf32>, %rng: tensor<2xi64>) -> tensor<1x8x4xf32> attributes {moe.program = "forward"} {
    %gate = moe.read @gate : tensor<4x3xf32>
    %w = moe.read @w : tensor<3x4x4xf32>
    %tokens = moe.reshape %x : (tensor<8x4xf32>) -> tensor<1x8x4xf32>
    %logits = moe.dot %tokens, %gate {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<1x8x4xf32>, tensor<4x3xf32>) -> tensor<1x8x3xf32>
    // CHECK: moe.route
    // CHECK: %[[NONE:.*]] = moe.constant {value = dense<-1> : tensor<3x1x1xi32,
    // CHECK: %[[ALL:.*]] = moe.concat %{{.*}}, %[[NONE]] {dim = 2 : i64} : (tensor<3x1x5xi32, {{.*}}>, tensor<3x1x1xi32, {{.*}}>) -> tensor<3x1x6xi32,
    // CHECK: moe.own_slots %{{.*}}, %{{.*}}, %[[ALL]] {axis = "data", dim = 2 : i64} : {{.*}} tensor<3x1x3xi32
    %expert, %slot, %weight, %token, %aux, %probs, %first, %metrics = moe.route %logits {operandSegmentSizes = array<i32: 1, 0, 0>, top_k = 1 : i64, capacity = 5 : i64} : (tensor<1x8x3xf32>) -> (tensor<1x8x1xi32>, tensor<1x8x1xi32>, tensor<1x8x1xf32>, tensor<3x1x5xi32>, tensor<1xf32>, tensor<1x8x3xf32>, tensor<1x3xf32>, tensor<1x9xf32>)
    // CHECK: moe.dispatch {{.*}} -> tensor<3x1x3x4xf32,
    %rows = moe.dispatch %tokens, %expert, %slot, %token : (tensor<1x8x4xf32>, tensor<1x8x1xi32>, tensor<1x8x1xi32>, tensor<3x1x5xi32>) -> tensor<3x1x5x4xf32>
    %out = moe.dot %rows, %w {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 1>} : (tensor<3x1x5x4xf32>, tensor<3x4x4xf32>) -> tensor<3x1x5x4xf32>
    // CHECK: moe.dropout {{.*}}moe.numbered_shape = array<i64: 3, 1, 5, 4>{{.*}} -> tensor<3x1x3x4xf32,
    %less = moe.dropout %out, %rng {rate = 0.1 : f64, seed = 1 : i64, site = 2 : i64} : (tensor<3x1x5x4xf32>, tensor<2xi64>) -> tensor<3x1x5x4xf32>
    // A constant is made for these rows, whoever else reads it.
    // CHECK: moe.constant {value = dense<2.000000e+00> : tensor<3x1x3x4xf32,
    %two = moe.constant {value = dense<2.0> : tensor<3x1x5x4xf32>} : () -> tensor<3x1x5x4xf32>
    %twice = moe.mul %less, %two : (tensor<3x1x5x4xf32>, tensor<3x1x5x4xf32>) -> tensor<3x1x5x4xf32>
    // CHECK: moe.combine {{.*}}tensor<3x1x3xi32, {{.*}} -> tensor<1x8x4xf32, #[[SUM:.*]]>
    %y = moe.combine %twice, %expert, %slot, %token, %weight : (tensor<3x1x5x4xf32>, tensor<1x8x1xi32>, tensor<1x8x1xi32>, tensor<3x1x5xi32>, tensor<1x8x1xf32>) -> tensor<1x8x4xf32>
    return %y : tensor<1x8x4xf32>
  }
}

// -----

// What sums over slots might count the empty ones: each rank makes all rows.
// CHECK-LABEL: @counted
// CHECK-NOT: moe.own_slots
// CHECK: moe.dispatch {{.*}} -> tensor<3x1x5x4xf32,
// CHECK-NOT: moe.own_slots
module {
  moe.state parameter @gate : tensor<4x3xf32>
  func.func @counted(%x: tensor<8x4xf32>) -> (tensor<1x8x4xf32>, tensor<3x1x4xf32>) attributes {moe.program = "forward"} {
    %gate = moe.read @gate : tensor<4x3xf32>
    %tokens = moe.reshape %x : (tensor<8x4xf32>) -> tensor<1x8x4xf32>
    %logits = moe.dot %tokens, %gate {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<1x8x4xf32>, tensor<4x3xf32>) -> tensor<1x8x3xf32>
    %expert, %slot, %weight, %token, %aux, %probs, %first, %metrics = moe.route %logits {operandSegmentSizes = array<i32: 1, 0, 0>, top_k = 1 : i64, capacity = 5 : i64} : (tensor<1x8x3xf32>) -> (tensor<1x8x1xi32>, tensor<1x8x1xi32>, tensor<1x8x1xf32>, tensor<3x1x5xi32>, tensor<1xf32>, tensor<1x8x3xf32>, tensor<1x3xf32>, tensor<1x9xf32>)
    %rows = moe.dispatch %tokens, %expert, %slot, %token : (tensor<1x8x4xf32>, tensor<1x8x1xi32>, tensor<1x8x1xi32>, tensor<3x1x5xi32>) -> tensor<3x1x5x4xf32>
    %grown = moe.exp %rows : (tensor<3x1x5x4xf32>) -> tensor<3x1x5x4xf32>
    %all = moe.reduce %grown {kind = 0 : i32, dims = array<i64: 2>} : (tensor<3x1x5x4xf32>) -> tensor<3x1x4xf32>
    %y = moe.combine %grown, %expert, %slot, %token, %weight : (tensor<3x1x5x4xf32>, tensor<1x8x1xi32>, tensor<1x8x1xi32>, tensor<3x1x5xi32>, tensor<1x8x1xf32>) -> tensor<1x8x4xf32>
    return %y, %all : tensor<1x8x4xf32>, tensor<3x1x4xf32>
  }
}
