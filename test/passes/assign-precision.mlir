// RUN: moe-opt %s --assign-precision | FileCheck %s --check-prefix=F32
// RUN: moe-opt %s --assign-precision=compute=bf16 | FileCheck %s
// RUN: moe-opt %s '--assign-precision=compute=bf16 target=cpu:x86-64-v4' | FileCheck %s --check-prefix=CPU
// RUN: not moe-opt %s '--assign-precision=compute=bf16 target=cpu:x86-64-v3' 2>&1 | FileCheck %s --check-prefix=V3
// RUN: not moe-opt %s '--assign-precision=compute=bf16 target=cpu:z80' 2>&1 | FileCheck %s --check-prefix=Z80
// RUN: not moe-opt %s --assign-precision=compute=fp16 2>&1 | FileCheck %s --check-prefix=FP16
// RUN: echo "module {}" | moe-opt --assign-precision=compute=bf16 | FileCheck %s --check-prefix=ALONE

// ALONE: module {

// The name of the recipe's key and the type asked for are in the message: compiling on in float32 would train another
// model than the recipe says.
// FP16: error: precision.compute: fp16 is planned; f32 and bf16 are implemented

// V3: error: precision.compute: bf16 is not possible on cpu:x86-64-v3: products in bf16 need AVX-512
// Z80: error: unknown CPU 'z80'

// F32-NOT: bf16

// A product computes in bf16, a bias is added in bf16, to a residual stream it is added in float32, which a softmax and
// every result of the program are too.
// CHECK-LABEL: func.func @forward
// CHECK-SAME: (%[[X:.*]]: tensor<1x2xf32>, %[[W:.*]]: tensor<2x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>)
// CHECK-DAG: %[[NX:.*]] = moe.cast %[[X]] {{.*}} : (tensor<1x2xf32>) -> tensor<1x2xbf16>
// CHECK-DAG: %[[NW:.*]] = moe.cast %[[W]] {{.*}} : (tensor<2x2xf32>) -> tensor<2x2xbf16>
// CHECK: %[[P:.*]] = moe.dot %[[NX]], %[[NW]] {{.*}} -> tensor<1x2xbf16>
// CHECK: %[[B:.*]] = moe.broadcast {{.*}} : (tensor<2xf32>) -> tensor<1x2xf32>
// CHECK: %[[NB:.*]] = moe.cast %[[B]] {{.*}} : (tensor<1x2xf32>) -> tensor<1x2xbf16>
// CHECK: %[[S:.*]] = moe.add %[[P]], %[[NB]] : (tensor<1x2xbf16>, tensor<1x2xbf16>) -> tensor<1x2xbf16>
// CHECK: %[[WIDE:.*]] = moe.cast %[[S]] {{.*}} : (tensor<1x2xbf16>) -> tensor<1x2xf32>
// CHECK: %[[R:.*]] = moe.add %[[WIDE]], %[[X]] : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
// CHECK: %[[Q:.*]] = moe.softmax %[[R]] {{.*}}tensor<1x2xf32>
// CHECK: return %[[R]], %[[Q]]
moe.state parameter @bias : tensor<2xf32> {initial = 0.0}
func.func @forward(%x: tensor<1x2xf32>, %w: tensor<2x2xf32>) -> (tensor<1x2xf32>, tensor<1x2xf32>) {
  %p = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %bias = moe.read @bias : tensor<2xf32>
  %b = moe.broadcast %bias {dims = array<i64: 1>} : (tensor<2xf32>) -> tensor<1x2xf32>
  %s = moe.add %p, %b : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %r = moe.add %s, %x : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %q = moe.softmax %r {dim = 1 : i64} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  return %r, %q : tensor<1x2xf32>, tensor<1x2xf32>
}

// What decides on experts is computed in float32 throughout: the gate's product reads float32, though its input is the
// product of a layer before, which stays narrow for its other reader.
// CHECK-LABEL: func.func @gate
// CHECK: %[[H:.*]] = moe.dot {{.*}} -> tensor<1x2x2xbf16>
// CHECK: %[[HW:.*]] = moe.cast %[[H]] {{.*}} : (tensor<1x2x2xbf16>) -> tensor<1x2x2xf32>
// CHECK: %[[R:.*]] = moe.relu %[[HW]]
// CHECK: %[[LOGITS:.*]] = moe.dot %[[R]], %{{.*}} -> tensor<1x2x2xf32>
// CHECK: moe.route %[[LOGITS]]
// CHECK: moe.neg %[[HW]]
func.func @gate(%x: tensor<1x2x2xf32>, %w: tensor<2x2xf32>, %g: tensor<2x2xf32>) -> (tensor<1x2x1xi32>, tensor<1x2x2xf32>) {
  %h0 = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<1x2x2xf32>, tensor<2x2xf32>) -> tensor<1x2x2xf32>
  %h = moe.relu %h0 : (tensor<1x2x2xf32>) -> tensor<1x2x2xf32>
  %logits = moe.dot %h, %g {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 1>} : (tensor<1x2x2xf32>, tensor<2x2xf32>) -> tensor<1x2x2xf32>
  %r:8 = "moe.route"(%logits) {top_k = 1 : i64, capacity = 2 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x2x2xf32>) -> (tensor<1x2x1xi32>, tensor<1x2x1xi32>, tensor<1x2x1xf32>, tensor<2x1x2xi32>, tensor<1xf32>, tensor<1x2x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  %n = moe.neg %h0 : (tensor<1x2x2xf32>) -> tensor<1x2x2xf32>
  return %r#0, %n : tensor<1x2x1xi32>, tensor<1x2x2xf32>
}

// Attention takes the narrow type; what it keeps for the gradient stays float32.
// CHECK-LABEL: func.func @attention
// CHECK: moe.attention {{.*}} -> (tensor<1x2x1x4xbf16>, tensor<1x1x2xf32>)
// CPU-LABEL: func.func @attention
// CPU: moe.attention {{.*}} -> (tensor<1x2x1x4xbf16>, tensor<1x1x2xf32>)
func.func @attention(%q: tensor<1x2x1x4xf32>) -> tensor<1x2x1x4xf32> {
  %out, %lse = moe.attention %q, %q, %q {scale = 0.5 : f64, causal} : (tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>) -> (tensor<1x2x1x4xf32>, tensor<1x1x2xf32>)
  return %out : tensor<1x2x1x4xf32>
}

// What a product reads through a reshape is rounded before it: the kernel that computes it stores it once. Its result is
// stored narrow, too.
// CHECK-LABEL: func.func @reshaped
// CHECK: %[[E:.*]] = moe.exp %{{.*}} : (tensor<2x2xf32>) -> tensor<2x2xf32>
// CHECK: %[[N:.*]] = moe.cast %[[E]] {to = bf16}
// CHECK: %[[SHAPED:.*]] = moe.reshape %[[N]] : (tensor<2x2xbf16>) -> tensor<1x4xbf16>
// CHECK: %[[Y:.*]] = moe.dot %[[SHAPED]], %{{.*}} -> tensor<1x1xbf16>
// CHECK: %[[Z:.*]] = moe.reshape %[[Y]] : (tensor<1x1xbf16>) -> tensor<1xbf16>
// CHECK: moe.cast %[[Z]] {to = f32}
func.func @reshaped(%x: tensor<2x2xf32>, %w: tensor<4x1xf32>) -> tensor<1xf32> attributes {moe.program = "reshaped"} {
  %e = moe.exp %x : (tensor<2x2xf32>) -> tensor<2x2xf32>
  %r = moe.reshape %e : (tensor<2x2xf32>) -> tensor<1x4xf32>
  %y = moe.dot %r, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<1x4xf32>, tensor<4x1xf32>) -> tensor<1x1xf32>
  %z = moe.reshape %y : (tensor<1x1xf32>) -> tensor<1xf32>
  return %z : tensor<1xf32>
}
