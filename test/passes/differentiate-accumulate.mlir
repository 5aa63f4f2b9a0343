// RUN: moe-opt %s --differentiate | moe-opt --interpret=micro_step,micro_step --states=w,sum --float64 | FileCheck %s

// Several micro-steps per update add their gradients. A parameter that is read twice gets both parts; a loss of shape
// [1], without weight, counts once. The auxiliary loss is weighted like the loss, metrics are summed as they are.
// loss = 2 w + w, aux = w: gradient 3 per step, two steps.
// CHECK: w = 2
// CHECK: w.grad = 6
// CHECK: sum.loss = 12
// CHECK: sum.weight = 2
// CHECK: sum.aux_loss = 4
// CHECK: sum.moe_metrics = 4, 4
module attributes {moe.training = {accumulate = 2 : i64, loss = "cost"}} {
  moe.state parameter @w : tensor<1xf32> {initial = 2.0 : f64}
  func.func @forward() -> (tensor<1xf32> {moe.name = "cost"}, tensor<1xf32> {moe.name = "aux_loss"}, tensor<2xf32> {moe.name = "moe_metrics"}) attributes {moe.program = "forward"} {
    %a = moe.read @w : tensor<1xf32>
    %two = moe.constant {value = dense<2.0> : tensor<1xf32>} : () -> tensor<1xf32>
    %m = moe.mul %a, %two : (tensor<1xf32>, tensor<1xf32>) -> tensor<1xf32>
    %b = moe.read @w : tensor<1xf32>
    %l = moe.add %m, %b : (tensor<1xf32>, tensor<1xf32>) -> tensor<1xf32>
    %s = moe.reshape %b : (tensor<1xf32>) -> tensor<f32>
    %metrics = moe.broadcast %s {dims = array<i64>} : (tensor<f32>) -> tensor<2xf32>
    return %l, %a, %metrics : tensor<1xf32>, tensor<1xf32>, tensor<2xf32>
  }
}
