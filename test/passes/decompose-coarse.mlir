// RUN: moe-opt %s --decompose-coarse | FileCheck %s
// RUN: moe-opt %s --interpret --float64 > %t.before
// RUN: moe-opt %s --decompose-coarse | moe-opt --interpret --float64 > %t.after
// RUN: diff %t.before %t.after
// RUN: FileCheck %s --check-prefix=VALUES < %t.after
// RUN: echo "module {}" | moe-opt --decompose-coarse | FileCheck %s --check-prefix=ALONE

// ALONE: module {

// Generated kernels want the pieces; attention and routing stay, since libraries compute them.
// CHECK-LABEL: func.func @main
// CHECK-NOT: moe.softmax
// CHECK-NOT: moe.layer_norm
// CHECK-NOT: moe.gelu
// CHECK-NOT: moe.dropout
// CHECK-NOT: moe.scale_gradient
// CHECK-NOT: moe.sort
// CHECK: moe.erf
// CHECK: moe.tanh
// CHECK: moe.random_uniform
// CHECK: moe.attention
// CHECK: moe.route
// CHECK: return

// The softmax of the argument (-1, -0.26, 0.48, -0.8), by hand:
// e^-1 = 0.367879, e^-0.26 = 0.771052, e^0.48 = 1.616074, e^-0.8 = 0.449329, sum 3.204334.
// VALUES: 0.114807, 0.240628, 0.50434, 0.140225
// Equal elements keep their order, NaN sorts last.
// VALUES: 2, 0, 4, 3, 1
func.func @main(%x: tensor<1x4xf32>, %s: tensor<4xf32>, %b: tensor<4xf32>, %rng: tensor<2xi64>, %more: tensor<1x5xf32>,
                %q: tensor<1x2x1x4xf32>, %logits: tensor<1x3x2xf32>, %c: tensor<2x3xf32>)
    -> (tensor<1x4xf32>, tensor<1x4xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1xf32>, tensor<1x2x1x4xf32>, tensor<1x3x1xf32>, tensor<1x4xf32>, tensor<2x3xf32>, tensor<1x5xi32>, tensor<1x5xf32>) {
  %0 = moe.softmax %x : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %1, %mean, %rstd = moe.layer_norm %x, %s, %b {epsilon = 1.0e-5 : f64} : (tensor<1x4xf32>, tensor<4xf32>, tensor<4xf32>) -> (tensor<1x4xf32>, tensor<1xf32>, tensor<1xf32>)
  %2 = moe.gelu %x : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %3 = moe.gelu %x {approximate = 1 : i32} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %4 = moe.dropout %x, %rng {rate = 0.5 : f64, seed = 7 : i64, site = 3 : i64} : (tensor<1x4xf32>, tensor<2xi64>) -> tensor<1x4xf32>
  %label = moe.constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
  %loss, %lse = moe.softmax_cross_entropy %more, %label {ignore_index = -100 : i64} : (tensor<1x5xf32>, tensor<1xi64>) -> (tensor<1xf32>, tensor<1xf32>)
  %5, %l = moe.attention %q, %q, %q {scale = 0.5 : f64, causal} : (tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>) -> (tensor<1x2x1x4xf32>, tensor<1x1x2xf32>)
  %6:8 = "moe.route"(%logits) {top_k = 1 : i64, capacity = 2 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x3x2xf32>) -> (tensor<1x3x1xi32>, tensor<1x3x1xi32>, tensor<1x3x1xf32>, tensor<2x1x2xi32>, tensor<1xf32>, tensor<1x3x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  %7 = moe.scale_gradient %2 {factor = 2.0 : f64} : (tensor<1x4xf32>) -> tensor<1x4xf32>
  %8 = moe.cumsum %c {dim = 1 : i64, exclusive} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %row = moe.constant {value = dense<[[1.0, 0x7FC00000, 0x7F800000, -3.0, 1.0]]> : tensor<1x5xf32>} : () -> tensor<1x5xf32>
  %values, %order = moe.sort %row : (tensor<1x5xf32>) -> (tensor<1x5xf32>, tensor<1x5xi32>)
  return %0, %1, %mean, %rstd, %7, %3, %4, %loss, %5, %6#2, %2, %8, %order, %values : tensor<1x4xf32>, tensor<1x4xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1x4xf32>, tensor<1xf32>, tensor<1x2x1x4xf32>, tensor<1x3x1xf32>, tensor<1x4xf32>, tensor<2x3xf32>, tensor<1x5xi32>, tensor<1x5xf32>
}

// Kernels compute attention with a window, a softcap and sinks, but not with a bias.
// CHECK-LABEL: func.func @attention
// CHECK: moe.attention {{.*}} sinks {{.*}}softcap = 3.000000e+01 : f64, window = 2 : i64
// CHECK-NOT: moe.attention
// CHECK: return
func.func @attention(%q: tensor<1x2x1x4xf32>, %sinks: tensor<1xf32>, %bias: tensor<2x2xf32>) -> (tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>) {
  %0, %a = moe.attention %q, %q, %q sinks %sinks {scale = 0.5 : f64, causal, softcap = 30.0 : f64, window = 2 : i64} : (tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>, tensor<1xf32>) -> (tensor<1x2x1x4xf32>, tensor<1x1x2xf32>)
  %1, %b = moe.attention %q, %q, %q bias %bias {scale = 0.5 : f64, bias_dims = array<i64: 2, 3>} : (tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>, tensor<2x2xf32>) -> (tensor<1x2x1x4xf32>, tensor<1x1x2xf32>)
  return %0, %1 : tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>
}
