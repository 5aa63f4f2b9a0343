// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @case() {
  // expected-error@+1 {{'moe.constant' op holds a value of type 'tensor<3xf32>', not 'tensor<2xf32>'}}
  %0 = "moe.constant"() {value = dense<1.0> : tensor<3xf32>} : () -> tensor<2xf32>
  return
}

// -----

func.func @case() {
  // expected-error@+1 {{'moe.iota' op dim 2 is outside rank 2}}
  %0 = moe.iota {dim = 2 : i64} : () -> tensor<4x8xi32>
  return
}

// -----

// The pair (num_updates, micro-batch) has 64 bits each: update 2^31 would come around.
func.func @case(%r: tensor<2xi32>) {
  // expected-error@+1 {{rng must be tensor<2xi64> (num_updates, micro-batch), got 'tensor<2xi32>'}}
  %0 = moe.random_uniform %r {seed = 0 : i64, site = 0 : i64} : (tensor<2xi32>) -> tensor<4xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{needs one entry of dims per operand dimension}}
  %0 = moe.broadcast %x {dims = array<i64: 0>} : (tensor<4x8xf32>) -> tensor<4x8x2xf32>
  return
}

// -----

// Decreasing dims would be a transposition in disguise.
func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{dims must increase strictly and stay below rank 2}}
  %0 = moe.broadcast %x {dims = array<i64: 1, 0>} : (tensor<4x8xf32>) -> tensor<8x4xf32>
  return
}

// -----

// A size of 1 is not stretched.
func.func @case(%x: tensor<1xf32>) {
  // expected-error@+1 {{dimension 0 has size 1, but dimension 0 of the result has size 4}}
  %0 = moe.broadcast %x {dims = array<i64: 0>} : (tensor<1xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{changes the element type}}
  %0 = moe.broadcast %x {dims = array<i64: 0, 1>} : (tensor<4x8xf32>) -> tensor<4x8xf64>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{must keep elements and element type: 'tensor<4x8xf32>' to 'tensor<33xf32>'}}
  %0 = moe.reshape %x : (tensor<4x8xf32>) -> tensor<33xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{must keep elements and element type}}
  %0 = moe.reshape %x : (tensor<4x8xf32>) -> tensor<32xi32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{permutation must name each of 2 dimensions once}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.transpose %x {permutation = array<i64: 0, 0>} : (tensor<4x8xf32>) -> tensor<4x4xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{permutation must name each of 2 dimensions once}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.transpose %x {permutation = array<i64: 0>} : (tensor<4x8xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{slice [0, 9) step 1 of dimension 1 does not fit 'tensor<4x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.slice %x {starts = array<i64: 0, 0>, limits = array<i64: 4, 9>, strides = array<i64: 1, 1>} : (tensor<4x8xf32>) -> tensor<4x9xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{slice [-1, 8) step 1 of dimension 1 does not fit}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.slice %x {starts = array<i64: 0, -1>, limits = array<i64: 4, 8>, strides = array<i64: 1, 1>} : (tensor<4x8xf32>) -> tensor<4x9xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{step 0 of dimension 1 does not fit}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.slice %x {starts = array<i64: 0, 0>, limits = array<i64: 4, 8>, strides = array<i64: 1, 0>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{slice needs one start, limit and stride per dimension of 'tensor<4x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.slice %x {starts = array<i64: 0>, limits = array<i64: 4>, strides = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

// Cutting away is what slice is for.
func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{pad amounts of dimension 1 must not be negative}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.pad %x {low = array<i64: 0, -1>, high = array<i64: 0, 0>, interior = array<i64: 0, 0>} : (tensor<4x8xf32>) -> tensor<4x7xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>, %y: tensor<5x8xf32>) {
  // expected-error@+2 {{concat operands differ in dimension 0}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.concat %x, %y {dim = 1 : i64} : (tensor<4x8xf32>, tensor<5x8xf32>) -> tensor<4x16xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{concat dimension 2 is outside rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.concat %x, %x {dim = 2 : i64} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x16xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{reduce dimensions must be distinct and below rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.reduce %x {kind = 0 : i32, dims = array<i64: 1, 1>} : (tensor<4x8xf32>) -> tensor<4xf32>
  return
}

// -----

// The sum of nothing is 0, its maximum is not defined.
func.func @case(%x: tensor<4x0xf32>) {
  // expected-error@+2 {{maximum or minimum of nothing: dimension 1 is empty}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.reduce %x {kind = 1 : i32, dims = array<i64: 1>} : (tensor<4x0xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{cumsum dimension 2 is outside rank 2}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.cumsum %x {dim = 2 : i64} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @case(%x: tensor<f32>) {
  // expected-error@+2 {{sort needs a dimension}}
  // expected-error@+1 {{failed to infer returned types}}
  %0:2 = moe.sort %x : (tensor<f32>) -> (tensor<f32>, tensor<i32>)
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{dot pairs dimension 1 of 'tensor<4x8xf32>' with dimension 0 of 'tensor<4x8xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dot %x, %x {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{dot needs as many lhs as rhs dimensions to batch and to contract}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dot %x, %x {lhs_batch = array<i64: 0>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x4xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>) {
  // expected-error@+2 {{dot dimensions must be distinct and inside}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dot %x, %x {lhs_batch = array<i64: 1>, rhs_batch = array<i64: 1>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x4x4xf32>
  return
}

// -----

func.func @case(%x: tensor<4x8xf32>, %y: tensor<8x4xf64>) {
  // expected-error@+2 {{dot of different element types}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dot %x, %y {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x8xf32>, tensor<8x4xf64>) -> tensor<4x4xf32>
  return
}

// -----

func.func @case(%t: tensor<f32>, %i: tensor<2xi32>) {
  // expected-error@+2 {{gather needs a table with rows}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.gather %t, %i : (tensor<f32>, tensor<2xi32>) -> tensor<2xf32>
  return
}

// -----

func.func @case(%i: tensor<2xi32>, %r: tensor<3x4xf32>) {
  // expected-error@+1 {{rows 'tensor<3x4xf32>' do not fit index 'tensor<2xi32>' and result 'tensor<5x4xf32>'}}
  %0 = moe.scatter_add %i, %r : (tensor<2xi32>, tensor<3x4xf32>) -> tensor<5x4xf32>
  return
}

// -----

func.func @case(%i: tensor<2xi32>, %r: tensor<2x4xf32>, %n: tensor<6x4xf32>) {
  // expected-error@+1 {{init 'tensor<6x4xf32>' is not of the result's type 'tensor<5x4xf32>'}}
  %0 = moe.scatter_add %i, %r, %n : (tensor<2xi32>, tensor<2x4xf32>, tensor<6x4xf32>) -> tensor<5x4xf32>
  return
}
