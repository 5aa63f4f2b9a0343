// RUN: moe-opt %s --recompose | FileCheck %s

// One function is one way to write a norm; the constants of scale and bias that a model has not got are ones and zeros.

// CHECK-LABEL: @rms_by_division
// CHECK-SAME: (%[[X:.*]]: tensor<2x3x8xf32>, %[[W:.*]]: tensor<8xf32>)
// CHECK-NEXT: %[[Y:.*]], %{{.*}} = moe.rms_norm %[[X]], %[[W]] {epsilon = 9.99{{.*}}E-{{[67]}} : f64}
// CHECK-NEXT: return %[[Y]]
func.func @rms_by_division(%x: tensor<2x3x8xf32>, %w: tensor<8xf32>) -> tensor<2x3x8xf32> {
  %n = moe.constant {value = dense<8.0> : tensor<2x3x1xf32>} : () -> tensor<2x3x1xf32>
  %eps = moe.constant {value = dense<1.0e-6> : tensor<2x3x1xf32>} : () -> tensor<2x3x1xf32>
  %one = moe.constant {value = dense<1.0> : tensor<2x3x1xf32>} : () -> tensor<2x3x1xf32>
  %sq = moe.mul %x, %x : (tensor<2x3x8xf32>, tensor<2x3x8xf32>) -> tensor<2x3x8xf32>
  %sum = moe.reduce %sq {dims = array<i64: 2>, kind = 0 : i32} : (tensor<2x3x8xf32>) -> tensor<2x3xf32>
  %kept = moe.reshape %sum : (tensor<2x3xf32>) -> tensor<2x3x1xf32>
  %mean = moe.div %kept, %n : (tensor<2x3x1xf32>, tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  %u = moe.add %eps, %mean : (tensor<2x3x1xf32>, tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  %root = moe.sqrt %u : (tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  %r = moe.div %one, %root : (tensor<2x3x1xf32>, tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  %flat = moe.reshape %r : (tensor<2x3x1xf32>) -> tensor<2x3xf32>
  %wide = moe.broadcast %flat {dims = array<i64: 0, 1>} : (tensor<2x3xf32>) -> tensor<2x3x8xf32>
  %normal = moe.mul %x, %wide : (tensor<2x3x8xf32>, tensor<2x3x8xf32>) -> tensor<2x3x8xf32>
  %scale = moe.broadcast %w {dims = array<i64: 2>} : (tensor<8xf32>) -> tensor<2x3x8xf32>
  %y = moe.mul %scale, %normal : (tensor<2x3x8xf32>, tensor<2x3x8xf32>) -> tensor<2x3x8xf32>
  return %y : tensor<2x3x8xf32>
}

// CHECK-LABEL: @rms_alone
// CHECK: %[[ONE:.*]] = moe.constant {value = dense<1.000000e+00> : tensor<8xf32>}
// CHECK: moe.rms_norm %{{.*}}, %[[ONE]] {epsilon = 5.000000e-01 : f64}
// CHECK-NEXT: return
func.func @rms_alone(%x: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %two = moe.constant {value = dense<2.0> : tensor<2x8xf32>} : () -> tensor<2x8xf32>
  %eps = moe.constant {value = dense<0.5> : tensor<2xf32>} : () -> tensor<2xf32>
  %sq = moe.pow %x, %two : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %mean = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %u = moe.add %mean, %eps : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.rsqrt %u : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %y = moe.mul %w, %x : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// CHECK-LABEL: @layer_with_scale_and_bias
// CHECK-SAME: (%[[X:.*]]: tensor<2x8xf32>, %[[S:.*]]: tensor<8xf32>, %[[T:.*]]: tensor<8xf32>)
// CHECK-NEXT: moe.layer_norm %[[X]], %[[S]], %[[T]] {epsilon = 9.99{{.*}}E-{{[67]}} : f64}
// CHECK-NEXT: return
func.func @layer_with_scale_and_bias(%x: tensor<2x8xf32>, %s: tensor<8xf32>, %t: tensor<8xf32>) -> tensor<2x8xf32> {
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %x {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %m = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %mw = moe.broadcast %m {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %c = moe.sub %x, %mw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %sq = moe.mul %c, %c : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %vs = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %v = moe.mul %inv, %vs : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %eps = moe.constant {value = dense<1.0e-5> : tensor<2xf32>} : () -> tensor<2xf32>
  %u = moe.add %v, %eps : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %q = moe.sqrt %u : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %q {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %d = moe.div %c, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %sw = moe.broadcast %s {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<2x8xf32>
  %e = moe.mul %d, %sw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %tw = moe.broadcast %t {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<2x8xf32>
  %y = moe.add %tw, %e : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// CHECK-LABEL: @centred_twice
// CHECK: moe.layer_norm
// CHECK-NEXT: return
func.func @centred_twice(%x: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %x {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %m = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %mw = moe.broadcast %m {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %c = moe.sub %x, %mw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %c2 = moe.sub %x, %mw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %sq = moe.mul %c2, %c2 : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %vs = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %v = moe.mul %inv, %vs : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %half = moe.constant {value = dense<-0.5> : tensor<2xf32>} : () -> tensor<2xf32>
  %eps = moe.constant {value = dense<1.0e-5> : tensor<2xf32>} : () -> tensor<2xf32>
  %u = moe.add %v, %eps : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.pow %u, %half : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %y = moe.mul %c, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// Near misses. Each computes something else and stays.

// The unbiased variance divides by one less.
// CHECK-LABEL: @unbiased
// CHECK-NOT: _norm
// CHECK: return
func.func @unbiased(%x: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %x {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %m = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %mw = moe.broadcast %m {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %c = moe.sub %x, %mw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %sq = moe.mul %c, %c : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %vs = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %seven = moe.constant {value = dense<7.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %v = moe.div %vs, %seven : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %eps = moe.constant {value = dense<1.0e-5> : tensor<2xf32>} : () -> tensor<2xf32>
  %u = moe.add %v, %eps : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.rsqrt %u : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %y = moe.mul %c, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// The mean of one tensor's squares divides another.
// CHECK-LABEL: @other_tensor
// CHECK-NOT: _norm
// CHECK: return
func.func @other_tensor(%x: tensor<2x8xf32>, %z: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %sq = moe.mul %z, %z : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %mean = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.rsqrt %mean : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %y = moe.mul %x, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// A product of two tensors is no square.
// CHECK-LABEL: @no_square
// CHECK-NOT: _norm
// CHECK: return
func.func @no_square(%x: tensor<2x8xf32>, %z: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %sq = moe.mul %x, %z : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %mean = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.rsqrt %mean : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %y = moe.mul %x, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// Columns, not rows: of a square matrix all types fit.
// CHECK-LABEL: @columns
// CHECK-NOT: _norm
// CHECK: return
func.func @columns(%x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %sq = moe.mul %x, %x : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<8xf32>} : () -> tensor<8xf32>
  %sum = moe.reduce %sq {dims = array<i64: 0>, kind = 0 : i32} : (tensor<8x8xf32>) -> tensor<8xf32>
  %mean = moe.mul %sum, %inv : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %r = moe.rsqrt %mean : (tensor<8xf32>) -> tensor<8xf32>
  %w = moe.broadcast %r {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<8x8xf32>
  %y = moe.mul %x, %w : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  return %y : tensor<8x8xf32>
}

// CHECK-LABEL: @rows_over_columns
// CHECK-NOT: _norm
// CHECK: return
func.func @rows_over_columns(%x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %sq = moe.mul %x, %x : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<8xf32>} : () -> tensor<8xf32>
  %sum = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<8x8xf32>) -> tensor<8xf32>
  %mean = moe.mul %sum, %inv : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %r = moe.rsqrt %mean : (tensor<8xf32>) -> tensor<8xf32>
  %w = moe.broadcast %r {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<8x8xf32>
  %y = moe.mul %x, %w : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  return %y : tensor<8x8xf32>
}

// The square root multiplies.
// CHECK-LABEL: @multiplied
// CHECK-NOT: _norm
// CHECK: return
func.func @multiplied(%x: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %sq = moe.mul %x, %x : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %mean = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.sqrt %mean : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %y = moe.mul %x, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// A factor per row is no scale: the norm is found, the factor stays.
// CHECK-LABEL: @factor_per_row
// CHECK: moe.rms_norm
// CHECK: moe.mul
// CHECK: return
func.func @factor_per_row(%x: tensor<2x8xf32>, %f: tensor<2xf32>) -> tensor<2x8xf32> {
  %sq = moe.mul %x, %x : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %mean = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.rsqrt %mean : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %h = moe.mul %x, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %fw = moe.broadcast %f {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %y = moe.mul %h, %fw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// So does a factor after another use of the norm.
// CHECK-LABEL: @used_twice
// CHECK: moe.rms_norm
// CHECK: moe.mul
// CHECK: return
func.func @used_twice(%x: tensor<2x8xf32>, %s: tensor<8xf32>) -> tensor<2x8xf32> {
  %sq = moe.mul %x, %x : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %mean = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.rsqrt %mean : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %h = moe.mul %x, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %sw = moe.broadcast %s {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<2x8xf32>
  %g = moe.mul %h, %sw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %y = moe.add %h, %g : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}

// A factor after the bias scales the bias too.
// CHECK-LABEL: @factor_after_bias
// CHECK: moe.layer_norm
// CHECK: moe.mul
// CHECK: return
func.func @factor_after_bias(%x: tensor<2x8xf32>, %s: tensor<8xf32>) -> tensor<2x8xf32> {
  %inv = moe.constant {value = dense<0.125> : tensor<2xf32>} : () -> tensor<2xf32>
  %sum = moe.reduce %x {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %m = moe.mul %sum, %inv : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %mw = moe.broadcast %m {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %c = moe.sub %x, %mw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %sq = moe.mul %c, %c : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %vs = moe.reduce %sq {dims = array<i64: 1>, kind = 0 : i32} : (tensor<2x8xf32>) -> tensor<2xf32>
  %v = moe.mul %inv, %vs : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %r = moe.rsqrt %v : (tensor<2xf32>) -> tensor<2xf32>
  %w = moe.broadcast %r {dims = array<i64: 0>} : (tensor<2xf32>) -> tensor<2x8xf32>
  %h = moe.mul %c, %w : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %sw = moe.broadcast %s {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<2x8xf32>
  %i = moe.add %h, %sw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  %y = moe.mul %i, %sw : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
  return %y : tensor<2x8xf32>
}
