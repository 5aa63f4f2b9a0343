// RUN: moe-opt %s --recompose | FileCheck %s

// Two sequences, three heads, four queries, six keys. Numbers are compared by RecomposeRandomTest.cpp.

// CHECK-LABEL: @plain
// CHECK-SAME: (%[[Q:.*]]: tensor<2x3x4x5xf32>, %[[K:.*]]: tensor<2x3x6x5xf32>, %[[V:.*]]: tensor<2x3x6x5xf32>)
// CHECK-DAG: %[[A:.*]] = moe.transpose %[[Q]] {permutation = array<i64: 0, 2, 1, 3>}
// CHECK-DAG: %[[B:.*]] = moe.transpose %[[K]] {permutation = array<i64: 0, 2, 1, 3>}
// CHECK-DAG: %[[C:.*]] = moe.transpose %[[V]] {permutation = array<i64: 0, 2, 1, 3>}
// CHECK: moe.attention %[[A]], %[[B]], %[[C]] {scale = 1.000000e+00 : f64}
func.func @plain(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// The last query sees the last key.
// CHECK-LABEL: @causal
// CHECK: moe.attention {{.*}} {causal, scale
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @causal(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %col = moe.iota {dim = 1 : i64} : () -> tensor<4x6xi64>
  %row = moe.iota {dim = 0 : i64} : () -> tensor<4x6xi64>
  %two = moe.constant {value = dense<2> : tensor<4x6xi64>} : () -> tensor<4x6xi64>
  %last = moe.add %row, %two : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi64>
  %m = moe.compare %col, %last {predicate = 3 : i32} : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi1>
  %mw = moe.broadcast %m {dims = array<i64: 2, 3>} : (tensor<4x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<0xFF800000> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %mw, %s, %inf : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// Not so here: the first query sees only the first key, which is no pattern of its own.
// CHECK-LABEL: @from_the_first
// CHECK: moe.attention {{.*}} bias %{{[^ ]*}} {bias_dims = array<i64: 2, 3>, scale
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @from_the_first(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %col = moe.iota {dim = 1 : i64} : () -> tensor<4x6xi64>
  %row = moe.iota {dim = 0 : i64} : () -> tensor<4x6xi64>
  %m = moe.compare %col, %row {predicate = 3 : i32} : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi1>
  %mw = moe.broadcast %m {dims = array<i64: 2, 3>} : (tensor<4x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<0xFF800000> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %mw, %s, %inf : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// Three keys before the query and no key after it.
// CHECK-LABEL: @window
// CHECK: moe.attention {{.*}} {causal, scale = {{.*}}, window = 3 : i64}
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @window(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %col = moe.iota {dim = 1 : i64} : () -> tensor<4x6xi64>
  %row = moe.iota {dim = 0 : i64} : () -> tensor<4x6xi64>
  %two = moe.constant {value = dense<2> : tensor<4x6xi64>} : () -> tensor<4x6xi64>
  %last = moe.add %row, %two : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi64>
  %m = moe.compare %col, %last {predicate = 3 : i32} : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi1>
  %three = moe.constant {value = dense<3> : tensor<4x6xi64>} : () -> tensor<4x6xi64>
  %f = moe.sub %last, %three : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi64>
  %m2 = moe.compare %col, %f {predicate = 4 : i32} : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi1>
  %m3 = moe.and %m, %m2 : (tensor<4x6xi1>, tensor<4x6xi1>) -> tensor<4x6xi1>
  %mw = moe.broadcast %m3 {dims = array<i64: 2, 3>} : (tensor<4x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<0xFF800000> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %mw, %s, %inf : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// A query without a key: with -inf that is 0/0, for which the coarse operation has zeros; any pattern will do.
// CHECK-LABEL: @strict
// CHECK: moe.attention {{.*}} bias
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @strict(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %col = moe.iota {dim = 1 : i64} : () -> tensor<4x6xi64>
  %row = moe.iota {dim = 0 : i64} : () -> tensor<4x6xi64>
  %m = moe.compare %col, %row {predicate = 2 : i32} : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi1>
  %mw = moe.broadcast %m {dims = array<i64: 2, 3>} : (tensor<4x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<0xFF800000> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %mw, %s, %inf : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// With a number it is the mean of all values, which nothing coarse says.
// CHECK-LABEL: @strict_low
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @strict_low(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %col = moe.iota {dim = 1 : i64} : () -> tensor<4x6xi64>
  %row = moe.iota {dim = 0 : i64} : () -> tensor<4x6xi64>
  %m = moe.compare %col, %row {predicate = 2 : i32} : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi1>
  %mw = moe.broadcast %m {dims = array<i64: 2, 3>} : (tensor<4x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<-1.0e9> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %mw, %s, %inf : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// A score of -5 has weight.
// CHECK-LABEL: @not_low
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @not_low(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %col = moe.iota {dim = 1 : i64} : () -> tensor<4x6xi64>
  %row = moe.iota {dim = 0 : i64} : () -> tensor<4x6xi64>
  %two = moe.constant {value = dense<2> : tensor<4x6xi64>} : () -> tensor<4x6xi64>
  %last = moe.add %row, %two : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi64>
  %m = moe.compare %col, %last {predicate = 3 : i32} : (tensor<4x6xi64>, tensor<4x6xi64>) -> tensor<4x6xi1>
  %mw = moe.broadcast %m {dims = array<i64: 2, 3>} : (tensor<4x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<-5.0> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %mw, %s, %inf : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// CHECK-LABEL: @padding
// CHECK: moe.attention {{.*}} padding %{{[^ ]*}} {scale
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @padding(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %p: tensor<2x6xi1>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %pw = moe.broadcast %p {dims = array<i64: 0, 3>} : (tensor<2x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<0xFF800000> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %pw, %inf, %s : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// Of a sequence of padding alone, the model makes means of values; the coarse operation would make zeros.
// CHECK-LABEL: @low_padding
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @low_padding(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %p: tensor<2x6xi1>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %pw = moe.broadcast %p {dims = array<i64: 0, 3>} : (tensor<2x6xi1>) -> tensor<2x3x4x6xi1>
  %inf = moe.constant {value = dense<-1.0e9> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %t = moe.select %pw, %inf, %s : (tensor<2x3x4x6xi1>, tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// Added, the same number is a bias, and stays the number it is.
// CHECK-LABEL: @padding_added
// CHECK: dense<-1.000000e+09>
// CHECK: moe.attention {{.*}} bias %{{[^ ]*}} {bias_dims = array<i64: 0, 3>, scale
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @padding_added(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %p: tensor<2x6xi1>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %low = moe.constant {value = dense<-1.0e9> : tensor<2x6xf32>} : () -> tensor<2x6xf32>
  %zero = moe.constant {value = dense<0.0> : tensor<2x6xf32>} : () -> tensor<2x6xf32>
  %pf = moe.select %p, %low, %zero : (tensor<2x6xi1>, tensor<2x6xf32>, tensor<2x6xf32>) -> tensor<2x6xf32>
  %pw = moe.broadcast %pf {dims = array<i64: 0, 3>} : (tensor<2x6xf32>) -> tensor<2x3x4x6xf32>
  %t = moe.add %s, %pw : (tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// Someone looks at the weights.
// CHECK-LABEL: @weights_used_twice
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @weights_used_twice(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>) -> (tensor<2x3x4x5xf32>, tensor<2x3x4x6xf32>) {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y, %w : tensor<2x3x4x5xf32>, tensor<2x3x4x6xf32>
}

// Values are wider than keys: queries and keys get columns of zeros, which add nothing to the scores.
// CHECK-LABEL: @wide_values
// CHECK-COUNT-2: moe.pad {{.*}}x7xf32>
// CHECK: moe.attention {{.*}} {scale
// CHECK-NOT: {{moe.softmax|moe.slice}}
// CHECK: return
func.func @wide_values(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x7xf32>) -> tensor<2x3x4x7xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x7xf32>) -> tensor<2x3x4x7xf32>
  return %y : tensor<2x3x4x7xf32>
}

// The cap holds the bias too.
// CHECK-LABEL: @bias_before_cap
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @bias_before_cap(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %b: tensor<4x6xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %bw = moe.broadcast %b {dims = array<i64: 2, 3>} : (tensor<4x6xf32>) -> tensor<2x3x4x6xf32>
  %t = moe.add %s, %bw : (tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %h = moe.tanh %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %c = moe.constant {value = dense<30.0> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %z = moe.mul %h, %c : (tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %z : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// CHECK-LABEL: @bias_after_cap
// CHECK: moe.attention {{.*}} bias %{{[^ ]*}} {bias_dims = array<i64: 2, 3>, scale = 3.000000e+01 : f64, softcap = 3.000000e+01 : f64}
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @bias_after_cap(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %b: tensor<4x6xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %bw = moe.broadcast %b {dims = array<i64: 2, 3>} : (tensor<4x6xf32>) -> tensor<2x3x4x6xf32>
  %h = moe.tanh %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %c = moe.constant {value = dense<30.0> : tensor<2x3x4x6xf32>} : () -> tensor<2x3x4x6xf32>
  %z = moe.mul %h, %c : (tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %t = moe.add %bw, %z : (tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// The product sums over queries, not over keys.
// CHECK-LABEL: @summed_over_queries
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @summed_over_queries(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x4x5xf32>) -> tensor<2x3x6x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x6x5xf32>
  return %y : tensor<2x3x6x5xf32>
}

// A temperature that is learned is no constant.
// CHECK-LABEL: @scaled_by_a_tensor
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @scaled_by_a_tensor(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %f: tensor<3xf32>) -> tensor<2x3x4x5xf32> {
  %fw = moe.broadcast %f {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<2x3x4x6xf32>
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %t = moe.mul %s, %fw : (tensor<2x3x4x6xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %t : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// CHECK-LABEL: @dropout
// CHECK: moe.attention {{.*}} rng %{{[^ ]*}} {rate = 1.000000e-01 : f64, scale = 1.000000e+00 : f64, seed = 1 : i64, site = 2 : i64}
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @dropout(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %r: tensor<2xi64>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %d = moe.dropout %w, %r {rate = 0.1 : f64, seed = 1 : i64, site = 2 : i64} : (tensor<2x3x4x6xf32>, tensor<2xi64>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %d, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// The same numbers would drop other weights.
// CHECK-LABEL: @dropout_in_another_order
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @dropout_in_another_order(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %r: tensor<2xi64>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %wt = moe.transpose %w {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x4x6xf32>) -> tensor<2x4x3x6xf32>
  %d = moe.dropout %wt, %r {rate = 0.1 : f64, seed = 1 : i64, site = 2 : i64} : (tensor<2x4x3x6xf32>, tensor<2xi64>) -> tensor<2x4x3x6xf32>
  %e = moe.transpose %d {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x4x3x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %e, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// One more score for each head, whose weight is cut off: an attention sink, on either side of the scores. Scores lose
// their maximum before the softmax, which changes no weight.
// CHECK-LABEL: @sinks
// CHECK-SAME: %[[S:[a-z0-9]*]]: tensor<3xf32>)
// CHECK: moe.attention {{.*}} sinks %[[S]] {scale
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @sinks(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %f: tensor<3xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %fw = moe.broadcast %f {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<2x3x4x1xf32>
  %c = moe.concat %s, %fw {dim = 3 : i64} : (tensor<2x3x4x6xf32>, tensor<2x3x4x1xf32>) -> tensor<2x3x4x7xf32>
  %m = moe.reduce %c {dims = array<i64: 3>, kind = 1 : i32} : (tensor<2x3x4x7xf32>) -> tensor<2x3x4xf32>
  %mw = moe.broadcast %m {dims = array<i64: 0, 1, 2>} : (tensor<2x3x4xf32>) -> tensor<2x3x4x7xf32>
  %d = moe.sub %c, %mw : (tensor<2x3x4x7xf32>, tensor<2x3x4x7xf32>) -> tensor<2x3x4x7xf32>
  %w = moe.softmax %d : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x7xf32>
  %p = moe.slice %w {starts = array<i64: 0, 0, 0, 0>, limits = array<i64: 2, 3, 4, 6>, strides = array<i64: 1, 1, 1, 1>} : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %p, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// CHECK-LABEL: @sinks_first
// CHECK-SAME: %[[S:[a-z0-9]*]]: tensor<3xf32>)
// CHECK: moe.attention {{.*}} sinks %[[S]] {scale
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @sinks_first(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %f: tensor<3xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %fw = moe.broadcast %f {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<2x3x4x1xf32>
  %c = moe.concat %fw, %s {dim = 3 : i64} : (tensor<2x3x4x1xf32>, tensor<2x3x4x6xf32>) -> tensor<2x3x4x7xf32>
  %w = moe.softmax %c : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x7xf32>
  %p = moe.slice %w {starts = array<i64: 0, 0, 0, 1>, limits = array<i64: 2, 3, 4, 7>, strides = array<i64: 1, 1, 1, 1>} : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %p, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// A sink that is the weight which is left, not the one that is cut off; and sinks that queries have, not heads.
// CHECK-LABEL: @other_weights_cut
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @other_weights_cut(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %f: tensor<3xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %fw = moe.broadcast %f {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<2x3x4x1xf32>
  %c = moe.concat %s, %fw {dim = 3 : i64} : (tensor<2x3x4x6xf32>, tensor<2x3x4x1xf32>) -> tensor<2x3x4x7xf32>
  %w = moe.softmax %c : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x7xf32>
  %p = moe.slice %w {starts = array<i64: 0, 0, 0, 1>, limits = array<i64: 2, 3, 4, 7>, strides = array<i64: 1, 1, 1, 1>} : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %p, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// CHECK-LABEL: @sinks_of_queries
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @sinks_of_queries(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x5xf32>, %f: tensor<4xf32>) -> tensor<2x3x4x5xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %fw = moe.broadcast %f {dims = array<i64: 2>} : (tensor<4xf32>) -> tensor<2x3x4x1xf32>
  %c = moe.concat %s, %fw {dim = 3 : i64} : (tensor<2x3x4x6xf32>, tensor<2x3x4x1xf32>) -> tensor<2x3x4x7xf32>
  %w = moe.softmax %c : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x7xf32>
  %p = moe.slice %w {starts = array<i64: 0, 0, 0, 0>, limits = array<i64: 2, 3, 4, 6>, strides = array<i64: 1, 1, 1, 1>} : (tensor<2x3x4x7xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %p, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x5xf32>
  return %y : tensor<2x3x4x5xf32>
}

// Latent attention: values are narrower than keys, and get columns of zeros.
// CHECK-LABEL: @narrow_values
// CHECK: %[[V:.*]] = moe.pad {{.*}}high = array<i64: 0, 0, 0, 2>{{.*}} -> tensor<2x6x3x5xf32>
// CHECK: %[[Y:.*]], %{{.*}} = moe.attention %{{.*}}, %{{.*}}, %[[V]] {scale
// CHECK: moe.slice %[[Y]] {limits = array<i64: 2, 4, 3, 3>
// CHECK-NOT: moe.softmax
// CHECK: return
func.func @narrow_values(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x3xf32>) -> tensor<2x3x4x3xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x3xf32>) -> tensor<2x3x4x3xf32>
  return %y : tensor<2x3x4x3xf32>
}

// Where they would more than double it is no gain.
// CHECK-LABEL: @narrower_values
// CHECK-NOT: moe.attention
// CHECK: moe.softmax
func.func @narrower_values(%q: tensor<2x3x4x5xf32>, %k: tensor<2x3x6x5xf32>, %v: tensor<2x3x6x2xf32>) -> tensor<2x3x4x2xf32> {
  %s = moe.dot %q, %k {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>} : (tensor<2x3x4x5xf32>, tensor<2x3x6x5xf32>) -> tensor<2x3x4x6xf32>
  %w = moe.softmax %s : (tensor<2x3x4x6xf32>) -> tensor<2x3x4x6xf32>
  %y = moe.dot %w, %v {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 2>} : (tensor<2x3x4x6xf32>, tensor<2x3x6x2xf32>) -> tensor<2x3x4x2xf32>
  return %y : tensor<2x3x4x2xf32>
}
