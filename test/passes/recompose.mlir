// RUN: moe-opt %s --recompose | FileCheck %s
// RUN: moe-opt %s --interpret=weight --float64 > %t.before
// RUN: moe-opt %s --recompose | moe-opt --interpret=weight --float64 > %t.after
// RUN: diff %t.before %t.after
// RUN: moe-opt %s --interpret=rotated --float64 > %t.before
// RUN: moe-opt %s --recompose | moe-opt --interpret=rotated --float64 > %t.after
// RUN: diff %t.before %t.after
// RUN: echo "module {}" | moe-opt --recompose | FileCheck %s --check-prefix=ALONE

// ALONE: module {

// The product reads the stored weight [out, in] itself. Contracting dimension 0 of it, as before the fold, would be the
// wrong map (`permutation[d]` forgotten).
// CHECK-LABEL: @weight
// CHECK-SAME: (%[[X:.*]]: tensor<4x3xf32>, %[[W:.*]]: tensor<2x3xf32>)
// CHECK-NOT: moe.transpose
// CHECK: moe.dot %[[X]], %[[W]] {lhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_batch = array<i64>, rhs_contract = array<i64: 1>}
func.func @weight(%x: tensor<4x3xf32>, %w: tensor<2x3xf32>) -> tensor<4x2xf32> {
  %t = moe.transpose %w {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %y = moe.dot %x, %t {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
  return %y : tensor<4x2xf32>
}

// A rotation of three dimensions is not its own inverse: (1, 2, 0) maps batch 0 to 1, contraction 1 to 2, free 2 to 0.
// Using the inverse permutation gives batch 2 and a type error.
// CHECK-LABEL: @rotated
// CHECK-SAME: (%[[A:.*]]: tensor<5x2x3xf32>, %[[B:.*]]: tensor<2x3x4xf32>)
// CHECK-NOT: moe.transpose
// CHECK: moe.dot %[[A]], %[[B]] {lhs_batch = array<i64: 1>, lhs_contract = array<i64: 2>, rhs_batch = array<i64: 0>, rhs_contract = array<i64: 1>}
func.func @rotated(%a: tensor<5x2x3xf32>, %b: tensor<2x3x4xf32>) -> tensor<2x5x4xf32> {
  %t = moe.transpose %a {permutation = array<i64: 1, 2, 0>} : (tensor<5x2x3xf32>) -> tensor<2x3x5xf32>
  %y = moe.dot %t, %b {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<2x3x5xf32>, tensor<2x3x4xf32>) -> tensor<2x5x4xf32>
  return %y : tensor<2x5x4xf32>
}

// Two free dimensions change places, which no product does by itself: without the test `increases` the result would
// be transposed in silence (both sizes are 3).
// CHECK-LABEL: @swaps_free
// CHECK: %[[T:.*]] = moe.transpose
// CHECK: moe.dot %[[T]],
func.func @swaps_free(%a: tensor<3x3x2xf32>, %b: tensor<2x4xf32>) -> tensor<3x3x4xf32> {
  %t = moe.transpose %a {permutation = array<i64: 1, 0, 2>} : (tensor<3x3x2xf32>) -> tensor<3x3x2xf32>
  %y = moe.dot %t, %b {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<3x3x2xf32>, tensor<2x4xf32>) -> tensor<3x3x4xf32>
  return %y : tensor<3x3x4xf32>
}

// Only the side that can be folded is.
// CHECK-LABEL: @one_side
// CHECK-SAME: (%{{.*}}: tensor<3x3x2xf32>, %[[W:.*]]: tensor<4x2xf32>)
// CHECK: %[[T:.*]] = moe.transpose
// CHECK: moe.dot %[[T]], %[[W]] {{.*}}rhs_contract = array<i64: 1>
func.func @one_side(%a: tensor<3x3x2xf32>, %w: tensor<4x2xf32>) -> tensor<3x3x4xf32> {
  %t = moe.transpose %a {permutation = array<i64: 1, 0, 2>} : (tensor<3x3x2xf32>) -> tensor<3x3x2xf32>
  %u = moe.transpose %w {permutation = array<i64: 1, 0>} : (tensor<4x2xf32>) -> tensor<2x4xf32>
  %y = moe.dot %t, %u {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<3x3x2xf32>, tensor<2x4xf32>) -> tensor<3x3x4xf32>
  return %y : tensor<3x3x4xf32>
}
