// RUN: moe-opt %s --decompose-coarse | FileCheck %s

// Operations on a mesh become those of one rank: its parts have no layout, and rows are looked up among them. What
// whole tensors the parts belong to stays with arguments, results and states.

// CHECK-DAG: #[[GROUPS:.*]] = #moe.layout<data = shard(0)>
// CHECK-DAG: #[[ROWS:.*]] = #moe.layout<data = shard(1)>
// CHECK-DAG: #[[PARTIAL:.*]] = #moe.layout<data = partial>
#groups = #moe.layout<data = shard(0)>
#rows = #moe.layout<data = shard(1)>
#partial = #moe.layout<data = partial>

// CHECK: moe.state frozen @half : tensor<2x3x4xf32, #[[GROUPS]]>
moe.state frozen @half : tensor<2x3x4xf32, #groups> {initial = 1.0 : f64}

// CHECK: func.func @dispatch(%{{.*}}: tensor<2x3x2xi32> {moe.layout = #[[GROUPS]]}, %{{.*}}: tensor<5x2x2xi32> {moe.layout = #[[ROWS]]})
// CHECK-SAME: -> (tensor<5x2x2x4xf32> {moe.layout = #[[ROWS]]})
func.func @dispatch(%choices: tensor<2x3x2xi32, #groups>, %token: tensor<5x2x2xi32, #rows>) -> tensor<5x2x2x4xf32, #rows> {
  // CHECK: moe.read @half : tensor<2x3x4xf32>
  %x = moe.read @half : tensor<2x3x4xf32, #groups>
  // CHECK: %[[FLAT:.*]] = moe.reshape %{{.*}} : (tensor<2x3x4xf32>) -> tensor<6x4xf32>
  // CHECK: moe.gather %[[FLAT]], %{{.*}} -> tensor<5x2x2x4xf32>
  %0 = moe.dispatch %x, %choices, %choices, %token : (tensor<2x3x4xf32, #groups>, tensor<2x3x2xi32, #groups>, tensor<2x3x2xi32, #groups>, tensor<5x2x2xi32, #rows>) -> tensor<5x2x2x4xf32, #rows>
  return %0 : tensor<5x2x2x4xf32, #rows>
}

// A sum over ranks of prefix sums; every rank adds up what it has.
// CHECK: func.func @cumsum(%{{.*}}: tensor<2x3xf32> {moe.layout = #[[PARTIAL]]})
func.func @cumsum(%x: tensor<2x3xf32, #partial>) -> tensor<2x3xf32, #partial> {
  // CHECK: moe.iota {{.*}} -> tensor<2x3x3xi32>
  %0 = moe.cumsum %x {dim = 1 : i64} : (tensor<2x3xf32, #partial>) -> tensor<2x3xf32, #partial>
  return %0 : tensor<2x3xf32, #partial>
}
