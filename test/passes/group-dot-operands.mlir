// RUN: moe-opt %s --decompose-coarse | FileCheck %s
// RUN: moe-opt %s --interpret=heads --float64 > %t.before
// RUN: moe-opt %s --decompose-coarse | moe-opt --interpret=heads --float64 > %t.after
// RUN: diff %t.before %t.after

// The batch of scores over heads is (0, 2): positions lie in between, so both operands move.
// CHECK-LABEL: func.func @heads
// CHECK: moe.transpose %{{.*}} {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x4x5xf32>) -> tensor<2x4x3x5xf32>
// CHECK: moe.transpose %{{.*}} {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x6x4x5xf32>) -> tensor<2x4x6x5xf32>
// CHECK: moe.dot
func.func @heads(%q: tensor<2x3x4x5xf32>, %k: tensor<2x6x4x5xf32>, %v: tensor<2x6x4x5xf32>) -> (tensor<2x4x3x6xf32>, tensor<4x2x3x6xf32>) {
  %0 = moe.dot %q, %k {lhs_batch = array<i64: 0, 2>, rhs_batch = array<i64: 0, 2>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x6x4x5xf32>) -> tensor<2x4x3x6xf32>
  %1 = moe.dot %q, %v {lhs_batch = array<i64: 2, 0>, rhs_batch = array<i64: 2, 0>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x6x4x5xf32>) -> tensor<4x2x3x6xf32>
  return %0, %1 : tensor<2x4x3x6xf32>, tensor<4x2x3x6xf32>
}

// One head: its dimension may lie anywhere. Either order of rows and columns is fine.
// CHECK-LABEL: func.func @grouped
// CHECK-NOT: moe.transpose
// CHECK: return
func.func @grouped(%q: tensor<2x3x1x5xf32>, %k: tensor<2x5x1x6xf32>) -> tensor<2x1x3x6xf32> {
  %0 = moe.dot %q, %k {lhs_batch = array<i64: 0, 2>, rhs_batch = array<i64: 0, 2>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 1>} : (tensor<2x3x1x5xf32>, tensor<2x5x1x6xf32>) -> tensor<2x1x3x6xf32>
  return %0 : tensor<2x1x3x6xf32>
}
