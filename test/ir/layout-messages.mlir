// RUN: not moe-opt %s --split-input-file 2>&1 | FileCheck %s

// What a wrong layout is called: the tensors by their names, how both lie, and the pass that made them lie so, even where
// other operations stand between it and the error.

#rows = #moe.layout<data = shard(0)>
#whole = #moe.layout<data = replicate>
// CHECK: error: on mesh axis 'data' operand 1 ('fc1.bias') is whole where operand 0 ('fc1.out', from insert-data-parallel) is split: 'tensor<4x3xf32, #moe.layout<data = replicate>>' and 'tensor<4x3xf32, #moe.layout<data = shard(0)>>'; take a slice of the former or gather the latter
// CHECK: note: operand 1 ('fc1.bias') by ranks, 4x3
// CHECK-NEXT: {{^}}  | 0,1 |
// CHECK: note: operand 0 ('fc1.out', from insert-data-parallel) by ranks, 8x3
// CHECK-NEXT: {{^}}  | 0 |
// CHECK-NEXT: {{^}}  | 1 |
module attributes {moe.mesh = #moe.mesh<data = 2>} {
  func.func @slice(%x: tensor<8x3xf32, #whole>, %b: tensor<4x3xf32, #whole> loc("fc1.bias")) {
    %0 = moe.all_slice %x {axes = ["data"], dim = 0, moe.inserted_by = "insert-data-parallel"} : (tensor<8x3xf32, #whole>) -> tensor<4x3xf32, #rows>
    %1 = moe.exp %0 : (tensor<4x3xf32, #rows>) -> tensor<4x3xf32, #rows>
    %2 = moe.tanh %1 : (tensor<4x3xf32, #rows>) -> tensor<4x3xf32, #rows> loc("fc1.out")
    %3 = moe.add %2, %b : (tensor<4x3xf32, #rows>, tensor<4x3xf32, #whole>) -> tensor<4x3xf32, #rows>
    return
  }
}

// -----

#rows = #moe.layout<data = shard(0)>
#columns = #moe.layout<data = shard(1)>
// CHECK: error: 'moe.write' op uses @fc1.weight as 'tensor<4x3xf32, #moe.layout<data = shard(1)>>', but it is 'tensor<4x3xf32, #moe.layout<data = shard(0)>>'
// CHECK: note: on mesh axis 'data' it is shard(0), but what is written ('fc1.new', from insert-fsdp) is shard(1)
// CHECK: note: the state by ranks, 8x3
// CHECK-NEXT: {{^}}  | 0 |
// CHECK-NEXT: {{^}}  | 1 |
// CHECK: note: what is written by ranks, 4x6
// CHECK-NEXT: {{^}}  | 0 | 1 |
module attributes {moe.mesh = #moe.mesh<data = 2>} {
  moe.state parameter @fc1.weight : tensor<4x3xf32, #rows>
  func.func @update(%x: tensor<8x3xf32, #columns>) {
    %0 = moe.slice %x {starts = array<i64: 0, 0>, limits = array<i64: 4, 3>, strides = array<i64: 1, 1>} : (tensor<8x3xf32, #columns>) -> tensor<4x3xf32, #columns>
    %1 = moe.all_to_all %0 {axes = ["data"], from = 1, to = 0} : (tensor<4x3xf32, #columns>) -> tensor<2x6xf32, #rows>
    %2 = moe.all_to_all %1 {axes = ["data"], from = 0, to = 1, moe.inserted_by = "insert-fsdp"} : (tensor<2x6xf32, #rows>) -> tensor<4x3xf32, #columns> loc("fc1.new")
    moe.write @fc1.weight, %2 : tensor<4x3xf32, #columns>
    return
  }
}

// -----

// A sum over one axis of what is split over the other.
#layout = #moe.layout<data = shard(0), expert = partial>
// CHECK: error: on mesh axis 'expert' operand 0 ('gate.sum') is a partial sum
// CHECK: note: operand 0 ('gate.sum') by ranks, 8x3
// CHECK-NEXT: {{^}}  | 0 + 1 |
// CHECK-NEXT: {{^}}  | 2 + 3 |
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  func.func @sum(%x: tensor<4x3xf32, #layout> loc("gate.sum")) {
    %0 = moe.exp %x : (tensor<4x3xf32, #layout>) -> tensor<4x3xf32, #layout>
    return
  }
}

// -----

// Both axes split one dimension, then one each; a long column is cut short.
#blocks = #moe.layout<data = shard(0), expert = shard(1)>
#rows = #moe.layout<data = shard(0), expert = shard(0)>
// CHECK: error: on mesh axis 'expert' operand 1 ('b') is split along another dimension than operand 0 ('a')
// CHECK: note: operand 1 ('b') by ranks, 24x2
// CHECK-NEXT: {{^}}  | 0 |
// CHECK-NEXT: {{^}}  | 1 |
// CHECK-NEXT: {{^}}  | 2 |
// CHECK-NEXT: {{^}}  | 3 |
// CHECK-NEXT: {{^}}...
// CHECK: note: operand 0 ('a') by ranks, 8x6
// CHECK-NEXT: {{^}}  | 0 | 1 | 2 |
// CHECK-NEXT: {{^}}  | 3 | 4 | 5 |
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 3>} {
  func.func @both(%a: tensor<4x2xf32, #blocks> loc("a"), %b: tensor<4x2xf32, #rows> loc("b")) {
    %0 = moe.add %a, %b : (tensor<4x2xf32, #blocks>, tensor<4x2xf32, #rows>) -> tensor<4x2xf32, #blocks>
    return
  }
}
