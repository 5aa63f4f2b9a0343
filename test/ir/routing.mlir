// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// Result types follow the obligations in ir/MoeRoutingOps.td: indices [G,S,K], the table of tokens [E,G,C].
// CHECK-LABEL: func.func @routing
func.func @routing(%l: tensor<2x4x3xf32>, %m: tensor<2x4xi1>, %noise: tensor<2x4xf32>, %x: tensor<2x4x8xf32>, %aux: tensor<2xf32>) {
  // CHECK-NEXT: moe.route {{.*}}capacity = 5 : i64{{.*}}normalize_before_dropping{{.*}}operandSegmentSizes = array<i32: 1, 1, 1>{{.*}}policy = 2 : i32
  %r:8 = "moe.route"(%l, %m, %noise) {top_k = 2 : i64, capacity = 5 : i64, policy = 2 : i32, normalize_before_dropping, operandSegmentSizes = array<i32: 1, 1, 1>} : (tensor<2x4x3xf32>, tensor<2x4xi1>, tensor<2x4xf32>) -> (tensor<2x4x2xi32>, tensor<2x4x2xi32>, tensor<2x4x2xf32>, tensor<3x2x5xi32>, tensor<2xf32>, tensor<2x4x3xf32>, tensor<2x3xf32>, tensor<2x9xf32>)
  // With weights and without: one operand more.
  // CHECK-NEXT: moe.dispatch {{.*}} -> tensor<3x2x5x8xf32>
  %d = moe.dispatch %x, %r#0, %r#1, %r#3 : (tensor<2x4x8xf32>, tensor<2x4x2xi32>, tensor<2x4x2xi32>, tensor<3x2x5xi32>) -> tensor<3x2x5x8xf32>
  // CHECK-NEXT: moe.combine %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} : {{.*}} -> tensor<2x4x8xf32>
  %c = moe.combine %d, %r#0, %r#1, %r#3, %r#2 : (tensor<3x2x5x8xf32>, tensor<2x4x2xi32>, tensor<2x4x2xi32>, tensor<3x2x5xi32>, tensor<2x4x2xf32>) -> tensor<2x4x8xf32>
  // CHECK-NEXT: moe.routed_dot {{.*}} -> tensor<2x4x2xf32>
  %w = moe.routed_dot %x, %d, %r#0, %r#1 : (tensor<2x4x8xf32>, tensor<3x2x5x8xf32>, tensor<2x4x2xi32>, tensor<2x4x2xi32>) -> tensor<2x4x2xf32>
  // CHECK-NEXT: moe.route_backward {{.*}} {normalize_before_dropping} : {{.*}} -> tensor<2x4x3xf32>
  %b = moe.route_backward %w, %aux, %r#5, %r#0, %r#1, %r#6 {normalize_before_dropping} : (tensor<2x4x2xf32>, tensor<2xf32>, tensor<2x4x3xf32>, tensor<2x4x2xi32>, tensor<2x4x2xi32>, tensor<2x3xf32>) -> tensor<2x4x3xf32>
  // CHECK-NEXT: moe.scale_gradient {{.*}} {factor = 2.500000e-01 : f64}
  %s = moe.scale_gradient %x {factor = 0.25 : f64} : (tensor<2x4x8xf32>) -> tensor<2x4x8xf32>
  return
}
