// RUN: moe-opt %s --schedule | FileCheck %s
// RUN: echo "module {}" | moe-opt --schedule | FileCheck %s --check-prefix=ALONE

// ALONE: module {

// What computes has a lane; reads, writes and views are no work of the device, so a lane for them would make steps that
// do nothing. Operations inside a fused region belong to its step.
moe.state parameter @w : tensor<4xf32> {initial = 0.0 : f64}

// CHECK-LABEL: func.func @f
func.func @f(%x: tensor<4xf32>) -> tensor<2x2xf32> {
  // CHECK: moe.read @w : tensor<4xf32>
  %w = moe.read @w : tensor<4xf32>
  // CHECK: moe.fused "loop"({{.*}}) {moe.lane = 0 : i64}
  // CHECK: moe.add {{[^{]*$}}
  %s = moe.fused "loop"(%x, %w) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    %c = moe.add %a, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    moe.yield %c : tensor<4xf32>
  }
  // CHECK: moe.reshape {{[^{]*$}}
  %m = moe.reshape %s : (tensor<4xf32>) -> tensor<2x2xf32>
  // CHECK: moe.write @w, %{{[^ ]*}} : tensor<4xf32>
  moe.write @w, %s : tensor<4xf32>
  // CHECK: moe.dot {{.*}}moe.lane = 0 : i64
  %y = moe.dot %m, %m {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  return %y : tensor<2x2xf32>
}

// Collectives that exchange data are started in lane 1. Whoever reads the result reads it after moe.done, which holds the
// memory of the operand and the scratch as long. What each rank computes for itself is computation.
// CHECK-LABEL: func.func @collective
func.func @collective(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  // CHECK: %[[S:.*]] = moe.all_reduce %arg0 {axes = ["data"], moe.lane = 1 : i64, moe.scratch = 7 : i64, moe.slots = array<i64: 3, 16>}
  // CHECK: %[[Y:.*]] = moe.done %[[S]], %arg0 {moe.scratch = 7 : i64, moe.slots = array<i64: 3, 16>} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.all_reduce %x {axes = ["data"], moe.scratch = 7 : i64, moe.slots = array<i64: 3, 16>} : (tensor<4xf32>) -> tensor<4xf32>
  // CHECK: %[[Z:.*]] = moe.as_partial %[[Y]] {axes = ["data"], moe.lane = 0 : i64}
  %z = moe.as_partial %y {axes = ["data"]} : (tensor<4xf32>) -> tensor<4xf32>
  // CHECK: return %[[Y]], %[[Z]]
  return %y, %z : tensor<4xf32>, tensor<4xf32>
}
