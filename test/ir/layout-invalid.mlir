// RUN: moe-opt %s --split-input-file --verify-diagnostics

// expected-error@+1 {{axis 'data' appears twice in the layout}}
func.func private @twice(tensor<4xf32, #moe.layout<data = replicate, data = replicate>>)

// -----

// expected-error@+1 {{expected replicate, shard(dimension) or partial}}
func.func private @kind(tensor<4xf32, #moe.layout<data = split>>)

// -----

// expected-error@+1 {{negative dimension in the layout of axis 'data'}}
func.func private @negative(tensor<4xf32, #moe.layout<data = shard(-1)>>)

// -----

// expected-error@+1 {{mesh axis of size 0}}
module attributes {moe.mesh = #moe.mesh<data = 0>} {
}

// -----

// No operation computes on distributed tensors yet; treating one as whole would give wrong sums.
func.func @sharded(%a: tensor<4xf32, #moe.layout<data = shard(0)>>) {
  // expected-error@+2 {{only replicated layouts are supported}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.reduce %a {kind = 0 : i32, dims = array<i64: 0>} : (tensor<4xf32, #moe.layout<data = shard(0)>>) -> tensor<f32, #moe.layout<data = shard(0)>>
  return
}

// -----

func.func @meshes(%a: tensor<2x2xf32, #moe.layout<data = replicate>>, %b: tensor<2x2xf32, #moe.layout<model = replicate>>) {
  // expected-error@+2 {{operands lie on different meshes}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dot %a, %b {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2x2xf32, #moe.layout<data = replicate>>, tensor<2x2xf32, #moe.layout<model = replicate>>) -> tensor<2x2xf32, #moe.layout<data = replicate>>
  return
}

// -----

func.func @reshape(%a: tensor<4xf32, #moe.layout<data = replicate>>) {
  // expected-error@+1 {{'moe.reshape' op changes the layout}}
  %0 = moe.reshape %a : (tensor<4xf32, #moe.layout<data = replicate>>) -> tensor<2x2xf32>
  return
}
