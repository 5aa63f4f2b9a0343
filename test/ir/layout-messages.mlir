// RUN: not moe-opt %s --split-input-file 2>&1 | FileCheck %s

// What a wrong layout is called: the tensors by their names, how both lie, and the pass that made them lie so, even where
// other operations stand between it and the error.

#rows = #moe.layout<data = shard(0)>
#whole = #moe.layout<data = replicate>
// CHECK: error: on mesh axis 'data' operand 1 ('fc1.bias') is whole where operand 0 ('fc1.out', from insert-data-parallel) is split: 'tensor<4x3xf32, #moe.layout<data = replicate>>' and 'tensor<4x3xf32, #moe.layout<data = shard(0)>>'; take a slice of the former or gather the latter
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
