// RUN: moe-opt %s --fuse-epilogues | FileCheck %s
// RUN: moe-opt %s --interpret=bias_relu --float64 > %t.before
// RUN: moe-opt %s --fuse-epilogues | moe-opt --interpret=bias_relu --float64 > %t.after
// RUN: diff %t.before %t.after

moe.state parameter @w : tensor<3x4xf32> {initial = 0.5}
moe.state gradient @w.grad : tensor<3x4xf32> {initial = 0.0}

// CHECK-LABEL: func.func @bias_relu
// CHECK: moe.fused "product"(%{{.*}}, %{{.*}}, %{{.*}}) : (tensor<2x5x4xf32>, tensor<3x4xf32>, tensor<3xf32>) -> tensor<2x5x3xf32>
// CHECK-NEXT: ^bb0
// CHECK-NEXT: moe.dot
// CHECK-NEXT: moe.broadcast
// CHECK-NEXT: moe.add
// CHECK-NEXT: moe.relu
// CHECK-NEXT: moe.yield
// CHECK: return
func.func @bias_relu(%x: tensor<2x5x4xf32>, %w: tensor<3x4xf32>, %b: tensor<3xf32>) -> tensor<2x5x3xf32> {
  %0 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 1>} : (tensor<2x5x4xf32>, tensor<3x4xf32>) -> tensor<2x5x3xf32>
  %1 = moe.broadcast %b {dims = array<i64: 2>} : (tensor<3xf32>) -> tensor<2x5x3xf32>
  %2 = moe.add %1, %0 : (tensor<2x5x3xf32>, tensor<2x5x3xf32>) -> tensor<2x5x3xf32>
  %3 = moe.relu %2 : (tensor<2x5x3xf32>) -> tensor<2x5x3xf32>
  return %3 : tensor<2x5x3xf32>
}

// A gradient in bf16 becomes a product in float32, which adds to the state.
// CHECK-LABEL: func.func @accumulate
// CHECK: moe.fused "product"({{.*}}) {moe.in_place = array<i64: 0, 2>} : (tensor<5x3xbf16>, tensor<5x4xbf16>, tensor<3x4xf32>) -> tensor<3x4xf32>
// CHECK: moe.dot {{.*}} : (tensor<5x3xf32>, tensor<5x4xf32>) -> tensor<3x4xf32>
// CHECK-NEXT: moe.add
// CHECK-NEXT: moe.yield
// CHECK: moe.write
func.func @accumulate(%dy: tensor<5x3xbf16>, %x: tensor<5x4xbf16>) {
  %old = moe.read @w.grad : tensor<3x4xf32>
  %0 = moe.dot %dy, %x {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<5x3xbf16>, tensor<5x4xbf16>) -> tensor<3x4xbf16>
  %1 = moe.cast %0 {to = f32} : (tensor<3x4xbf16>) -> tensor<3x4xf32>
  %2 = moe.add %old, %1 : (tensor<3x4xf32>, tensor<3x4xf32>) -> tensor<3x4xf32>
  moe.write @w.grad, %2 : tensor<3x4xf32>
  return
}

// What others read is not taken in; a bias of rows or of each product of a batch is none of columns; a sum with another
// value than the state that is written stays a kernel.
// CHECK-LABEL: func.func @not
// CHECK-NOT: moe.fused
// CHECK: return
func.func @not(%x: tensor<5x4xf32>, %w: tensor<3x4xf32>, %b: tensor<3xf32>, %rows: tensor<5xf32>, %xs: tensor<2x5x4xf32>, %ws: tensor<2x3x4xf32>, %bs: tensor<2x3xf32>) -> (tensor<5x3xf32>, tensor<5x3xf32>, tensor<5x3xf32>, tensor<2x5x3xf32>) {
  %0 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<5x4xf32>, tensor<3x4xf32>) -> tensor<5x3xf32>
  %1 = moe.broadcast %b {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<5x3xf32>
  %2 = moe.add %0, %1 : (tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32>
  %3 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<5x4xf32>, tensor<3x4xf32>) -> tensor<5x3xf32>
  %4 = moe.broadcast %rows {dims = array<i64: 0>} : (tensor<5xf32>) -> tensor<5x3xf32>
  %5 = moe.add %3, %4 : (tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32>
  %6 = moe.dot %xs, %ws {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 2>} : (tensor<2x5x4xf32>, tensor<2x3x4xf32>) -> tensor<2x5x3xf32>
  %7 = moe.broadcast %bs {dims = array<i64: 0, 2>} : (tensor<2x3xf32>) -> tensor<2x5x3xf32>
  %8 = moe.add %6, %7 : (tensor<2x5x3xf32>, tensor<2x5x3xf32>) -> tensor<2x5x3xf32>
  %old = moe.read @w.grad : tensor<3x4xf32>
  %parameter = moe.read @w : tensor<3x4xf32>
  %9 = moe.dot %2, %x {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<5x3xf32>, tensor<5x4xf32>) -> tensor<3x4xf32>
  %10 = moe.add %9, %parameter : (tensor<3x4xf32>, tensor<3x4xf32>) -> tensor<3x4xf32>
  moe.write @w.grad, %10 : tensor<3x4xf32>
  return %0, %2, %5, %8 : tensor<5x3xf32>, tensor<5x3xf32>, tensor<5x3xf32>, tensor<2x5x3xf32>
}

// A program without a backward keeps nothing: what a function reads is not rounded on the way.
// CHECK-LABEL: @not_kept
// CHECK: %[[WIDE:.*]] = moe.fused "product"({{.*}}) : (tensor<5x4xbf16>, tensor<3x4xbf16>) -> tensor<5x3xf32>
// CHECK: moe.sigmoid %[[WIDE]]
func.func @not_kept(%x: tensor<5x4xbf16>, %w: tensor<3x4xbf16>) -> tensor<5x3xf32> {
  %0 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<5x4xbf16>, tensor<3x4xbf16>) -> tensor<5x3xbf16>
  %1 = moe.cast %0 {to = f32} : (tensor<5x3xbf16>) -> tensor<5x3xf32>
  %2 = moe.sigmoid %1 : (tensor<5x3xf32>) -> tensor<5x3xf32>
  return %2 : tensor<5x3xf32>
}

// Nor where it reads another shape of it.
// CHECK-LABEL: @not_kept_reshaped
// CHECK: %[[WIDE:.*]] = moe.fused "product"({{.*}}) : (tensor<5x4xbf16>, tensor<3x4xbf16>) -> tensor<5x3xf32>
// CHECK: %[[SHAPED:.*]] = moe.reshape %[[WIDE]] : (tensor<5x3xf32>) -> tensor<15xf32>
// CHECK-NEXT: moe.sigmoid %[[SHAPED]]
func.func @not_kept_reshaped(%x: tensor<5x4xbf16>, %w: tensor<3x4xbf16>) -> tensor<15xf32> {
  %0 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<5x4xbf16>, tensor<3x4xbf16>) -> tensor<5x3xbf16>
  %1 = moe.reshape %0 : (tensor<5x3xbf16>) -> tensor<15xbf16>
  %2 = moe.cast %1 {to = f32} : (tensor<15xbf16>) -> tensor<15xf32>
  %3 = moe.sigmoid %2 : (tensor<15xf32>) -> tensor<15xf32>
  return %3 : tensor<15xf32>
}

// What the forward computes and the backward reads again stays narrow in memory, but for rows that are reduced.
// CHECK-LABEL: @micro_step
// CHECK: %[[GATE:.*]] = moe.dot {{.*}} -> tensor<5x3xbf16>
// CHECK-NEXT: %[[KEPT:.*]] = moe.cast %[[GATE]]
// CHECK-NEXT: moe.sigmoid %[[KEPT]]
// CHECK: moe.fused "product"({{.*}}) : (tensor<5x4xbf16>, tensor<3x4xbf16>) -> tensor<5x3xf32>
moe.state control @sum.loss : tensor<f32> {initial = 0.0 : f64}
func.func @micro_step(%x: tensor<5x4xbf16>, %w: tensor<3x4xbf16>) -> (tensor<5x3xf32>, tensor<5x3xf32>) {
  %0 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<5x4xbf16>, tensor<3x4xbf16>) -> tensor<5x3xbf16>
  %1 = moe.cast %0 {to = f32} : (tensor<5x3xbf16>) -> tensor<5x3xf32>
  %2 = moe.sigmoid %1 : (tensor<5x3xf32>) -> tensor<5x3xf32>
  %3 = moe.reduce %2 {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<5x3xf32>) -> tensor<f32>
  %4 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<5x4xbf16>, tensor<3x4xbf16>) -> tensor<5x3xbf16>
  %5 = moe.cast %4 {to = f32} : (tensor<5x3xbf16>) -> tensor<5x3xf32>
  %6 = moe.reduce %5 {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<5x3xf32>) -> tensor<f32>
  %7 = moe.add %3, %6 : (tensor<f32>, tensor<f32>) -> tensor<f32>
  moe.write @sum.loss, %7 : tensor<f32>
  %8 = moe.mul %1, %1 : (tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32> loc("gate.grad")
  %9 = moe.mul %5, %5 : (tensor<5x3xf32>, tensor<5x3xf32>) -> tensor<5x3xf32> loc("logits.grad")
  return %8, %9 : tensor<5x3xf32>, tensor<5x3xf32>
}
