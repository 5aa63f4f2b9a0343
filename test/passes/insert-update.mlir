// RUN: moe-opt %s --insert-update | FileCheck %s
// RUN: moe-opt %s --insert-update --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s --check-prefix=LOC
// RUN: not moe-opt %s --recompose=no-such-option 2>&1 | FileCheck %s --check-prefix=OPTION

// OPTION: no such option no-such-option

// Parameters before the first digit of their name share a bucket; a layer has its own, its experts another one. Members
// start at multiples of 16 elements (64 bytes: vectors and arenas): b lies at 16, not at 3. Gradients and moments lie
// like their parameters.
// CHECK: moe.state parameter @emb.w : tensor<3xf32> {bucket = @bucket.0, checkpointed, {{.*}}offset = 0 : i64}
// CHECK: moe.state gradient @emb.w.grad : tensor<3xf32> {bucket = @bucket.0.grad, {{.*}}offset = 0 : i64}
// CHECK: moe.state parameter @emb.b : tensor<17xf32> {bucket = @bucket.0, checkpointed, {{.*}}offset = 16 : i64}
// CHECK: moe.state gradient @emb.b.grad : tensor<17xf32> {bucket = @bucket.0.grad, {{.*}}offset = 16 : i64}
// CHECK: moe.state parameter @layers.0.w : {{.*}}bucket = @bucket.1
// CHECK: moe.state parameter @layers.0.experts.w : {{.*}}bucket = @bucket.2
// A frozen state is no member of a bucket: the optimizer must not touch it.
// CHECK: moe.state frozen @table : tensor<4xf32> {initial
// 16 + 32 elements: 17 rounded up.
// CHECK: moe.state parameter @bucket.0 : tensor<48xf32>
// Moments belong to the checkpoint, gradients and metrics do not.
// CHECK: moe.state moment @emb.w.exp_avg : tensor<3xf32> {bucket = @bucket.0.exp_avg, checkpointed, {{.*}}of = @emb.w
// CHECK: moe.state moment @bucket.0.exp_avg_sq : tensor<48xf32>
// CHECK: moe.state control @control.bias_correction1 : tensor<f32> {checkpointed

// The whole update runs on the buckets: no state of a member is read or written one by one.
// CHECK-LABEL: func.func @update() attributes {moe.program = "update"}
// CHECK-NOT: moe.read @emb.w
// CHECK-NOT: moe.read @layers
// CHECK: moe.read @bucket.0.grad
// CHECK: moe.write @bucket.0,
// CHECK: moe.write @bucket.1,
// CHECK: moe.write @bucket.2,
// Without accumulation the next micro-step overwrites the gradients: zeroing them would cost a pass over memory.
// CHECK-NOT: moe.write @bucket.0.grad
// CHECK-NOT: clip_factor
// CHECK: moe.write @control.progress
// CHECK-NEXT: return

// LOC-LABEL: func.func @update
// LOC: moe.is_finite
// LOC: moe.write @bucket.0, {{.*}} loc("bucket.0")

module attributes {moe.training = {optimizer = {name = "adamw"}}} {
  moe.state parameter @emb.w : tensor<3xf32> {initial = 1.0 : f64}
  moe.state gradient @emb.w.grad : tensor<3xf32> {initial = 0.0 : f64, of = @emb.w}
  moe.state parameter @emb.b : tensor<17xf32> {initial = 1.0 : f64}
  moe.state gradient @emb.b.grad : tensor<17xf32> {initial = 0.0 : f64, of = @emb.b}
  moe.state parameter @layers.0.w : tensor<2xf32> {initial = 1.0 : f64}
  moe.state gradient @layers.0.w.grad : tensor<2xf32> {initial = 0.0 : f64, of = @layers.0.w}
  moe.state parameter @layers.0.experts.w : tensor<2xf32> {initial = 1.0 : f64}
  moe.state gradient @layers.0.experts.w.grad : tensor<2xf32> {initial = 0.0 : f64, of = @layers.0.experts.w}
  moe.state frozen @table : tensor<4xf32> {initial = 1.0 : f64}
  moe.state control @sum.loss : tensor<f32> {initial = 0.0 : f64}
  moe.state control @sum.weight : tensor<f32> {initial = 0.0 : f64}
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64}
  func.func @micro_step() attributes {moe.program = "micro_step"} {
    return
  }
}
