// RUN: moe-opt %s --verify-diagnostics

// Ranks that share tokens compute the rows of their own experts and add up; slots of other ranks' experts had a weight of
// zero in the sum but not in its gradient, and routers learned from rows that nobody had sent.
//   https://github.com/huggingface/transformers/issues/48687
// Rows that are split by expert may be combined only by tables of which each rank has its own part, from own_slots.

#rows = #moe.layout<expert = shard(0)>
#whole = #moe.layout<expert = replicate>
#sum = #moe.layout<expert = partial>
module attributes {moe.mesh = #moe.mesh<expert = 2>} {
  func.func @combine(%rows: tensor<2x1x4x3xf32, #rows>, %expert: tensor<1x8x2xi32, #whole>, %slot: tensor<1x8x2xi32, #whole>, %token: tensor<2x1x4xi32, #rows>, %weight: tensor<1x8x2xf32, #whole>) -> tensor<1x8x3xf32, #sum> {
    // expected-note@+4 {{operand 1 by ranks, 1x8x2}}
    // expected-note@+3 {{operand 3 by ranks, 4x1x4}}
    // expected-error@+2 {{on mesh axis 'expert' operand 3 is split, so operand 1 must be what each rank has of it, a partial sum}}
    // expected-error@+1 {{failed to infer returned types}}
    %y = moe.combine %rows, %expert, %slot, %token, %weight : (tensor<2x1x4x3xf32, #rows>, tensor<1x8x2xi32, #whole>, tensor<1x8x2xi32, #whole>, tensor<2x1x4xi32, #rows>, tensor<1x8x2xf32, #whole>) -> tensor<1x8x3xf32, #sum>
    return %y : tensor<1x8x3xf32, #sum>
  }
}
