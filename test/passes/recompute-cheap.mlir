// RUN: moe-opt %s --differentiate --simplify --decompose-coarse --simplify=merge=false --fuse-epilogues --fuse --mlir-print-debuginfo -o %t.kept.mlir
// RUN: moe-opt %t.kept.mlir '--recompute=cheap-bytes=256 cheap-steps=3 cheap-flops=0' --mlir-print-debuginfo -o %t.again.mlir
// RUN: moe-opt %t.again.mlir --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s

// The same bits.
// RUN: moe-opt %t.kept.mlir --interpret=micro_step,micro_step --states=layers,sum > %t.kept
// RUN: moe-opt %t.again.mlir --interpret=micro_step,micro_step --states=layers,sum > %t.again
// RUN: diff %t.kept %t.again
// RUN: FileCheck %s --check-prefix=VALUES < %t.again
// VALUES: layers.0.up.grad = {{.*[1-9].*}}

// Too small for it, or not kept for long enough.
// RUN: moe-opt %t.kept.mlir --recompute --mlir-print-debuginfo | diff %t.kept.mlir -
// RUN: moe-opt %t.kept.mlir '--recompute=cheap-bytes=256 cheap-steps=1000 cheap-flops=0' --mlir-print-debuginfo | diff %t.kept.mlir -
// RUN: moe-opt %t.kept.mlir '--recompute=cheap-bytes=257 cheap-steps=3 cheap-flops=0' | FileCheck %s --check-prefix=LARGE
// LARGE-NOT: tensor<16x8xbf16>{{.*}}moe.recomputed

// What products read that would take no longer stays; what the gate's own gradient reads does not.
// RUN: moe-opt %t.kept.mlir '--recompute=cheap-bytes=256 cheap-steps=3 cheap-flops=1000' | FileCheck %s --check-prefix=QUICK
// QUICK-NOT: moe.recomputed
// QUICK: moe.fused "loop"(%{{[0-9]+}}) {moe.recomputed} : (tensor<32x16xbf16>) -> (tensor<32x16xbf16>, tensor<32x16xbf16>)
// QUICK-NOT: moe.recomputed

// x + (silu(x gate) * (x up)) down, with weights in bf16.
module attributes {moe.training = {accumulate = 2 : i64}} {
  moe.state parameter @layers.0.gate : tensor<8x16xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @layers.0.up : tensor<8x16xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @layers.0.down : tensor<16x8xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @head : tensor<8xf32> {initial = {normal = [0.0, 0.5]}}
  func.func @forward(%x: tensor<32x8xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    %gate = moe.read @layers.0.gate : tensor<8x16xf32> loc("gate")
    %up = moe.read @layers.0.up : tensor<8x16xf32> loc("up")
    %down = moe.read @layers.0.down : tensor<16x8xf32> loc("down")
    %head = moe.read @head : tensor<8xf32> loc("head")
    %xb = moe.cast %x {to = bf16} : (tensor<32x8xf32>) -> tensor<32x8xbf16> loc("xb")
    %gateb = moe.cast %gate {to = bf16} : (tensor<8x16xf32>) -> tensor<8x16xbf16> loc("gateb")
    %upb = moe.cast %up {to = bf16} : (tensor<8x16xf32>) -> tensor<8x16xbf16> loc("upb")
    %downb = moe.cast %down {to = bf16} : (tensor<16x8xf32>) -> tensor<16x8xbf16> loc("downb")
    %g = moe.dot %xb, %gateb {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<32x8xbf16>, tensor<8x16xbf16>) -> tensor<32x16xbf16> loc("g")
    %u = moe.dot %xb, %upb {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<32x8xbf16>, tensor<8x16xbf16>) -> tensor<32x16xbf16> loc("u")
    %s = moe.sigmoid %g : (tensor<32x16xbf16>) -> tensor<32x16xbf16> loc("s")
    %a = moe.mul %g, %s : (tensor<32x16xbf16>, tensor<32x16xbf16>) -> tensor<32x16xbf16> loc("a")
    %h = moe.mul %a, %u : (tensor<32x16xbf16>, tensor<32x16xbf16>) -> tensor<32x16xbf16> loc("h")
    %d = moe.dot %h, %downb {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<32x16xbf16>, tensor<16x8xbf16>) -> tensor<32x8xbf16> loc("d")
    %df = moe.cast %d {to = f32} : (tensor<32x8xbf16>) -> tensor<32x8xf32> loc("df")
    %y = moe.add %x, %df : (tensor<32x8xf32>, tensor<32x8xf32>) -> tensor<32x8xf32> loc("y")
    %z = moe.dot %y, %head {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<32x8xf32>, tensor<8xf32>) -> tensor<32xf32> loc("z")
    %q = moe.mul %z, %z : (tensor<32xf32>, tensor<32xf32>) -> tensor<32xf32> loc("q")
    %loss = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0>} : (tensor<32xf32>) -> tensor<f32> loc("loss")
    return %loss : tensor<f32>
  }
}

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[GATE:.*]] = moe.read @layers.0.gate
// CHECK: %[[DOWN:.*]] = moe.read @layers.0.down
// CHECK: %[[G:.*]] = moe.dot {{.*}} loc("g")
// CHECK: %[[U:.*]] = moe.dot {{.*}} loc("u")
// CHECK: moe.fused "loop"(%[[G]], %[[U]]) :
// CHECK-NOT: moe.recomputed
// CHECK: moe.write @head.grad

// The copy of a weight from its state, the product of the gate from its factors, the input from the input; each right before
// its reader, and the bits of the gate for the gradients besides.
// CHECK: %[[DOWNB:.*]] = moe.fused "loop"(%[[DOWN]]) {moe.recomputed} : (tensor<16x8xf32>) -> tensor<16x8xbf16>
// CHECK: moe.dot %{{.*}}, %[[DOWNB]]
// CHECK: %[[H:.*]]:3 = moe.fused "loop"(%[[G]], %[[U]]) {moe.recomputed}
// CHECK: moe.fused "product"(%[[H]]#2,
// CHECK: %[[XB:.*]] = moe.fused "loop"(%{{.*}}) {moe.recomputed} : (tensor<32x8xf32>) -> tensor<32x8xbf16>
// CHECK: moe.fused "product"(%[[XB]],
// CHECK-NOT: moe.recomputed
// CHECK: loc("layers.0.gate.grad")
