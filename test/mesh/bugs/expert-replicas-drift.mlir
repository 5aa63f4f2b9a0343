// RUN: not moe-opt %s 2>&1 | FileCheck %s

// More ranks than an expert-parallel group: experts have replicas over `data`, whose gradients were left out of the
// reduction of data parallelism, as all experts' are. Replicas drift apart.
//   https://github.com/facebookresearch/fairseq/issues/4220
// What a rank has is a summand; no rule lets an optimizer subtract it from a weight that is whole.

#rows = #moe.layout<data = shard(1), expert = shard(0)>
#experts = #moe.layout<data = replicate, expert = shard(0)>
#summand = #moe.layout<data = partial, expert = shard(0)>
// CHECK: error: on mesh axis 'data' operand 1 ('experts.grad') is a partial sum: 'tensor<2x3x5xf32, #moe.layout<data = partial, expert = shard(0)>>', and this operation is linear only in other sets of operands; reduce it over 'data' first
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  func.func @update(%w: tensor<2x3x5xf32, #experts>, %x: tensor<2x8x3xf32, #rows>, %dy: tensor<2x8x5xf32, #rows>) -> tensor<2x3x5xf32, #experts> {
    %grad = moe.dot %x, %dy {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<2x8x3xf32, #rows>, tensor<2x8x5xf32, #rows>) -> tensor<2x3x5xf32, #summand> loc("experts.grad")
    %new = moe.sub %w, %grad : (tensor<2x3x5xf32, #experts>, tensor<2x3x5xf32, #summand>) -> tensor<2x3x5xf32, #experts>
    return %new : tensor<2x3x5xf32, #experts>
  }
}
