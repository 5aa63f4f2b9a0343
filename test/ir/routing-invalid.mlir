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
