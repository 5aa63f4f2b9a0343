// RUN: moe-opt %s --order-collectives | FileCheck %s
// RUN: echo "module {}" | moe-opt --order-collectives | FileCheck %s --check-prefix=ALONE

// ALONE: module {

moe.state parameter @w : tensor<16xf32>
moe.state parameter @v : tensor<4x4xf32>
moe.state gradient @w.grad : tensor<16xf32>
moe.state parameter @written : tensor<16xf32>

// The gather moves to the cast, and the cast to its reader; what is computed from parameters without a collective stays
// (%u), and so does what reads a state that is written here.
// CHECK-LABEL: func.func @sink
func.func @sink(%x: tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>, tensor<16xf32>) {
  // CHECK-NEXT: %[[V:.*]] = moe.read @v
  // CHECK-NEXT: %[[U:.*]] = moe.exp %[[V]]
  // CHECK-NEXT: %[[S:.*]] = moe.read @written
  // CHECK-NEXT: %[[T:.*]] = moe.all_gather %[[S]]
  // CHECK-NEXT: moe.write @written
  // CHECK-NEXT: %[[A:.*]] = moe.exp %arg0
  // CHECK-NEXT: %[[R:.*]] = moe.read @w
  // CHECK-NEXT: %[[G:.*]] = moe.all_gather %[[R]]
  // CHECK-NEXT: %[[M:.*]] = moe.bucket_split %[[G]]
  // CHECK-NEXT: %[[C:.*]] = moe.exp %[[M]]
  // CHECK-NEXT: moe.add %[[A]], %[[C]]
  // CHECK-NEXT: moe.add %{{.*}}, %[[U]]
  %r = moe.read @w : tensor<16xf32>
  %g = moe.all_gather %r {axes = ["data"], dim = 0 : i64} : (tensor<16xf32>) -> tensor<16xf32>
  %m = moe.bucket_split %g {offsets = array<i64: 0>} : (tensor<16xf32>) -> tensor<4x4xf32>
  %c = moe.exp %m : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %v = moe.read @v : tensor<4x4xf32>
  %u = moe.exp %v : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %s = moe.read @written : tensor<16xf32>
  %t = moe.all_gather %s {axes = ["data"], dim = 0 : i64} : (tensor<16xf32>) -> tensor<16xf32>
  moe.write @written, %t : tensor<16xf32>
  %a = moe.exp %x : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %b = moe.add %a, %c : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %d = moe.add %b, %u : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %b, %d, %t : tensor<4x4xf32>, tensor<4x4xf32>, tensor<16xf32>
}

// What prepares the operand of a reduction (%w, %j) and what takes its result to a state (%n) come with it, with the old
// value of the state. An operation that computes the gradient stays where it is.
// CHECK-LABEL: func.func @raise
func.func @raise(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  // CHECK-NEXT: %[[D:.*]] = moe.exp %arg0
  // CHECK-NEXT: %[[W:.*]] = moe.fused "loop"(%[[D]])
  // CHECK:      %[[J:.*]] = moe.bucket_join %[[W]]
  // CHECK-NEXT: %[[S:.*]] = moe.reduce_scatter %[[J]]
  // CHECK-NEXT: %[[O:.*]] = moe.read @w.grad
  // CHECK-NEXT: %[[N:.*]] = moe.fused "loop"(%[[S]], %[[O]])
  // CHECK:      moe.write @w.grad, %[[N]]
  // CHECK-NEXT: moe.sin %arg0
  // CHECK-NEXT: return
  %o = moe.read @w.grad : tensor<16xf32>
  %d = moe.exp %x : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %y = moe.sin %x : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %w = moe.fused "loop"(%d) : (tensor<4x4xf32>) -> tensor<4x4xf32> {
  ^bb0(%i: tensor<4x4xf32>):
    %e = moe.neg %i : (tensor<4x4xf32>) -> tensor<4x4xf32>
    moe.yield %e : tensor<4x4xf32>
  }
  %j = moe.bucket_join %w {offsets = array<i64: 0>} : (tensor<4x4xf32>) -> tensor<16xf32>
  %s = moe.reduce_scatter %j {axes = ["data"], dim = 0 : i64} : (tensor<16xf32>) -> tensor<16xf32>
  %n = moe.fused "loop"(%s, %o) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32> {
  ^bb0(%i: tensor<16xf32>, %k: tensor<16xf32>):
    %z = moe.add %i, %k : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
    moe.yield %z : tensor<16xf32>
  }
  moe.write @w.grad, %n : tensor<16xf32>
  return %y : tensor<4x4xf32>
}

// A write stays behind whoever reads what it replaces, a view included; one whose value is asked for here stays, too.
// CHECK-LABEL: func.func @stay
func.func @stay(%x: tensor<16xf32>) -> (tensor<4x4xf32>, tensor<16xf32>) {
  // CHECK-NEXT: %[[P:.*]] = moe.exp %arg0
  // CHECK-NEXT: %[[S:.*]] = moe.all_reduce %[[P]]
  // CHECK-NEXT: %[[O:.*]] = moe.read @w.grad
  // CHECK-NEXT: %[[V:.*]] = moe.reshape %[[O]]
  // CHECK-NEXT: moe.exp %[[V]]
  // CHECK-NEXT: moe.write @w.grad, %[[S]]
  // CHECK-NEXT: moe.sin %arg0
  // CHECK-NEXT: moe.all_reduce %[[P]]
  %p = moe.exp %x : (tensor<16xf32>) -> tensor<16xf32>
  %o = moe.read @w.grad : tensor<16xf32>
  %v = moe.reshape %o : (tensor<16xf32>) -> tensor<4x4xf32>
  %u = moe.exp %v : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %e = moe.sin %x : (tensor<16xf32>) -> tensor<16xf32>
  %s = moe.all_reduce %p {axes = ["data"]} : (tensor<16xf32>) -> tensor<16xf32>
  moe.write @w.grad, %s : tensor<16xf32>
  %t = moe.all_reduce %p {axes = ["data"]} : (tensor<16xf32>) -> tensor<16xf32>
  %k = moe.add %t, %e : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  return %u, %k : tensor<4x4xf32>, tensor<16xf32>
}
