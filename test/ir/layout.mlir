// RUN: moe-opt %s --split-input-file | moe-opt --split-input-file | FileCheck %s

// All kinds of an axis survive printing and parsing, in their order; types share an alias.
// CHECK: #[[L:layout[0-9]*]] = #moe.layout<data = shard(1), expert = partial, model = replicate>
// CHECK: module attributes {moe.mesh = #moe.mesh<data = 2, expert = 4>}
// CHECK: moe.state parameter @w : tensor<2x4xf32, #[[L]]>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 4>} {
  moe.state parameter @w : tensor<2x4xf32, #moe.layout<data = shard(1), expert = partial, model = replicate>>
}

// -----

// Layouts of results follow from those of operands, axis by axis: rows stay split over data; what is contracted over a
// split dimension is a partial sum, and so is the sum over the rows.
// CHECK-LABEL: func.func @linear
#x = #moe.layout<data = shard(0), expert = shard(1)>
#w = #moe.layout<data = replicate, expert = shard(0)>
#y = #moe.layout<data = shard(0), expert = partial>
#s = #moe.layout<data = partial, expert = partial>
func.func @linear(%x: tensor<2x3xf32, #x>, %w: tensor<3x4xf32, #w>) -> tensor<4xf32, #s> {
  // CHECK: moe.dot
  %y = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2x3xf32, #x>, tensor<3x4xf32, #w>) -> tensor<2x4xf32, #y>
  // CHECK: moe.reduce
  %s = moe.reduce %y {kind = 0 : i32, dims = array<i64: 0>} : (tensor<2x4xf32, #y>) -> tensor<4xf32, #s>
  // Zeros are a sum of zeros, and the product of a sum and a number the sum of the products.
  %zero = moe.constant {value = dense<0.0> : tensor<4xf32, #s>} : () -> tensor<4xf32, #s>
  // CHECK: moe.add
  %t = moe.add %s, %zero : (tensor<4xf32, #s>, tensor<4xf32, #s>) -> tensor<4xf32, #s>
  return %t : tensor<4xf32, #s>
}

// -----

// Leading dimensions of local size 1 that are split, or are not.
// CHECK-LABEL: func.func @reshape
#outer = #moe.layout<data = shard(0)>
#inner = #moe.layout<data = shard(1)>
func.func @reshape(%a: tensor<1x6x2xf32, #outer>, %b: tensor<1x6x2xf32, #inner>) {
  // CHECK: moe.reshape
  %0 = moe.reshape %a : (tensor<1x6x2xf32, #outer>) -> tensor<6x2xf32, #outer>
  // CHECK: moe.reshape
  %1 = moe.reshape %b : (tensor<1x6x2xf32, #inner>) -> tensor<12xf32, #outer>
  return
}
