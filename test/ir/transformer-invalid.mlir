// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @case(%x: tensor<f32>) {
  // expected-error@+2 {{softmax needs a dimension, got 'tensor<f32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.softmax %x : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>, %s: tensor<4xf32>) {
  // expected-error@+2 {{layer_norm of 'tensor<4x8xf32>' needs scale and bias of size 8}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:3 = moe.layer_norm %x, %s, %s {epsilon = 1.0e-5 : f64} : (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>, %l: tensor<8xi64>) {
  // expected-error@+2 {{needs labels of shape [4], got 'tensor<8xi64>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.softmax_cross_entropy %x, %l {ignore_index = 0 : i64} : (tensor<4x8xf32>, tensor<8xi64>) -> (tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @case(%x: tensor<4x0xf32>, %l: tensor<4xi64>) {
  // expected-error@+2 {{softmax_cross_entropy needs at least one class}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.softmax_cross_entropy %x, %l {ignore_index = 0 : i64} : (tensor<4x0xf32>, tensor<4xi64>) -> (tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @case(%q: tensor<1x2x32xf32>) {
  // expected-error@+2 {{attention needs query [B,T,H,D] and key, value [B,S,Hkv,D] of one type}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.attention %q, %q, %q {scale = 1.0 : f64} : (tensor<1x2x32xf32>, tensor<1x2x32xf32>, tensor<1x2x32xf32>) -> (tensor<1x2x32xf32>, tensor<1x2xf32>)
  return
}

// -----

func.func @case(%q: tensor<1x2x4x8xf32>, %k: tensor<1x2x4x16xf32>) {
  // expected-error@+2 {{does not fit key}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.attention %q, %k, %k {scale = 1.0 : f64} : (tensor<1x2x4x8xf32>, tensor<1x2x4x16xf32>, tensor<1x2x4x16xf32>) -> (tensor<1x2x4x8xf32>, tensor<1x4x2xf32>)
  return
}

// -----

// Query heads share key heads in groups of one size.
func.func @case(%q: tensor<1x2x4x8xf32>, %k: tensor<1x2x3x8xf32>) {
  // expected-error@+2 {{attention has 4 query heads, no multiple of 3 key heads}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.attention %q, %k, %k {scale = 1.0 : f64} : (tensor<1x2x4x8xf32>, tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> (tensor<1x2x4x8xf32>, tensor<1x4x2xf32>)
  return
}

// -----

func.func @case(%q: tensor<1x2x4x8xf32>) {
  // expected-error@+2 {{attention with dropout needs rng}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.attention %q, %q, %q {scale = 1.0 : f64, rate = 0.5 : f64} : (tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>) -> (tensor<1x2x4x8xf32>, tensor<1x4x2xf32>)
  return
}

// -----

func.func @case(%q: tensor<1x2x4x8xf32>, %p: tensor<2x1xi1>) {
  // expected-error@+2 {{attention padding must be [batch, keys], got 'tensor<2x1xi1>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.attention %q, %q, %q padding %p {scale = 1.0 : f64} : (tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<2x1xi1>) -> (tensor<1x2x4x8xf32>, tensor<1x4x2xf32>)
  return
}

// -----

// The lse of [batch, queries, heads] would be read transposed.
func.func @case(%q: tensor<1x2x4x8xf32>, %l: tensor<1x2x4xf32>) {
  // expected-error@+2 {{attention_backward needs result and result_grad like the query}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:3 = moe.attention_backward %q, %q, %q, %q, %q, %l {scale = 1.0 : f64} : (tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4xf32>) -> (tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>)
  return
}
