// RUN: not moe-opt %s 2>&1 | FileCheck %s

// A loader that takes a split tensor for one that all ranks have, and gives all ranks the experts of rank 0.
//   https://github.com/huggingface/transformers/pull/45662
// How a state lies is its type; a program that reads it as something else is refused. What the loader does is tested with
// files that differ by expert (test/e2e/mesh_bugs.py).

#experts = #moe.layout<data = replicate, expert = shard(0)>
#whole = #moe.layout<data = replicate, expert = replicate>
// CHECK: error: 'moe.read' op uses @experts as 'tensor<2x3x5xf32, #moe.layout<data = replicate, expert = replicate>>', but it is 'tensor<2x3x5xf32, #moe.layout<data = replicate, expert = shard(0)>>'
// CHECK: note: on mesh axis 'expert' it is shard(0), but what is read is replicate
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  moe.state parameter @experts : tensor<2x3x5xf32, #experts>
  func.func @forward() -> tensor<2x3x5xf32, #whole> attributes {moe.program = "forward"} {
    %w = moe.read @experts : tensor<2x3x5xf32, #whole>
    return %w : tensor<2x3x5xf32, #whole>
  }
}
