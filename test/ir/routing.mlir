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

// CHECK-LABEL: func.func @grouped
func.func @grouped(%e: tensor<2x3x2xi32>, %rows: tensor<2x8x5xf32>, %grad: tensor<2x8x7xf32>, %w: tensor<3x5x7xf32>, %one: tensor<7x5xf32>) {
  // CHECK: moe.group_rows {{.*}} {block = 2 : i64, experts = 3 : i64} : (tensor<2x3x2xi32>) -> (tensor<2x3x2xi32>, tensor<1x2x8xi32>, tensor<2x4xi32>)
  %g:3 = moe.group_rows %e {experts = 3 : i64, block = 2 : i64} : (tensor<2x3x2xi32>) -> (tensor<2x3x2xi32>, tensor<1x2x8xi32>, tensor<2x4xi32>)
  %b = moe.reshape %g#2 : (tensor<2x4xi32>) -> tensor<2x4xi32>
  // CHECK: moe.grouped_dot {{.*}} : (tensor<2x8x5xf32>, tensor<2x4xi32>, tensor<3x5x7xf32>) -> tensor<2x8x7xf32>
  %y = moe.grouped_dot %rows, %b, %w : (tensor<2x8x5xf32>, tensor<2x4xi32>, tensor<3x5x7xf32>) -> tensor<2x8x7xf32>
  // CHECK-NEXT: moe.grouped_dot {{.*}} {transposed} : (tensor<2x8x5xf32>, tensor<2x4xi32>, tensor<7x5xf32>, tensor<7x5xf32>) -> tensor<2x8x7xf32>
  %z = moe.grouped_dot %rows, %b, %one, %one {transposed} : (tensor<2x8x5xf32>, tensor<2x4xi32>, tensor<7x5xf32>, tensor<7x5xf32>) -> tensor<2x8x7xf32>
  // CHECK-NEXT: moe.grouped_dot_weight_grad {{.*}} {experts = 3 : i64} : {{.*}} -> tensor<3x5x7xf32>
  %d = moe.grouped_dot_weight_grad %rows, %grad, %b {experts = 3 : i64} : (tensor<2x8x5xf32>, tensor<2x8x7xf32>, tensor<2x4xi32>) -> tensor<3x5x7xf32>
  // CHECK-NEXT: moe.grouped_dot_weight_grad {{.*}} {experts = 2 : i64, separate} : {{.*}} -> (tensor<5x7xf32>, tensor<5x7xf32>)
  %s:2 = moe.grouped_dot_weight_grad %rows, %grad, %b {experts = 2 : i64, separate} : (tensor<2x8x5xf32>, tensor<2x8x7xf32>, tensor<2x4xi32>) -> (tensor<5x7xf32>, tensor<5x7xf32>)
  return
}
