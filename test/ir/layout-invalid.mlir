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

#partial = #moe.layout<data = partial>
// A tanh of each summand is not a summand of the tanh.
func.func @nonlinear(%a: tensor<4xf32, #partial>) {
  // expected-error@+1 {{on mesh axis 'data' operand 0 is a partial sum: 'tensor<4xf32, #moe.layout<data = partial>>', and this operation is not linear in it; reduce it over 'data' first}}
  %0 = moe.tanh %a : (tensor<4xf32, #partial>) -> tensor<4xf32, #partial>
  return
}

// -----

#partial = #moe.layout<data = partial>
#whole = #moe.layout<data = replicate>
// Every rank would add its copy of b.
func.func @one_summand(%a: tensor<4xf32, #partial>, %b: tensor<4xf32, #whole>) {
  // expected-error@+2 {{operand 0 is a partial sum: 'tensor<4xf32, #moe.layout<data = partial>>', and this operation is linear only in other sets of operands}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.add %a, %b : (tensor<4xf32, #partial>, tensor<4xf32, #whole>) -> tensor<4xf32, #partial>
  return
}

// -----

#rows = #moe.layout<data = shard(0)>
#whole = #moe.layout<data = replicate>
func.func @whole_and_split(%a: tensor<2x3xf32, #rows>, %b: tensor<2x3xf32, #whole>) {
  // expected-error@+2 {{operand 1 is whole where operand 0 is split: 'tensor<2x3xf32, #moe.layout<data = replicate>>' and 'tensor<2x3xf32, #moe.layout<data = shard(0)>>'; take a slice of the former or gather the latter}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.mul %a, %b : (tensor<2x3xf32, #rows>, tensor<2x3xf32, #whole>) -> tensor<2x3xf32, #rows>
  return
}

// -----

#columns = #moe.layout<data = shard(1)>
func.func @needed_whole(%a: tensor<2x3xf32, #columns>) {
  // expected-error@+1 {{operand 0 is split along dimension 1, which this operation needs whole}}
  %0 = moe.softmax %a : (tensor<2x3xf32, #columns>) -> tensor<2x3xf32, #columns>
  return
}

// -----

#rows = #moe.layout<data = shard(0)>
#columns = #moe.layout<data = shard(1)>
func.func @two_dimensions(%a: tensor<2x3xf32, #rows>, %b: tensor<3x2xf32, #columns>) {
  // expected-error@+2 {{operand 1 is split along another dimension than operand 0}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dot %a, %b {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2x3xf32, #rows>, tensor<3x2xf32, #columns>) -> tensor<2x2xf32, #rows>
  return
}

// -----

#rows = #moe.layout<data = shard(0)>
#partial = #moe.layout<data = partial>
#whole = #moe.layout<data = replicate>
func.func @sum(%a: tensor<4xf32, #rows>) -> tensor<f32, #whole> {
  // expected-error@+2 {{inferred type(s) 'tensor<f32, #moe.layout<data = partial>>' are incompatible with return type(s) of operation 'tensor<f32, #moe.layout<data = replicate>>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.reduce %a {kind = 0 : i32, dims = array<i64: 0>} : (tensor<4xf32, #rows>) -> tensor<f32, #whole>
  return %0 : tensor<f32, #whole>
}

// -----

func.func @missing(%a: tensor<4xf32, #moe.layout<data = shard(1)>>) {
  // expected-error@+1 {{'moe.neg' op has a result that is split along a dimension that it does not have}}
  %0 = moe.neg %a : (tensor<4xf32, #moe.layout<data = shard(1)>>) -> tensor<4xf32, #moe.layout<data = shard(1)>>
  return
}

// -----

func.func @meshes(%a: tensor<2x2xf32, #moe.layout<data = replicate>>, %b: tensor<2x2xf32, #moe.layout<model = replicate>>) {
  // expected-error@+2 {{operands lie on different meshes: #moe.layout<data = replicate> and #moe.layout<model = replicate>}}
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

// -----

#rows = #moe.layout<data = shard(0)>
func.func @constant() {
  // expected-error@+1 {{'moe.constant' op changes the layout on mesh axis 'data': result 0 is whole, but its type says 'tensor<2xf32, #moe.layout<data = shard(0)>>'}}
  %0 = moe.constant {value = dense<[1.0, 2.0]> : tensor<2xf32, #rows>} : () -> tensor<2xf32, #rows>
  return
}

// -----

func.func @foreign() {
  // expected-error@+1 {{'moe.constant' op has a result whose encoding is no #moe.layout}}
  %0 = moe.constant {value = dense<1.0> : tensor<4xf32, "foo">} : () -> tensor<4xf32, "foo">
  return
}

// -----

func.func @zeros() {
  // expected-error@+1 {{'moe.constant' op has a result that is split along a dimension that it does not have}}
  %0 = moe.constant {value = dense<0.0> : tensor<4xf32, #moe.layout<data = shard(3)>>} : () -> tensor<4xf32, #moe.layout<data = shard(3)>>
  return
}
