// RUN: moe-opt %s --split-input-file --verify-diagnostics

// Every expert-parallel group computes a norm of its own and clips the dense parameters, which all have, by its own factor.
//   https://github.com/NVIDIA-NeMo/Automodel/issues/3816
// The square of the norm, reduced over `data` only, is still a partial sum over `expert`.

#experts = #moe.layout<data = shard(1), expert = shard(0)>
#summand = #moe.layout<data = partial, expert = partial>
#group = #moe.layout<data = replicate, expert = partial>
#whole = #moe.layout<data = replicate, expert = replicate>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  func.func @update(%squares: tensor<2x15xf32, #experts>, %limit: tensor<f32, #whole>) -> tensor<f32, #whole> {
    %mine = moe.reduce %squares {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<2x15xf32, #experts>) -> tensor<f32, #summand>
    %sum = moe.all_reduce %mine {axes = ["data"], moe.inserted_by = "insert-update"} : (tensor<f32, #summand>) -> tensor<f32, #group>
    // expected-note@+3 {{operand 1 (from insert-update) by ranks, scalar}}
    // expected-error@+2 {{on mesh axis 'expert' operand 1 (from insert-update) is a partial sum: 'tensor<f32, #moe.layout<data = replicate, expert = partial>>', and this operation is linear only in other sets of operands; reduce it over 'expert' first}}
    // expected-error@+1 {{failed to infer returned types}}
    %factor = moe.div %limit, %sum : (tensor<f32, #whole>, tensor<f32, #group>) -> tensor<f32, #whole>
    return %factor : tensor<f32, #whole>
  }
}
