// RUN: moe-opt %s --place | FileCheck %s
// RUN: echo "module {}" | not moe-opt --place 2>&1 | FileCheck %s --check-prefix=ALONE

// ALONE: error: has no attribute moe.buffers; run bufferize first

// States lie side by side at multiples of 64 bytes: the one of 100 bytes ends at 128. Drawn by hand, lifetimes in steps
// of @f, sizes rounded to 64:
//
//   step     0    1    2    3
//   big      [256      ]            steps 0 to 1
//   small         [64       ]       steps 1 to 2
//   last               [256     ]   steps 2 to 3
//   scratch            [128]        step 2
//
// At step 2 small, last and scratch are alive: 448 bytes, the least that is possible, and it is reached: `last` must
// take over the bytes of `big`. The largest is placed first, at 0; scratch and then small come behind. Buffers that share
// but one step (scratch and last) must not overlap. Lifetimes that are a step too long would give 256 + 64 + 256 + 128; one that ends a step
// early (operands of the last user forgotten) would put `small` where `big` still is.
// CHECK: moe.buffers = [
// CHECK-SAME: {arena = "state", bytes = 100 : i64, name = "p", offset = 0 : i64}, {arena = "state", bytes = 64 : i64, name = "q", offset = 128 : i64},
// CHECK-SAME: {arena = "gradients", bytes = 64 : i64, name = "g", offset = 0 : i64}, {arena = "staging", bytes = 256 : i64, name = "x", offset = 0 : i64},
// CHECK-SAME: name = "big", offset = 0 : i64, program = "f"},
// CHECK-SAME: name = "small", offset = 384 : i64, program = "f"},
// CHECK-SAME: name = "last", offset = 0 : i64, program = "f"},
// CHECK-SAME: name = "scratch", offset = 256 : i64, program = "f"}]
// CHECK: func.func @f({{.*}}) attributes {moe.live_lower_bound = 448 : i64
module attributes {moe.buffers = [
    {arena = "state", bytes = 100 : i64, name = "p"}, {arena = "state", bytes = 64 : i64, name = "q"},
    {arena = "gradients", bytes = 64 : i64, name = "g"}, {arena = "staging", bytes = 256 : i64, name = "x"},
    {arena = "step", bytes = 256 : i64, name = "big", program = "f"}, {arena = "step", bytes = 4 : i64, name = "small", program = "f"},
    {arena = "step", bytes = 256 : i64, name = "last", program = "f"}, {arena = "step", bytes = 128 : i64, name = "scratch", program = "f"}]} {
  func.func @f(%x: tensor<64xf32> {moe.name = "x", moe.slot = array<i64: 3, 0>}) attributes {moe.program = "f"} {
    %big = moe.exp %x {moe.slots = array<i64: 4, 0>} : (tensor<64xf32>) -> tensor<64xf32>
    %small = moe.reduce %big {kind = 0 : i32, dims = array<i64: 0>, moe.slots = array<i64: 5, 0>} : (tensor<64xf32>) -> tensor<f32>
    %last = moe.broadcast %small {dims = array<i64>, moe.slots = array<i64: 6, 0>, moe.scratch = 7 : i64} : (tensor<f32>) -> tensor<64xf32>
    %view = moe.reshape %last {moe.slots = array<i64: 6, 0>} : (tensor<64xf32>) -> tensor<8x8xf32>
    return
  }
}
