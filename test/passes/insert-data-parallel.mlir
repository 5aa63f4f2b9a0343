// RUN: moe-opt %s --shard="axes=data,expert sizes=2,2" --insert-data-parallel | FileCheck %s
// RUN: not moe-opt %s --shard="axes=data,expert sizes=3,1" --insert-data-parallel 2>&1 | FileCheck %s --check-prefix=UNEVEN
// RUN: not moe-opt %s --insert-data-parallel 2>&1 | FileCheck %s --check-prefix=NOMESH

// UNEVEN: error: a batch of 8 sequences does not divide among the 3 ranks of #moe.mesh<data = 3, expert = 1>; bind a batch that is a multiple of 3
// NOMESH: error: insert-data-parallel needs a mesh; run shard first

// Inputs are split over all axes; what has no batch is not. Parameters stay whole.
// CHECK-DAG: #[[ROWS:.*]] = #moe.layout<data = shard(0), expert = shard(0)>
// CHECK-DAG: #[[WHOLE:.*]] = #moe.layout<data = replicate, expert = replicate>
// CHECK-DAG: #[[SUM:.*]] = #moe.layout<data = partial, expert = partial>
module {
  moe.state parameter @w : tensor<4x3xf32>
  // CHECK: func.func @forward(%[[X:.*]]: tensor<2x4xf32, #[[ROWS]]>, %{{.*}}: tensor<3xf32, #[[WHOLE]]>)
  func.func @forward(%x: tensor<8x4xf32>, %scale: tensor<3xf32>) -> (tensor<f32>, tensor<8x3xf32>) attributes {moe.program = "forward"} {
    %w = moe.read @w : tensor<4x3xf32>
    // CHECK: %[[Y:.*]] = moe.dot %[[X]], %{{.*}} -> tensor<2x3xf32, #[[ROWS]]>
    %y = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<8x4xf32>, tensor<4x3xf32>) -> tensor<8x3xf32>
    // What is repeated along the batch is made in parts, not made whole and cut.
    // CHECK-NOT: moe.all_slice
    // CHECK: moe.broadcast %{{.*}} -> tensor<2x3xf32, #[[ROWS]]>
    %b = moe.broadcast %scale {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<8x3xf32>
    %z = moe.mul %y, %b : (tensor<8x3xf32>, tensor<8x3xf32>) -> tensor<8x3xf32>
    // A sum over the batch is partial, and stays so through what is linear in it.
    // CHECK: %[[S:.*]] = moe.reduce %{{.*}} -> tensor<f32, #[[SUM]]>
    // CHECK: %[[H:.*]] = moe.mul %[[S]], %{{.*}} -> tensor<f32, #[[SUM]]>
    %s = moe.reduce %z {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<8x3xf32>) -> tensor<f32>
    %c = moe.constant {value = dense<0.125> : tensor<f32>} : () -> tensor<f32>
    %h = moe.mul %s, %c : (tensor<f32>, tensor<f32>) -> tensor<f32>
    // What is not linear needs the sum.
    // CHECK: %[[ALL:.*]] = moe.all_reduce %[[H]] {axes = ["data", "expert"], moe.inserted_by = "insert-data-parallel"}
    // CHECK: moe.exp %[[ALL]]
    %e = moe.exp %h : (tensor<f32>) -> tensor<f32>
    return %e, %z : tensor<f32>, tensor<8x3xf32>
  }
}
