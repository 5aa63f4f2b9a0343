// RUN: moe-opt %s --recompute=policy=full | FileCheck %s

// The counter that the copy of the dropout reads is written in between: reads show the state's own memory, so that the write
// has to wait for the copy, which would draw the numbers of the next micro-step.
// CHECK: moe.dropout
// CHECK-NOT: moe.write @control.progress
// CHECK: moe.dropout {{.*}}moe.recomputed
// CHECK: moe.write @control.progress

module attributes {moe.training = {accumulate = 1 : i64}} {
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64, checkpointed}
  moe.state parameter @layers.0.w : tensor<4xf32> {initial = 1.0 : f64}
  moe.state gradient @layers.0.w.grad : tensor<4xf32> {initial = 0.0 : f64, of = @layers.0.w}
  moe.state control @sum.loss : tensor<f32> {initial = 0.0 : f64}
  func.func @micro_step(%x: tensor<4xf32> {moe.name = "x"}) attributes {moe.program = "micro_step"} {
    %rng = moe.read @control.progress : tensor<2xi64> loc("rng")
    %w = moe.read @layers.0.w : tensor<4xf32> loc("layers.0.w")
    %h = moe.mul %x, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("h")
    %d = moe.dropout %h, %rng {rate = 0.25 : f64, seed = 1 : i64, site = 1 : i64} : (tensor<4xf32>, tensor<2xi64>) -> tensor<4xf32> loc("d")
    %l = moe.reduce %d {kind = 0 : i32, dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<f32> loc("loss")
    moe.write @sum.loss, %l : tensor<f32> loc("sum.loss")
    %one = moe.constant {value = dense<[0, 1]> : tensor<2xi64>} : () -> tensor<2xi64> loc("control.progress")
    %next = moe.add %rng, %one : (tensor<2xi64>, tensor<2xi64>) -> tensor<2xi64> loc("control.progress")
    moe.write @control.progress, %next : tensor<2xi64> loc("control.progress")
    %g = moe.mul %d, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("layers.0.w.grad")
    moe.write @layers.0.w.grad, %g : tensor<4xf32> loc("layers.0.w.grad")
    return
  }
}
