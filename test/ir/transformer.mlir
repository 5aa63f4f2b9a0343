// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// Optional operands are printed with their name, so that padding alone and rng alone are read back as what they were.
// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<2x3x4x8xf32>, %k: tensor<2x5x2x8xf32>, %p: tensor<2x5xi1>, %rng: tensor<2xi64>) {
  // CHECK-NEXT: %[[O:.*]], %[[L:.*]] = moe.attention %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} {scale = 5.000000e-01 : f64} : {{.*}} -> (tensor<2x3x4x8xf32>, tensor<2x4x3xf32>)
  %0, %l = moe.attention %q, %k, %k {scale = 0.5 : f64} : (tensor<2x3x4x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5x2x8xf32>) -> (tensor<2x3x4x8xf32>, tensor<2x4x3xf32>)
  // CHECK-NEXT: moe.attention {{.*}} padding %{{[^ ]*}} {causal, scale
  %1:2 = moe.attention %q, %k, %k padding %p {scale = 0.5 : f64, causal} : (tensor<2x3x4x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5xi1>) -> (tensor<2x3x4x8xf32>, tensor<2x4x3xf32>)
  // CHECK-NEXT: moe.attention {{[^p]*}} rng %{{[^ ]*}} {rate = 1.000000e-01 : f64
  %2:2 = moe.attention %q, %k, %k rng %rng {scale = 0.5 : f64, rate = 0.1 : f64} : (tensor<2x3x4x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5x2x8xf32>, tensor<2xi64>) -> (tensor<2x3x4x8xf32>, tensor<2x4x3xf32>)
  // CHECK-NEXT: moe.attention_backward %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}}, %[[O]], %[[L]] padding %{{[^ ]*}} rng %{{[^ ]*}} {rate
  %3:3 = moe.attention_backward %q, %q, %k, %k, %0, %l padding %p rng %rng {scale = 0.5 : f64, rate = 0.1 : f64} : (tensor<2x3x4x8xf32>, tensor<2x3x4x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5x2x8xf32>, tensor<2x3x4x8xf32>, tensor<2x4x3xf32>, tensor<2x5xi1>, tensor<2xi64>) -> (tensor<2x3x4x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5x2x8xf32>)
  return
}

// CHECK-LABEL: func.func @fine_attention
func.func @fine_attention(%q: tensor<2x3x4x8xf32>, %k: tensor<2x5x2x8xf32>, %p: tensor<2x5xi1>, %b: tensor<4x5xf32>, %s: tensor<4xf32>) {
  // CHECK-NEXT: moe.attention {{.*}} bias %{{[^ ]*}} {bias_dims = array<i64: 1, 3>, scale = 5.000000e-01 : f64, window = 3 : i64}
  %0:2 = moe.attention %q, %k, %k bias %b {scale = 0.5 : f64, bias_dims = array<i64: 1, 3>, window = 3 : i64} : (tensor<2x3x4x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5x2x8xf32>, tensor<4x5xf32>) -> (tensor<2x3x4x8xf32>, tensor<2x4x3xf32>)
  // CHECK-NEXT: moe.attention {{[^b]*}} padding %{{[^ ]*}} sinks %{{[^ ]*}} {scale = 5.000000e-01 : f64, softcap = 3.000000e+01 : f64}
  %1:2 = moe.attention %q, %k, %k padding %p sinks %s {scale = 0.5 : f64, softcap = 30.0 : f64} : (tensor<2x3x4x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5x2x8xf32>, tensor<2x5xi1>, tensor<4xf32>) -> (tensor<2x3x4x8xf32>, tensor<2x4x3xf32>)
  return
}

// CHECK-LABEL: func.func @rows
func.func @rows(%x: tensor<2x3x8xf32>, %s: tensor<8xf32>, %l: tensor<2x3xi64>) {
  // CHECK-NEXT: moe.softmax
  %0 = moe.softmax %x : (tensor<2x3x8xf32>) -> tensor<2x3x8xf32>
  // CHECK-NEXT: moe.layer_norm {{.*}} {epsilon = {{.*}} : f64} : {{.*}} -> (tensor<2x3x8xf32>, tensor<2x3xf32>, tensor<2x3xf32>)
  %1:3 = moe.layer_norm %x, %s, %s {epsilon = 1.0e-5 : f64} : (tensor<2x3x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<2x3x8xf32>, tensor<2x3xf32>, tensor<2x3xf32>)
  // CHECK-NEXT: moe.rms_norm {{.*}} {epsilon = {{.*}} : f64} : {{.*}} -> (tensor<2x3x8xf32>, tensor<2x3xf32>)
  %3:2 = moe.rms_norm %x, %s {epsilon = 1.0e-5 : f64} : (tensor<2x3x8xf32>, tensor<8xf32>) -> (tensor<2x3x8xf32>, tensor<2x3xf32>)
  // CHECK-NEXT: moe.softmax_cross_entropy {{.*}} {ignore_index = -100 : i64} : {{.*}} -> (tensor<2x3xf32>, tensor<2x3xf32>)
  %2:2 = moe.softmax_cross_entropy %x, %l {ignore_index = -100 : i64} : (tensor<2x3x8xf32>, tensor<2x3xi64>) -> (tensor<2x3xf32>, tensor<2x3xf32>)
  return
}
