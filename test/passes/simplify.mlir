// RUN: moe-opt %s --simplify | FileCheck %s
// RUN: moe-opt %s --simplify=merge=false | FileCheck %s --check-prefix=APART
// RUN: moe-opt %s --interpret=numbers --float64 > %t.before
// RUN: moe-opt %s --simplify | moe-opt --interpret=numbers --float64 > %t.after
// RUN: diff %t.before %t.after
// RUN: echo "module {}" | moe-opt --simplify | FileCheck %s --check-prefix=ALONE

// ALONE: module {

moe.state control @s : tensor<3xf32> {initial = 0.0 : f64}

// x * 1, 1 * x and x / 1 are x; 1 / x is not, nor is x * 1 of a vector that is not all ones.
// CHECK-LABEL: @units
// CHECK-SAME: (%[[X:.*]]: tensor<3xf32>)
// CHECK-DAG: %[[ONE:.*]] = moe.constant {{.*}}dense<1.000000e+00>
// CHECK-DAG: %[[MIXED:.*]] = moe.constant {{.*}}dense<[1.000000e+00, 1.000000e+00, 2.000000e+00]>
// CHECK-DAG: %[[D:.*]] = moe.div %[[ONE]], %[[X]]
// CHECK-DAG: %[[E:.*]] = moe.mul %[[X]], %[[MIXED]]
// CHECK: return %[[X]], %[[X]], %[[X]], %[[D]], %[[E]]
func.func @units(%x: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) {
  %one = moe.constant {value = dense<1.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %mixed = moe.constant {value = dense<[1.0, 1.0, 2.0]> : tensor<3xf32>} : () -> tensor<3xf32>
  %a = moe.mul %x, %one : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %b = moe.mul %one, %x : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %c = moe.div %x, %one : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %d = moe.div %one, %x : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %e = moe.mul %x, %mixed : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return %a, %b, %c, %d, %e : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>
}

// The inner dimension 0 is dimension 1 of the middle and so dimension 2 of the result; composing the maps the other way
// round would give another dimension (sizes are equal, no verifier would notice).
// CHECK-LABEL: @broadcasts
// CHECK-SAME: (%[[X:.*]]: tensor<3xf32>)
// CHECK-NEXT: %[[C:.*]] = moe.constant {{.*}}dense<2.000000e+00> : tensor<3x3xf32>
// CHECK-NEXT: %[[B:.*]] = moe.broadcast %[[X]] {dims = array<i64: 2>} : (tensor<3xf32>) -> tensor<3x3x3xf32>
// CHECK-NEXT: return %[[B]], %[[C]]
func.func @broadcasts(%x: tensor<3xf32>) -> (tensor<3x3x3xf32>, tensor<3x3xf32>) {
  %m = moe.broadcast %x {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<3x3xf32>
  %b = moe.broadcast %m {dims = array<i64: 0, 2>} : (tensor<3x3xf32>) -> tensor<3x3x3xf32>
  %two = moe.constant {value = dense<2.0> : tensor<3xf32>} : () -> tensor<3xf32>
  %c = moe.broadcast %two {dims = array<i64: 0>} : (tensor<3xf32>) -> tensor<3x3xf32>
  return %b, %c : tensor<3x3x3xf32>, tensor<3x3xf32>
}

// CHECK-LABEL: @reshapes
// CHECK-SAME: (%[[X:.*]]: tensor<12xf32>)
// CHECK-NEXT: %[[Y:.*]] = moe.reshape %[[X]] : (tensor<12xf32>) -> tensor<3x4xf32>
// CHECK-NEXT: return %[[Y]], %[[X]]
func.func @reshapes(%x: tensor<12xf32>) -> (tensor<3x4xf32>, tensor<12xf32>) {
  %a = moe.reshape %x : (tensor<12xf32>) -> tensor<2x6xf32>
  %b = moe.reshape %a : (tensor<2x6xf32>) -> tensor<3x4xf32>
  %c = moe.reshape %a : (tensor<2x6xf32>) -> tensor<12xf32>
  return %b, %c : tensor<3x4xf32>, tensor<12xf32>
}

// A sum with a scattered term is scattered onto the other terms, instead of onto zeros that are then added.
// CHECK-LABEL: @scatter
// CHECK-SAME: (%[[I:.*]]: tensor<2xi32>, %[[R:.*]]: tensor<2x3xf32>, %[[A:.*]]: tensor<4x3xf32>, %[[B:.*]]: tensor<4x3xf32>)
// CHECK-NEXT: %[[REST:.*]] = moe.add_n %[[A]], %[[B]]
// CHECK-NEXT: %[[S:.*]] = moe.scatter_add %[[I]], %[[R]], %[[REST]]
// CHECK-NEXT: return %[[S]]
func.func @scatter(%i: tensor<2xi32>, %r: tensor<2x3xf32>, %a: tensor<4x3xf32>, %b: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %s = moe.scatter_add %i, %r : (tensor<2xi32>, tensor<2x3xf32>) -> tensor<4x3xf32>
  %sum = moe.add_n %a, %s, %b : (tensor<4x3xf32>, tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
  return %sum : tensor<4x3xf32>
}

// Not if the scattered rows themselves are read elsewhere: they would be computed twice.
// CHECK-LABEL: @scatter_shared
// CHECK: %[[S:.*]] = moe.scatter_add %{{[^ ]*}}, %{{[^ ]*}} :
// CHECK: %[[SUM:.*]] = moe.add_n %{{.*}}, %[[S]]
// CHECK: return %[[SUM]], %[[S]]
func.func @scatter_shared(%i: tensor<2xi32>, %r: tensor<2x3xf32>, %a: tensor<4x3xf32>) -> (tensor<4x3xf32>, tensor<4x3xf32>) {
  %s = moe.scatter_add %i, %r : (tensor<2xi32>, tensor<2x3xf32>) -> tensor<4x3xf32>
  %sum = moe.add_n %a, %s : (tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
  return %sum, %s : tensor<4x3xf32>, tensor<4x3xf32>
}

// Two reads are equal until somebody writes: merging all three would return the old value as the new one.
// CHECK-LABEL: @reads
// CHECK: %[[OLD:.*]] = moe.read @s
// CHECK-NOT: moe.read
// CHECK: moe.write @s
// CHECK: %[[NEW:.*]] = moe.read @s
// CHECK: return %[[OLD]], %[[OLD]], %[[NEW]]
func.func @reads(%x: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>) {
  %a = moe.read @s : tensor<3xf32>
  %b = moe.read @s : tensor<3xf32>
  moe.write @s, %x : tensor<3xf32>
  %c = moe.read @s : tensor<3xf32>
  return %a, %b, %c : tensor<3xf32>, tensor<3xf32>, tensor<3xf32>
}

// Equal operations are merged, operations nobody reads are dropped, writes stay. Without merging the equal ones remain.
// APART-LABEL: @merge
// APART: moe.exp
// APART: moe.exp
// APART-NOT: moe.sin
// APART: return
// CHECK-LABEL: @merge
// CHECK-SAME: (%[[X:.*]]: tensor<3xf32>)
// CHECK-NEXT: %[[E:.*]] = moe.exp %[[X]]
// CHECK-NEXT: moe.write @s, %[[E]]
// CHECK-NEXT: %[[Y:.*]] = moe.add %[[E]], %[[E]]
// CHECK-NEXT: return %[[Y]]
func.func @merge(%x: tensor<3xf32>) -> tensor<3xf32> {
  %a = moe.exp %x : (tensor<3xf32>) -> tensor<3xf32>
  %b = moe.exp %x : (tensor<3xf32>) -> tensor<3xf32>
  %dead = moe.sin %x : (tensor<3xf32>) -> tensor<3xf32>
  moe.write @s, %a : tensor<3xf32>
  %y = moe.add %a, %b : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return %y : tensor<3xf32>
}

// Nothing is added up along a dimension of size one; along another one something is.
// CHECK-LABEL: @unit_reduce
// CHECK-NEXT: moe.reshape %{{.*}} : (tensor<1x3xf32>) -> tensor<3xf32>
// CHECK-NEXT: moe.reduce
// CHECK-NEXT: return
func.func @unit_reduce(%x: tensor<1x3xf32>) -> (tensor<3xf32>, tensor<f32>) {
  %a = moe.reduce %x {kind = 0 : i32, dims = array<i64: 0>} : (tensor<1x3xf32>) -> tensor<3xf32>
  %b = moe.reduce %x {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<1x3xf32>) -> tensor<f32>
  return %a, %b : tensor<3xf32>, tensor<f32>
}

func.func @numbers(%x: tensor<3xf32>, %i: tensor<2xi32>, %r: tensor<2x3xf32>, %a: tensor<3x3xf32>, %b: tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<3x3x3xf32>) {
  %s = moe.scatter_add %i, %r : (tensor<2xi32>, tensor<2x3xf32>) -> tensor<3x3xf32>
  %one = moe.constant {value = dense<1.0> : tensor<3x3xf32>} : () -> tensor<3x3xf32>
  %t = moe.mul %one, %s : (tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
  %sum = moe.add_n %a, %t, %b : (tensor<3x3xf32>, tensor<3x3xf32>, tensor<3x3xf32>) -> tensor<3x3xf32>
  %m = moe.broadcast %x {dims = array<i64: 1>} : (tensor<3xf32>) -> tensor<3x3xf32>
  %n = moe.broadcast %m {dims = array<i64: 0, 2>} : (tensor<3x3xf32>) -> tensor<3x3x3xf32>
  return %sum, %n : tensor<3x3xf32>, tensor<3x3x3xf32>
}
