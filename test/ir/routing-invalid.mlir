// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @case(%l: tensor<1x4x2xf32>) {
  // expected-error@+2 {{route chooses 1 or 2 experts per token, not 3}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:8 = "moe.route"(%l) {top_k = 3 : i64, capacity = 3 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  return
}

// -----

func.func @case(%l: tensor<1x4x2xf32>) {
  // expected-error@+2 {{route needs experts and a capacity of at least 1, got 2 and 0}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:8 = "moe.route"(%l) {top_k = 2 : i64, capacity = 0 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  return
}

// -----

func.func @case(%l: tensor<4x2xf32>) {
  // expected-error@+2 {{route needs logits [groups, tokens, experts], got 'tensor<4x2xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:8 = "moe.route"(%l) {top_k = 2 : i64, capacity = 3 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  return
}

// -----

func.func @case(%l: tensor<1x4x2xf32>, %m: tensor<4x1xi1>) {
  // expected-error@+2 {{route mask must be [groups, tokens], got 'tensor<4x1xi1>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:8 = "moe.route"(%l, %m) {top_k = 2 : i64, capacity = 3 : i64, operandSegmentSizes = array<i32: 1, 1, 0>} : (tensor<1x4x2xf32>, tensor<4x1xi1>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  return
}

// -----

// A second expert by chance without numbers to draw from would not be one.
func.func @case(%l: tensor<1x4x2xf32>) {
  // expected-error@+2 {{route takes noise exactly for the policies sampling and random}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:8 = "moe.route"(%l) {top_k = 2 : i64, capacity = 3 : i64, policy = 1 : i32, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  return
}

// -----

func.func @case(%l: tensor<1x4x2xf32>) {
  // expected-error@+2 {{route takes noise exactly for the policies sampling and random}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:8 = "moe.route"(%l, %l) {top_k = 2 : i64, capacity = 3 : i64, operandSegmentSizes = array<i32: 1, 0, 1>} : (tensor<1x4x2xf32>, tensor<1x4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  return
}

// -----

func.func @case(%l: tensor<1x4x2xf32>) {
  // expected-error@+2 {{which does not fit its policy}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:8 = "moe.route"(%l, %l) {top_k = 2 : i64, capacity = 3 : i64, policy = 2 : i32, operandSegmentSizes = array<i32: 1, 0, 1>} : (tensor<1x4x2xf32>, tensor<1x4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
  return
}

// -----

func.func @case(%i: tensor<1x4x2xi32>, %t: tensor<2x1x3xi32>, %x: tensor<1x5x8xf32>) {
  // expected-error@+2 {{dispatch needs tokens [G,S,M] for expert 'tensor<1x4x2xi32>', got 'tensor<1x5x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dispatch %x, %i, %i, %t : (tensor<1x5x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x1x3xi32>) -> tensor<2x1x3x8xf32>
  return
}

// -----

func.func @case(%i: tensor<1x4x2xi32>, %t: tensor<2x2x3xi32>, %x: tensor<1x4x8xf32>, %r: tensor<2x1x3x8xf32>) {
  // expected-error@+2 {{routing indices must be expert, slot [G,S,K] and token [E,G,C]}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dispatch %x, %i, %i, %t : (tensor<1x4x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x2x3xi32>) -> tensor<2x2x3x8xf32>
  return
}

// -----

func.func @case(%i: tensor<1x4x2xi32>, %t: tensor<2x1x3xi32>, %x: tensor<1x4x8xf32>, %r: tensor<2x1x3x8xf32>, %w: tensor<1x4xf32>) {
  // expected-error@+2 {{routing weight must be [G,S,K], got 'tensor<1x4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.combine %r, %i, %i, %t, %w : (tensor<2x1x3x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x1x3xi32>, tensor<1x4xf32>) -> tensor<1x4x8xf32>
  return
}

// -----

func.func @case(%i: tensor<1x4x2xi32>, %t: tensor<2x1x3xi32>, %x: tensor<1x4x8xf32>, %r: tensor<2x1x4x8xf32>) {
  // expected-error@+2 {{combine needs rows [E,G,C,M] for token 'tensor<2x1x3xi32>', got 'tensor<2x1x4x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.combine %r, %i, %i, %t : (tensor<2x1x4x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x1x3xi32>) -> tensor<1x4x8xf32>
  return
}

// -----

func.func @case(%i: tensor<1x4x2xi32>, %t: tensor<2x1x3xi32>, %x: tensor<1x4x9xf32>, %r: tensor<2x1x3x8xf32>) {
  // expected-error@+2 {{routed_dot of 'tensor<1x4x9xf32>' with 'tensor<2x1x3x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.routed_dot %x, %r, %i, %i : (tensor<1x4x9xf32>, tensor<2x1x3x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>) -> tensor<1x4x2xf32>
  return
}

// -----

func.func @case(%l: tensor<1x4x2xf32>, %i: tensor<1x4x2xi32>, %w: tensor<1x4x2xf32>, %a: tensor<4xf32>, %f: tensor<1x2xf32>) {
  // expected-error@+2 {{route_backward needs aux_grad [G] and first_fraction [G,E]}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.route_backward %w, %a, %l, %i, %i, %f : (tensor<1x4x2xf32>, tensor<4xf32>, tensor<1x4x2xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x2xf32>) -> tensor<1x4x2xf32>
  return
}

// -----

func.func @case(%e: tensor<3x2xi32>) {
  // expected-error@+2 {{group_rows needs experts [groups, tokens, choices] of i32, got 'tensor<3x2xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:3 = moe.group_rows %e {experts = 3 : i64, block = 2 : i64} : (tensor<3x2xi32>) -> (tensor<3x2xi32>, tensor<1x1x8xi32>, tensor<1x4xi32>)
  return
}

// -----

func.func @case(%e: tensor<1x3x2xi32>) {
  // expected-error@+2 {{group_rows needs experts and rows in a block, got 3 and 0}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:3 = moe.group_rows %e {experts = 3 : i64, block = 0 : i64} : (tensor<1x3x2xi32>) -> (tensor<1x3x2xi32>, tensor<1x1x8xi32>, tensor<1x4xi32>)
  return
}

// -----

func.func @case(%r: tensor<1x9x5xf32>, %b: tensor<1x4xi32>, %w: tensor<3x5x7xf32>) {
  // expected-error@+2 {{with R a multiple of B, got 'tensor<1x9x5xf32>' and 'tensor<1x4xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot %r, %b, %w : (tensor<1x9x5xf32>, tensor<1x4xi32>, tensor<3x5x7xf32>) -> tensor<1x9x7xf32>
  return
}

// -----

func.func @case(%r: tensor<1x8x5xf32>, %b: tensor<1x4xi32>, %w: tensor<3x5x7xf32>) {
  // expected-error@+2 {{grouped_dot of 'tensor<1x8x5xf32>' with weights 'tensor<3x5x7xf32>' transposed}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot %r, %b, %w {transposed} : (tensor<1x8x5xf32>, tensor<1x4xi32>, tensor<3x5x7xf32>) -> tensor<1x8x7xf32>
  return
}

// -----

func.func @case(%r: tensor<1x8x5xf32>, %b: tensor<1x4xi32>, %w: tensor<5x7xf32>, %v: tensor<5x6xf32>) {
  // expected-error@+2 {{grouped_dot has weights of different types}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot %r, %b, %w, %v : (tensor<1x8x5xf32>, tensor<1x4xi32>, tensor<5x7xf32>, tensor<5x6xf32>) -> tensor<1x8x7xf32>
  return
}

// -----

func.func @case(%r: tensor<1x8x5xf32>, %b: tensor<1x4xi32>, %w: tensor<3x5x7xf32>) {
  // expected-error@+2 {{grouped_dot needs one weight [E,M,N], or one [M,N] for each expert}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot %r, %b, %w, %w : (tensor<1x8x5xf32>, tensor<1x4xi32>, tensor<3x5x7xf32>, tensor<3x5x7xf32>) -> tensor<1x8x7xf32>
  return
}

// -----

func.func @case(%r: tensor<1x8x5xf32>, %b: tensor<1x4xi32>) {
  // expected-error@+2 {{grouped_dot needs weights}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot %r, %b : (tensor<1x8x5xf32>, tensor<1x4xi32>) -> tensor<1x8x7xf32>
  return
}

// -----

func.func @case(%r: tensor<1x8x5xf32>, %g: tensor<1x4x7xf32>, %b: tensor<1x4xi32>) {
  // expected-error@+2 {{grouped_dot_weight_grad of 'tensor<1x8x5xf32>' and 'tensor<1x4x7xf32>' in blocks 'tensor<1x4xi32>' of 3 experts}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot_weight_grad %r, %g, %b {experts = 3 : i64} : (tensor<1x8x5xf32>, tensor<1x4x7xf32>, tensor<1x4xi32>) -> tensor<3x5x7xf32>
  return
}

// -----

func.func @case(%e: tensor<1x3x2xi32>) {
  // expected-error@+2 {{group_rows cannot make 2 parts of 3 experts}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:3 = moe.group_rows %e {experts = 3 : i64, block = 2 : i64, parts = 2 : i64} : (tensor<1x3x2xi32>) -> (tensor<1x3x2xi32>, tensor<1x1x8xi32>, tensor<1x4xi32>)
  return
}

// -----

func.func @case(%r: tensor<1x8x5xf32>, %b: tensor<1x4xi32>, %w: tensor<3x5x7xf32>) {
  // expected-error@+2 {{grouped_dot cannot have blocks 'tensor<1x4xi32>' of parts of 2 experts with weights of 3 experts}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot %r, %b, %w {part_experts = 2 : i64} : (tensor<1x8x5xf32>, tensor<1x4xi32>, tensor<3x5x7xf32>) -> tensor<1x8x7xf32>
  return
}

// -----

func.func @case(%r: tensor<1x8x5xf32>, %b: tensor<1x4xi32>, %w: tensor<5x7xf32>) {
  // expected-error@+2 {{of parts of 1 experts with weights of 2 separate experts}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.grouped_dot %r, %b, %w, %w {part_experts = 1 : i64} : (tensor<1x8x5xf32>, tensor<1x4xi32>, tensor<5x7xf32>, tensor<5x7xf32>) -> tensor<1x8x7xf32>
  return
}
