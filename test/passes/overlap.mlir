// RUN: moe-opt %s --bufferize --schedule --overlap | FileCheck %s
// RUN: moe-opt %s --bufferize --schedule --overlap=slack=0 | FileCheck %s --check-prefix=TIGHT
// RUN: echo "module {}" | moe-opt --bufferize --schedule --overlap | FileCheck %s --check-prefix=ALONE
// RUN: not moe-opt %s --overlap 2>&1 | FileCheck %s --check-prefix=EARLY

// ALONE: module attributes {moe.buffers = []}
// EARLY: error: has no attribute moe.buffers; run bufferize first

moe.state parameter @v : tensor<2048xf32>
moe.state gradient @g : tensor<256x256xf32>

// A product of this size covers a collective. The gather and the read that it needs come before the second product, no
// earlier, and computation waits for it after that. Where memory must not grow it stays: two whole tensors are live at
// the product that it would have to pass.
// CHECK-LABEL: func.func @gather
// TIGHT-LABEL: func.func @gather
func.func @gather(%x: tensor<256x256xf32> {moe.name = "x"}) -> tensor<256x8xf32> attributes {moe.program = "a"} {
  // CHECK-NEXT: %[[A:.*]] = moe.dot %arg0, %arg0
  // CHECK-NEXT: %[[R:.*]] = moe.read @v
  // CHECK-NEXT: %[[S:.*]] = moe.all_gather %[[R]]
  // CHECK-NEXT: %[[B:.*]] = moe.dot %[[A]], %[[A]]
  // CHECK-NEXT: %[[G:.*]] = moe.done %[[S]], %[[R]]
  // CHECK-NEXT: %[[V:.*]] = moe.reshape %[[G]]
  // CHECK-NEXT: moe.dot %[[B]], %[[V]]
  // TIGHT: moe.dot
  // TIGHT-NEXT: moe.dot
  // TIGHT: moe.all_gather
  %a = moe.dot %x, %x {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<256x256xf32>, tensor<256x256xf32>) -> tensor<256x256xf32>
  %b = moe.dot %a, %a {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<256x256xf32>, tensor<256x256xf32>) -> tensor<256x256xf32>
  %r = moe.read @v : tensor<2048xf32>
  %g = moe.all_gather %r {axes = ["data"], dim = 0 : i64} : (tensor<2048xf32>) -> tensor<2048xf32>
  %v = moe.reshape %g : (tensor<2048xf32>) -> tensor<256x8xf32>
  %y = moe.dot %b, %v {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<256x256xf32>, tensor<256x8xf32>) -> tensor<256x8xf32>
  return %y : tensor<256x8xf32>
}

// The result goes to a state, in place: computation goes on at once and waits when the collective should be over, not at
// the end. The write comes after it.
// CHECK-LABEL: func.func @reduce
func.func @reduce(%x: tensor<256x256xf32> {moe.name = "x"}) -> tensor<256x256xf32> attributes {moe.program = "b"} {
  // CHECK: %[[A:.*]] = moe.dot %arg0, %arg0
  // CHECK-NEXT: %[[S:.*]] = moe.reduce_scatter %[[A]]
  // CHECK-NEXT: %[[B:.*]] = moe.dot %arg0, %arg0
  // CHECK-NEXT: %[[G:.*]] = moe.done %[[S]], %[[A]]
  // CHECK-NEXT: moe.write @g, %[[G]]
  // CHECK-NEXT: moe.dot %[[B]], %arg0
  %a = moe.dot %x, %x {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<256x256xf32>, tensor<256x256xf32>) -> tensor<256x256xf32>
  %s = moe.reduce_scatter %a {axes = ["data"], dim = 0 : i64} : (tensor<256x256xf32>) -> tensor<256x256xf32>
  moe.write @g, %s : tensor<256x256xf32>
  %b = moe.dot %x, %x {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<256x256xf32>, tensor<256x256xf32>) -> tensor<256x256xf32>
  %y = moe.dot %b, %x {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<256x256xf32>, tensor<256x256xf32>) -> tensor<256x256xf32>
  return %y : tensor<256x256xf32>
}

// Whoever overwrites the operand waits for the collective, even if nobody reads the result yet: %e takes over the buffer
// of %a. A collective does not start before what makes its operand, and two keep their order if one reads the other's.
// CHECK-LABEL: func.func @conflict
func.func @conflict(%x: tensor<256x256xf32> {moe.name = "x"}) -> (tensor<256x256xf32>, tensor<256x256xf32>) attributes {moe.program = "c"} {
  // CHECK: %[[A:.*]] = moe.exp %arg0
  // CHECK-NEXT: %[[S:.*]] = moe.all_reduce %[[A]]
  // CHECK-NEXT: %[[T:.*]] = moe.done %[[S]], %[[A]]
  // CHECK-NEXT: %[[U:.*]] = moe.all_reduce %[[T]]
  // CHECK-NEXT: moe.exp %[[A]]
  // CHECK-NEXT: moe.done %[[U]], %[[T]]
  // CHECK-NEXT: return
  %a = moe.exp %x : (tensor<256x256xf32>) -> tensor<256x256xf32>
  %s = moe.all_reduce %a {axes = ["data"]} : (tensor<256x256xf32>) -> tensor<256x256xf32>
  %t = moe.all_reduce %s {axes = ["data"]} : (tensor<256x256xf32>) -> tensor<256x256xf32>
  %e = moe.exp %a {moe.in_place = array<i64: 0, 0>} : (tensor<256x256xf32>) -> tensor<256x256xf32>
  return %t, %e : tensor<256x256xf32>, tensor<256x256xf32>
}
