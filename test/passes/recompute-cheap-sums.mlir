// RUN: moe-opt %s --differentiate --simplify --decompose-coarse --simplify=merge=false --fuse-epilogues --fuse --mlir-print-debuginfo -o %t.kept.mlir
// RUN: FileCheck %s < %t.kept.mlir
// RUN: moe-opt %t.kept.mlir '--recompute=cheap-bytes=256 cheap-steps=1 cheap-flops=0' --mlir-print-debuginfo | diff %t.kept.mlir -

// c counts, per row, how many of its numbers in x signs are positive, and scales x with it. The backward reads c and not signs: one kernel
// with a sum makes c of it, which would have to run as a whole, so that the product would be kept instead of c.
module attributes {moe.training = {accumulate = 2 : i64}} {
  moe.state parameter @signs : tensor<8x8xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @down : tensor<8x8xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @head : tensor<8xf32> {initial = {normal = [0.0, 0.5]}}
  func.func @forward(%x: tensor<32x8xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    %signs = moe.read @signs : tensor<8x8xf32> loc("signs")
    %down = moe.read @down : tensor<8x8xf32> loc("down")
    %head = moe.read @head : tensor<8xf32> loc("head")
    %zero = moe.constant {value = dense<0.0> : tensor<32x8xf32>} : () -> tensor<32x8xf32> loc("zero")
    %one = moe.constant {value = dense<1.0> : tensor<32x8xf32>} : () -> tensor<32x8xf32> loc("one")
    %u = moe.dot %x, %signs {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<32x8xf32>, tensor<8x8xf32>) -> tensor<32x8xf32> loc("u")
    %positive = moe.compare %u, %zero {predicate = 4 : i32} : (tensor<32x8xf32>, tensor<32x8xf32>) -> tensor<32x8xi1> loc("positive")
    %ones = moe.select %positive, %one, %zero : (tensor<32x8xi1>, tensor<32x8xf32>, tensor<32x8xf32>) -> tensor<32x8xf32> loc("ones")
    %count = moe.reduce %ones {kind = 0 : i32, dims = array<i64: 1>} : (tensor<32x8xf32>) -> tensor<32xf32> loc("count")
    %counts = moe.broadcast %count {dims = array<i64: 0>} : (tensor<32xf32>) -> tensor<32x8xf32> loc("counts")
    %c = moe.mul %counts, %x : (tensor<32x8xf32>, tensor<32x8xf32>) -> tensor<32x8xf32> loc("c")
    %d = moe.dot %c, %down {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<32x8xf32>, tensor<8x8xf32>) -> tensor<32x8xf32> loc("d")
    %z = moe.dot %d, %head {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<32x8xf32>, tensor<8xf32>) -> tensor<32xf32> loc("z")
    %q = moe.mul %z, %z : (tensor<32xf32>, tensor<32xf32>) -> tensor<32xf32> loc("q")
    %loss = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0>} : (tensor<32xf32>) -> tensor<f32> loc("loss")
    return %loss : tensor<f32>
  }
}

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[U:.*]] = moe.dot {{.*}}
// CHECK: %[[C:.*]] = moe.fused "row_reduce"(%[[U]], %{{[^)]*}})
// CHECK: moe.fused "product"(%[[C]], {{.*}}
// CHECK: moe.write @down.grad
