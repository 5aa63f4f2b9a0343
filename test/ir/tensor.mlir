// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func.func @movement
func.func @movement(%x: tensor<4x8xf32>, %v: tensor<8xf32>, %rng: tensor<2xi64>) {
  // CHECK-NEXT: moe.constant {{ ?}}{value = dense<[1, -2]> : tensor<2xi64>} : () -> tensor<2xi64>
  %0 = moe.constant {value = dense<[1, -2]> : tensor<2xi64>} : () -> tensor<2xi64>
  // CHECK-NEXT: moe.iota {{ ?}}{dim = 1 : i64} : () -> tensor<4x8xi32>
  %1 = moe.iota {dim = 1 : i64} : () -> tensor<4x8xi32>
  // CHECK-NEXT: moe.random_uniform %{{[^ ]*}} {seed = 5 : i64, site = 1 : i64} : (tensor<2xi64>) -> tensor<3xf32>
  %2 = moe.random_uniform %rng {seed = 5 : i64, site = 1 : i64} : (tensor<2xi64>) -> tensor<3xf32>
  // CHECK-NEXT: moe.broadcast %{{[^ ]*}} {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<4x8xf32>
  %3 = moe.broadcast %v {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<4x8xf32>
  // CHECK-NEXT: moe.reshape %{{[^ ]*}} : (tensor<4x8xf32>) -> tensor<2x16xf32>
  %4 = moe.reshape %x : (tensor<4x8xf32>) -> tensor<2x16xf32>
  // CHECK-NEXT: moe.transpose %{{[^ ]*}} {permutation = array<i64: 1, 0>} : (tensor<4x8xf32>) -> tensor<8x4xf32>
  %5 = moe.transpose %x {permutation = array<i64: 1, 0>} : (tensor<4x8xf32>) -> tensor<8x4xf32>
  // 1, 4, 7 of dimension 1: the last step does not reach the limit.
  // CHECK-NEXT: moe.slice {{.*}} -> tensor<2x3xf32>
  %6 = moe.slice %x {starts = array<i64: 2, 1>, limits = array<i64: 4, 8>, strides = array<i64: 1, 3>} : (tensor<4x8xf32>) -> tensor<2x3xf32>
  // 1 before, 2 after, 1 between each two of 8: 1 + 8 + 7 + 2.
  // CHECK-NEXT: moe.pad {{.*}} -> tensor<4x18xf32>
  %7 = moe.pad %x {low = array<i64: 0, 1>, high = array<i64: 0, 2>, interior = array<i64: 0, 1>} : (tensor<4x8xf32>) -> tensor<4x18xf32>
  // CHECK-NEXT: moe.concat {{.*}} {dim = 1 : i64} : (tensor<4x8xf32>, tensor<4x18xf32>) -> tensor<4x26xf32>
  %8 = moe.concat %x, %7 {dim = 1 : i64} : (tensor<4x8xf32>, tensor<4x18xf32>) -> tensor<4x26xf32>
  return
}

// CHECK-LABEL: func.func @algebra
func.func @algebra(%x: tensor<2x3x4xf32>, %w: tensor<5x2x4xf32>, %i: tensor<2x6xi32>, %r: tensor<2x6x3x4xf32>) {
  // CHECK-NEXT: moe.reduce %{{[^ ]*}} {dims = array<i64: 0, 2>, kind = 1 : i32} : (tensor<2x3x4xf32>) -> tensor<3xf32>
  %0 = moe.reduce %x {kind = 1 : i32, dims = array<i64: 0, 2>} : (tensor<2x3x4xf32>) -> tensor<3xf32>
  // CHECK-NEXT: moe.cumsum %{{[^ ]*}} {dim = 1 : i64, exclusive, reverse}
  %1 = moe.cumsum %x {dim = 1 : i64, exclusive, reverse} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  // CHECK-NEXT: moe.sort %{{[^ ]*}} : (tensor<2x3x4xf32>) -> (tensor<2x3x4xf32>, tensor<2x3x4xi32>)
  %2:2 = moe.sort %x : (tensor<2x3x4xf32>) -> (tensor<2x3x4xf32>, tensor<2x3x4xi32>)
  // Batch 2, then the free 3 of x, then the free 5 of w: another order of dimensions would be another type.
  // CHECK-NEXT: moe.dot {{.*}} -> tensor<2x3x5xf32>
  %3 = moe.dot %x, %w {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 1>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 2>} : (tensor<2x3x4xf32>, tensor<5x2x4xf32>) -> tensor<2x3x5xf32>
  // CHECK-NEXT: moe.gather {{.*}} -> tensor<2x6x3x4xf32>
  %4 = moe.gather %x, %i : (tensor<2x3x4xf32>, tensor<2x6xi32>) -> tensor<2x6x3x4xf32>
  // CHECK-NEXT: moe.scatter_add %{{[^ ]*}}, %{{[^ ]*}} : (tensor<2x6xi32>, tensor<2x6x3x4xf32>) -> tensor<2x3x4xf32>
  %5 = moe.scatter_add %i, %r : (tensor<2x6xi32>, tensor<2x6x3x4xf32>) -> tensor<2x3x4xf32>
  // CHECK-NEXT: moe.scatter_add %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} :
  %6 = moe.scatter_add %i, %r, %x : (tensor<2x6xi32>, tensor<2x6x3x4xf32>, tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  return
}
