// RUN: moe-opt %s --differentiate | FileCheck %s
// RUN: moe-opt %s --differentiate --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s --check-prefix=LOC
// RUN: moe-opt %s --differentiate | moe-opt --interpret=micro_step,micro_step --states=w,b,sum,control,unused --float64 | FileCheck %s --check-prefix=TWICE
// RUN: moe-opt %s --differentiate | moe-opt --interpret=micro_step --states=w,b,sum,control,unused --float64 | FileCheck %s --check-prefix=VALUES

// The program stays as it is besides the new one.
// CHECK: moe.state gradient @w.grad : tensor<2xf32> {initial = 0.000000e+00 : f64, of = @w}
// CHECK: moe.state gradient @unused.grad : tensor<3xf32> {{.*}}of = @unused
// CHECK: moe.state control @control.progress : tensor<2xi64> {checkpointed
// CHECK-LABEL: func.func @forward
// CHECK: return %{{.*}}, %{{.*}} : tensor<f32>, tensor<f32>
// CHECK-LABEL: func.func @micro_step(%{{.*}}: tensor<2xf32> {moe.name = "x"}) attributes {moe.program = "micro_step"}

// loss = sum (w x) (w x) exp(b), weight = 3, at x = (-1, -0.26), w = (2, -1), b = 0.5.
module attributes {moe.training = {accumulate = 1 : i64}} {
  moe.state parameter @w : tensor<2xf32> {initial = {data = dense<[2.0, -1.0]> : tensor<2xf32>}}
  moe.state parameter @b : tensor<f32> {initial = 0.5 : f64}
  moe.state parameter @unused : tensor<3xf32> {initial = 7.0 : f64}
  moe.state frozen @factor : tensor<f32> {initial = 3.0 : f64}
  func.func @forward(%x: tensor<2xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}, tensor<f32> {moe.name = "loss_weight"}) attributes {moe.program = "forward"} {
    %w = moe.read @w : tensor<2xf32> loc("w")
    %u = moe.read @unused : tensor<3xf32> loc("unused")
    %b = moe.read @b : tensor<f32> loc("b")
    %three = moe.read @factor : tensor<f32> loc("factor")
    %p = moe.mul %w, %x : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("product")
    %q = moe.mul %p, %p : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> loc("square")
    %s = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<f32> loc("sum")
    %e = moe.exp %b : (tensor<f32>) -> tensor<f32> loc("exp")
    %l = moe.mul %s, %e : (tensor<f32>, tensor<f32>) -> tensor<f32> loc("loss")
    return %l, %three : tensor<f32>, tensor<f32>
  }
}

// One addition joins what the two uses of %p contribute; losing one of them (`=` for `push_back`) or joining by a chain
// of additions is seen here. x is no parameter: no gradient for it, and none for the frozen factor.
// CHECK: %[[P:.*]] = moe.mul
// CHECK: %[[Q:.*]] = moe.mul %[[P]], %[[P]]
// CHECK: moe.add_n %{{[^ ]*}}, %{{[^ ]*}} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
// CHECK-NOT: moe.add_n
// CHECK: moe.write @w.grad
// An unused parameter has gradient zero rather than none: its state would keep an old value.
// CHECK: %[[Z:.*]] = moe.constant {{.*}}dense<0.000000e+00> : tensor<3xf32>
// CHECK: moe.write @unused.grad, %[[Z]]
// CHECK-NOT: x.grad
// CHECK-NOT: factor.grad
// CHECK: moe.write @sum.loss
// CHECK: moe.write @sum.weight
// CHECK: moe.write @control.progress
// CHECK: return{{$}}

// Backward operations carry the name of the forward value they belong to: profiles and error messages rely on it.
// LOC-LABEL: func.func @micro_step
// LOC: moe.exp {{.*}} loc("exp")
// LOC: moe.add_n {{.*}} loc("product.grad")
// LOC: moe.write @w.grad, {{.*}} loc("w.grad")

// By hand: d/dw = weight 2 w x^2 e^b = 3 * 2 * (2 * 1, -1 * 0.0676) * 1.6487213 = (19.784655, -0.66872136),
// d/db = weight loss = 3 (4 + 0.0676) 1.6487213 = 20.119016. Seeding by 1 instead of the weight gives a third.
// Sum and counter add up over micro-steps; with one micro-step per update the gradient is written, not added.
// VALUES: w = 2, -1
// VALUES: b = 0.5
// VALUES: w.grad = 19.7847, -0.668721
// VALUES-NEXT: unused.grad = 0, 0, 0
// VALUES-NEXT: b.grad = 20.119
// VALUES: sum.loss = 20.119
// VALUES: sum.weight = 3
// VALUES: control.progress = 0, 1
// TWICE: w.grad = 19.7847, -0.668721
// TWICE: sum.loss = 40.238
// TWICE: sum.weight = 6
// TWICE: control.progress = 0, 2
