// RUN: moe-opt %s --differentiate | FileCheck %s
// RUN: moe-opt %s --differentiate | moe-opt --interpret=micro_step --states=w | FileCheck %s --check-prefix=VALUES

// The gradients of a row that is read three times are summed in float32: 1 + 2^-8 is 1 in bfloat16, twice.
// CHECK-LABEL: func.func @micro_step
// CHECK: moe.scatter_add {{.*}} -> tensor<2xf32>
// VALUES: w.grad = 1.00781, 0
module attributes {moe.training = {accumulate = 1 : i64}} {
  moe.state parameter @w : tensor<2xf32> {initial = {data = dense<[2.0, -1.0]> : tensor<2xf32>}}
  func.func @forward(%x: tensor<2xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}, tensor<f32> {moe.name = "loss_weight"}) attributes {moe.program = "forward"} {
    %w = moe.read @w : tensor<2xf32>
    %narrow = moe.cast %w {to = bf16} : (tensor<2xf32>) -> tensor<2xbf16>
    %index = moe.constant {value = dense<0> : tensor<3xi64>} : () -> tensor<3xi64>
    %rows = moe.gather %narrow, %index : (tensor<2xbf16>, tensor<3xi64>) -> tensor<3xbf16>
    %wide = moe.cast %rows {to = f32} : (tensor<3xbf16>) -> tensor<3xf32>
    %factors = moe.constant {value = dense<[1.0, 0.00390625, 0.00390625]> : tensor<3xf32>} : () -> tensor<3xf32>
    %terms = moe.mul %wide, %factors : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
    %loss = moe.reduce %terms {kind = 0 : i32, dims = array<i64: 0>} : (tensor<3xf32>) -> tensor<f32>
    %one = moe.constant {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
    return %loss, %one : tensor<f32>, tensor<f32>
  }
}
