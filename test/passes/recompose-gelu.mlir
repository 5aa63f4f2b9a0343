// RUN: moe-opt %s --recompose | FileCheck %s

// CHECK-LABEL: @tanh_by_power
// CHECK-NEXT: moe.gelu %{{.*}} {approximate = 1 : i32}
// CHECK-NEXT: return
func.func @tanh_by_power(%x: tensor<4xf32>) -> tensor<4xf32> {
  %three = moe.constant {value = dense<3.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %a = moe.constant {value = dense<0.044715> : tensor<4xf32>} : () -> tensor<4xf32>
  %s = moe.constant {value = dense<0.797884583> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %p = moe.pow %x, %three : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %q = moe.mul %p, %a : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %r = moe.add %x, %q : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = moe.mul %r, %s : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %v = moe.tanh %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %v, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %hx, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// sqrt(2/pi) x (1 + 0.044715 x^2), halved last.
// CHECK-LABEL: @tanh_factored
// CHECK-NEXT: moe.gelu %{{.*}} {approximate = 1 : i32}
// CHECK-NEXT: return
func.func @tanh_factored(%x: tensor<4xf32>) -> tensor<4xf32> {
  %a = moe.constant {value = dense<0.044715> : tensor<4xf32>} : () -> tensor<4xf32>
  %s = moe.constant {value = dense<0.7978846> : tensor<4xf32>} : () -> tensor<4xf32>
  %two = moe.constant {value = dense<2.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %xx = moe.mul %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %q = moe.mul %a, %xx : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %r = moe.add %one, %q : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %sx = moe.mul %s, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = moe.mul %sx, %r : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %v = moe.tanh %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %one, %v : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %z = moe.mul %w, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.div %z, %two : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// The input is a sum itself.
// CHECK-LABEL: @erf_of_a_sum
// CHECK: %[[Z:.*]] = moe.add
// CHECK-NEXT: moe.gelu %[[Z]] :
// CHECK-NEXT: return
func.func @erf_of_a_sum(%x: tensor<4xf32>) -> tensor<4xf32> {
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %r2 = moe.constant {value = dense<1.41421354> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %z = moe.add %x, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = moe.div %z, %r2 : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %e = moe.erf %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %e, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %m = moe.mul %z, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %m, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @erf_multiplied_out
// CHECK-NEXT: moe.gelu %{{[^ ]*}} :
// CHECK-NEXT: return
func.func @erf_multiplied_out(%x: tensor<4xf32>) -> tensor<4xf32> {
  %k = moe.constant {value = dense<0.707106769> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %t = moe.mul %x, %k : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %e = moe.erf %t : (tensor<4xf32>) -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %m = moe.mul %hx, %e : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.add %hx, %m : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// Near misses: another slope, another polynomial, no half, the curve of another tensor, a curve that is used again.
// CHECK-LABEL: @slope
// CHECK-NOT: moe.gelu
// CHECK: return
func.func @slope(%x: tensor<4xf32>) -> tensor<4xf32> {
  %k = moe.constant {value = dense<0.7> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %t = moe.mul %x, %k : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %e = moe.erf %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %e, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %hx, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @polynomial
// CHECK-NOT: moe.gelu
// CHECK: return
func.func @polynomial(%x: tensor<4xf32>) -> tensor<4xf32> {
  %three = moe.constant {value = dense<3.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %a = moe.constant {value = dense<0.05> : tensor<4xf32>} : () -> tensor<4xf32>
  %s = moe.constant {value = dense<0.797884583> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %p = moe.pow %x, %three : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %q = moe.mul %p, %a : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %r = moe.add %x, %q : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = moe.mul %r, %s : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %v = moe.tanh %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %v, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %hx, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @no_half
// CHECK-NOT: moe.gelu
// CHECK: return
func.func @no_half(%x: tensor<4xf32>) -> tensor<4xf32> {
  %k = moe.constant {value = dense<0.707106769> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %t = moe.mul %x, %k : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %e = moe.erf %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %e, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %x, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @minus
// CHECK-NOT: moe.gelu
// CHECK: return
func.func @minus(%x: tensor<4xf32>) -> tensor<4xf32> {
  %k = moe.constant {value = dense<0.707106769> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %t = moe.mul %x, %k : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %e = moe.erf %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.sub %one, %e : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %hx, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// CHECK-LABEL: @used_again
// CHECK-NOT: moe.gelu
// CHECK: return
func.func @used_again(%x: tensor<4xf32>) -> tensor<4xf32> {
  %k = moe.constant {value = dense<0.707106769> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %t = moe.mul %x, %k : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %e = moe.erf %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %e, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %z = moe.mul %hx, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.add %z, %e : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// Constants of a model in 16 bits are rounded to them, here to bf16.
// CHECK-LABEL: @tanh_in_bf16
// CHECK-NEXT: moe.gelu %{{.*}} {approximate = 1 : i32} : (tensor<4xf32>) -> tensor<4xf32>
// CHECK-NEXT: return
func.func @tanh_in_bf16(%x: tensor<4xf32>) -> tensor<4xf32> {
  %a = moe.constant {value = dense<0.044677734375> : tensor<4xf32>} : () -> tensor<4xf32>
  %s = moe.constant {value = dense<0.796875> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %xx = moe.mul %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %xxx = moe.mul %xx, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %q = moe.mul %xxx, %a : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %r = moe.add %x, %q : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = moe.mul %r, %s : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %v = moe.tanh %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %v, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %hx, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// Another slope is another function.
// CHECK-LABEL: @steeper_in_bf16
// CHECK-NOT: moe.gelu
// CHECK: return
func.func @steeper_in_bf16(%x: tensor<4xf32>) -> tensor<4xf32> {
  %a = moe.constant {value = dense<0.044677734375> : tensor<4xf32>} : () -> tensor<4xf32>
  %s = moe.constant {value = dense<0.8125> : tensor<4xf32>} : () -> tensor<4xf32>
  %h = moe.constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
  %one = moe.constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %xx = moe.mul %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %xxx = moe.mul %xx, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %q = moe.mul %xxx, %a : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %r = moe.add %x, %q : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %t = moe.mul %r, %s : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %v = moe.tanh %t : (tensor<4xf32>) -> tensor<4xf32>
  %w = moe.add %v, %one : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %hx = moe.mul %x, %h : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = moe.mul %hx, %w : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
