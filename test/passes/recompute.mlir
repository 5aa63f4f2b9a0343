// RUN: moe-opt %s --differentiate --simplify --decompose-coarse --simplify=merge=false --fuse-epilogues --fuse --mlir-print-debuginfo -o %t.none.mlir
// RUN: moe-opt %t.none.mlir --recompute=policy=full --mlir-print-debuginfo -o %t.full.mlir
// RUN: moe-opt %t.full.mlir --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s

// The same numbers, two micro-steps with other dropped elements in each.
// RUN: moe-opt %t.none.mlir --interpret=micro_step,micro_step --states=layers,head,sum,control --float64 > %t.none
// RUN: moe-opt %t.full.mlir --interpret=micro_step,micro_step --states=layers,head,sum,control --float64 > %t.full
// RUN: diff %t.none %t.full
// RUN: FileCheck %s --check-prefix=VALUES < %t.full

// RUN: moe-opt %t.none.mlir --recompute --mlir-print-debuginfo | diff %t.none.mlir -
// RUN: moe-opt %t.none.mlir --recompute=policy=none --mlir-print-debuginfo | diff %t.none.mlir -
// RUN: echo "module {}" | moe-opt --recompute | FileCheck %s --check-prefix=ALONE
// RUN: echo "module {}" | not moe-opt --recompute=policy=full 2>&1 | FileCheck %s --check-prefix=EMPTY
// RUN: not moe-opt %t.none.mlir --recompute=policy=layers 2>&1 | FileCheck %s --check-prefix=LAYERS

// Names without numbers: that nothing is saved is said.
// RUN: sed 's/layers.0/first/g;s/layers.1/second/g' %t.none.mlir | moe-opt --recompute=policy=full 2>&1 | FileCheck %s --check-prefix=NAMELESS

// ALONE: module {
// NAMELESS: warning: --recompute full changes nothing: no layers were found
// NAMELESS: moe.recompute = {flops = 0.000000e+00 : f64, kept_bytes = [[BYTES:[0-9]+]] : i64, kept_bytes_without = [[BYTES]] : i64, operations = 0 : i64
// NAMELESS-NOT: moe.recomputed
// EMPTY: error: there is no program @micro_step
// A policy that is not there must not be taken for none: the memory plan would be another one than asked for.
// LAYERS: error: --recompute layers does not exist; there are none and full

// VALUES: layers.0.w.grad = {{.*[1-9].*}}
// VALUES: layers.1.w.grad = {{.*[1-9].*}}

// Two layers x + dropout(gelu(norm(x) w)) and a head.
module attributes {moe.training = {accumulate = 2 : i64}} {
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64, checkpointed}
  moe.state parameter @layers.0.scale : tensor<8xf32> {initial = 1.0 : f64}
  moe.state parameter @layers.0.w : tensor<8x8xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @layers.1.scale : tensor<8xf32> {initial = 1.0 : f64}
  moe.state parameter @layers.1.w : tensor<8x8xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @head : tensor<8xf32> {initial = {normal = [0.0, 0.5]}}
  func.func @forward(%x: tensor<16x8xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    %rng = moe.read @control.progress : tensor<2xi64> loc("rng")
    %scale0 = moe.read @layers.0.scale : tensor<8xf32> loc("layers.0.scale")
    %w0 = moe.read @layers.0.w : tensor<8x8xf32> loc("layers.0.w")
    %scale1 = moe.read @layers.1.scale : tensor<8xf32> loc("layers.1.scale")
    %w1 = moe.read @layers.1.w : tensor<8x8xf32> loc("layers.1.w")
    %head = moe.read @head : tensor<8xf32> loc("head")
    %n0, %r0 = moe.rms_norm %x, %scale0 {epsilon = 1.0e-5 : f64} : (tensor<16x8xf32>, tensor<8xf32>) -> (tensor<16x8xf32>, tensor<16xf32>) loc("n0")
    %h0 = moe.dot %n0, %w0 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<16x8xf32>, tensor<8x8xf32>) -> tensor<16x8xf32> loc("h0")
    %a0 = moe.gelu %h0 : (tensor<16x8xf32>) -> tensor<16x8xf32> loc("a0")
    %d0 = moe.dropout %a0, %rng {rate = 0.25 : f64, seed = 1 : i64, site = 5 : i64} : (tensor<16x8xf32>, tensor<2xi64>) -> tensor<16x8xf32> loc("d0")
    %x1 = moe.add %x, %d0 : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32> loc("x1")
    %n1, %r1 = moe.rms_norm %x1, %scale1 {epsilon = 1.0e-5 : f64} : (tensor<16x8xf32>, tensor<8xf32>) -> (tensor<16x8xf32>, tensor<16xf32>) loc("n1")
    %h1 = moe.dot %n1, %w1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<16x8xf32>, tensor<8x8xf32>) -> tensor<16x8xf32> loc("h1")
    %a1 = moe.gelu %h1 : (tensor<16x8xf32>) -> tensor<16x8xf32> loc("a1")
    %d1 = moe.dropout %a1, %rng {rate = 0.25 : f64, seed = 1 : i64, site = 6 : i64} : (tensor<16x8xf32>, tensor<2xi64>) -> tensor<16x8xf32> loc("d1")
    %x2 = moe.add %x1, %d1 : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32> loc("x2")
    %y = moe.dot %x2, %head {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<16x8xf32>, tensor<8xf32>) -> tensor<16xf32> loc("y")
    %q = moe.mul %y, %y : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32> loc("q")
    %loss = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0>} : (tensor<16xf32>) -> tensor<f32> loc("loss")
    return %loss : tensor<f32>
  }
}

// The forward is as it was, but for what nobody reads any more and for the sum over rows (#3) that the norm of layer 1, which
// the kernel of the residual computes, starts from: computed again by another kernel it might have other bits.
// CHECK-LABEL: func.func @micro_step
// CHECK-SAME: (%[[X0:[^:]*]]:
// CHECK: %[[RNG:.*]] = moe.read @control.progress
// CHECK: %[[SCALE0:.*]] = moe.read @layers.0.scale
// CHECK: %[[W0:.*]] = moe.read @layers.0.w
// CHECK: %[[SCALE1:.*]] = moe.read @layers.1.scale
// CHECK: %[[W1:.*]] = moe.read @layers.1.w
// CHECK: moe.fused "row_reduce"
// CHECK: moe.dot {{.*}} loc("h0")
// CHECK: %[[X1:.*]]:4 = moe.fused "row_reduce"
// CHECK: site = 5
// CHECK: %[[SUM:.*]] = moe.reduce
// CHECK: moe.yield {{.*}}, %[[SUM]] :
// CHECK: moe.dot {{.*}} loc("h1")
// CHECK: site = 6
// CHECK: moe.dot {{.*}} loc("y")
// CHECK-NOT: moe.recomputed
// CHECK: moe.write @head.grad

// When the gradient of x2 is there, layer 1 is computed again from x1: by the gradient's reader, who draws the same numbers.
// CHECK: %[[N1:.*]] = moe.fused "loop"(%[[X1]]#3, %[[X1]]#0, %[[SCALE1]]) {moe.recomputed}
// CHECK-NOT: moe.reduce
// CHECK: loc("n1.again")
// CHECK: %[[H1:.*]] = moe.dot %[[N1]], %[[W1]] {{.*}}moe.recomputed{{.*}} loc("h1.again")
// CHECK: %[[GH1:.*]] = moe.fused "loop"(%[[RNG]], {{.*}}, %[[H1]])
// CHECK: site = 6
// CHECK: moe.fused "product"(%[[N1]], %[[GH1]],
// CHECK: moe.write @layers.1.w.grad
// CHECK: moe.write @layers.1.scale.grad

// Only then layer 0, and neither x1 nor the sums again.
// CHECK: %[[N0:.*]] = moe.fused "loop"({{.*}}, %[[X0]], %[[SCALE0]]) {moe.recomputed}
// CHECK: %[[H0:.*]] = moe.dot %[[N0]], %[[W0]] {{.*}}moe.recomputed{{.*}} loc("h0.again")
// CHECK: %[[GH0:.*]] = moe.fused "row_reduce"({{.*}}, %[[H0]])
// CHECK: site = 5
// CHECK: moe.fused "product"(%[[N0]], %[[GH0]],
// CHECK-NOT: moe.recomputed
// CHECK: moe.write @control.progress
