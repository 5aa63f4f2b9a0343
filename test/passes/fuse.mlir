// RUN: moe-opt %s --fuse | FileCheck %s
// RUN: moe-opt %s --interpret=numbers --float64 > %t.before
// RUN: moe-opt %s --fuse | moe-opt --interpret=numbers --float64 > %t.after
// RUN: diff %t.before %t.after
// RUN: echo "module {}" | moe-opt --fuse | FileCheck %s --check-prefix=ALONE

// ALONE: module {

moe.state control @s : tensor<4xf32> {initial = 0.0 : f64}
moe.state moment @m : tensor<8xf32> {initial = 0.0 : f64}
moe.state parameter @p : tensor<8xf32> {initial = 0.0 : f64}

// Residual and normalisation of rows are one kernel, which leaves the sum (read again by the next residual) and the
// normalised rows. Were the reductions kernels of their own, the rows would cross memory three times.
// CHECK-LABEL: func.func @norm
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[H:.*]]: tensor<4x8xf32>)
// CHECK-NEXT: %[[F:.*]]:2 = moe.fused "row_reduce"(%[[X]], %[[H]])
// CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<4x8xf32>, %[[B:.*]]: tensor<4x8xf32>):
// CHECK-NEXT: %[[Z:.*]] = moe.add %[[A]], %[[B]]
// CHECK-NEXT: %[[Q:.*]] = moe.mul %[[Z]], %[[Z]]
// CHECK-NEXT: moe.reduce %[[Q]] {dims = array<i64: 1>
// CHECK: %[[Y:.*]] = moe.mul %[[Z]],
// CHECK: moe.yield %[[Z]], %[[Y]]
// CHECK-NEXT: }
// CHECK-NEXT: return %[[F]]#0, %[[F]]#1
func.func @norm(%x: tensor<4x8xf32>, %h: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) {
  %z = moe.add %x, %h : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %q = moe.mul %z, %z : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %s = moe.reduce %q {kind = 0 : i32, dims = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4xf32>
  %r = moe.rsqrt %s : (tensor<4xf32>) -> tensor<4xf32>
  %b = moe.broadcast %r {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
  %y = moe.mul %z, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %z, %y : tensor<4x8xf32>, tensor<4x8xf32>
}

// The gradient of a bias sums over leading dimensions and takes in the product it sums.
// CHECK-LABEL: func.func @bias_gradient
// CHECK-NEXT: moe.fused "column_reduce"
// CHECK: moe.mul
// CHECK: moe.reduce {{.*}}dims = array<i64: 0>
// CHECK: moe.yield
// CHECK-NEXT: }
// CHECK-NEXT: return
func.func @bias_gradient(%g: tensor<4x8xf32>, %x: tensor<4x8xf32>) -> tensor<8xf32> {
  %p = moe.mul %g, %x : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %r = moe.reduce %p {kind = 0 : i32, dims = array<i64: 0>} : (tensor<4x8xf32>) -> tensor<8xf32>
  return %r : tensor<8xf32>
}

// %a goes to %y both directly and through the product of matrices. Fused with %y, the region would read what the product
// makes of its own result: a cycle. Without the walk of `staysConvex` sorting fails.
// CHECK-LABEL: func.func @cycle
// CHECK: %[[A:.*]] = moe.fused
// CHECK: moe.exp
// CHECK: %[[D:.*]] = moe.dot %[[A]], %[[A]]
// CHECK: moe.fused "loop"(%[[A]], %[[D]])
func.func @cycle(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %a = moe.exp %x : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %d = moe.dot %a, %a {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %y = moe.mul %a, %d : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}

// The same round another region: %a -> column sum -> %y.
// CHECK-LABEL: func.func @cycle_of_regions
// CHECK: %[[A:.*]] = moe.fused "loop"
// CHECK: %[[R:.*]] = moe.fused "column_reduce"(%[[A]])
// CHECK: moe.fused "loop"({{.*}}%[[R]]
// CHECK: return
func.func @cycle_of_regions(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %a = moe.exp %x : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %r = moe.reduce %a {kind = 0 : i32, dims = array<i64: 0>} : (tensor<4x8xf32>) -> tensor<8xf32>
  %b = moe.broadcast %r {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<4x8xf32>
  %y = moe.mul %a, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// A read and its views show the state's memory: whoever reads them comes before the write, also where the program has it
// behind. So for the user of the read itself ...
// CHECK-LABEL: func.func @before_write
// CHECK-SAME: (%[[X:.*]]: tensor<4xf32>)
// CHECK: moe.sin
// CHECK: moe.write @s, %[[X]]
// CHECK: return
func.func @before_write(%x: tensor<4xf32>) -> tensor<4xf32> {
  %r = moe.read @s : tensor<4xf32>
  moe.write @s, %x : tensor<4xf32>
  %z = moe.sin %r : (tensor<4xf32>) -> tensor<4xf32>
  return %z : tensor<4xf32>
}

// ... and for the user of a view of it.
// CHECK-LABEL: func.func @view_before_write
// CHECK-SAME: (%[[X:.*]]: tensor<4xf32>)
// CHECK: moe.exp
// CHECK: moe.write @s, %[[X]]
// CHECK: return
func.func @view_before_write(%x: tensor<4xf32>) -> tensor<2x2xf32> {
  %r = moe.read @s : tensor<4xf32>
  %v = moe.reshape %r : (tensor<4xf32>) -> tensor<2x2xf32>
  moe.write @s, %x : tensor<4xf32>
  %y = moe.exp %v : (tensor<2x2xf32>) -> tensor<2x2xf32>
  return %y : tensor<2x2xf32>
}

// A read after the write sees the new value and so stays behind it, even if the write itself has to wait.
// CHECK-LABEL: func.func @after_write
// CHECK: moe.sin
// CHECK: moe.write @s
// CHECK: %[[R:.*]] = moe.read @s
// CHECK: moe.fused "loop"(%[[R]])
// CHECK: moe.exp
func.func @after_write(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %o = moe.read @s : tensor<4xf32>
  moe.write @s, %x : tensor<4xf32>
  %r = moe.read @s : tensor<4xf32>
  %y = moe.exp %r : (tensor<4xf32>) -> tensor<4xf32>
  %z = moe.sin %o : (tensor<4xf32>) -> tensor<4xf32>
  return %y, %z : tensor<4xf32>, tensor<4xf32>
}

// The rows of a lookup are scaled while they are read.
// CHECK-LABEL: func.func @gather
// CHECK-NEXT: moe.fused "gather_scatter"
// CHECK: moe.gather
// CHECK: moe.yield
// CHECK-NEXT: }
// CHECK-NEXT: return
func.func @gather(%t: tensor<8x4xf32>, %i: tensor<3xi32>) -> tensor<3x4xf32> {
  %g = moe.gather %t, %i : (tensor<8x4xf32>, tensor<3xi32>) -> tensor<3x4xf32>
  %y = moe.add %g, %g : (tensor<3x4xf32>, tensor<3x4xf32>) -> tensor<3x4xf32>
  return %y : tensor<3x4xf32>
}

// The second sum reads the first one along its own rows, not across them: the first one is a kernel before it.
// CHECK-LABEL: func.func @across
// CHECK-NEXT: moe.fused "row_reduce"
// CHECK: moe.fused "row_reduce"
func.func @across(%x: tensor<4x4xf32>) -> tensor<4xf32> {
  %s = moe.reduce %x {kind = 0 : i32, dims = array<i64: 1>} : (tensor<4x4xf32>) -> tensor<4xf32>
  %b = moe.broadcast %s {dims = array<i64: 1>} : (tensor<4xf32>) -> tensor<4x4xf32>
  %m = moe.mul %x, %b : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %y = moe.reduce %m {kind = 0 : i32, dims = array<i64: 1>} : (tensor<4x4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// A norm whose deviation others read, as its backward does, is one kernel with both results.
// CHECK-LABEL: func.func @norm_kept
// CHECK-NEXT: moe.fused "row_reduce"(%arg0) : (tensor<4x8xf32>) -> (tensor<4xf32>, tensor<4x8xf32>)
// CHECK-NOT: moe.fused
// CHECK: return
func.func @norm_kept(%x: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>) {
  %q = moe.mul %x, %x : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %s = moe.reduce %q {kind = 0 : i32, dims = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4xf32>
  %r = moe.rsqrt %s : (tensor<4xf32>) -> tensor<4xf32>
  %b = moe.broadcast %r {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
  %y = moe.mul %x, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %y, %r : tensor<4x8xf32>, tensor<4xf32>
}

// Here the sum is needed by a product that the last kernel reads: it cannot be computed there, nor can its root.
// CHECK-LABEL: func.func @norm_needed_before
// CHECK-NEXT: moe.fused "row_reduce"
// CHECK: moe.dot
// CHECK: moe.fused "loop"({{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: moe.fused "loop"({{.*}}) : ({{.*}}) -> tensor<4x8xf32>
func.func @norm_needed_before(%x: tensor<4x8xf32>, %w: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>) {
  %s = moe.reduce %x {kind = 0 : i32, dims = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4xf32>
  %d = moe.dot %s, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<4xf32>, tensor<4x8xf32>) -> tensor<8xf32>
  %r = moe.sqrt %s : (tensor<4xf32>) -> tensor<4xf32>
  %b = moe.broadcast %r {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
  %c = moe.broadcast %d {dims = array<i64: 1>} : (tensor<8xf32>) -> tensor<4x8xf32>
  %m = moe.mul %x, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y = moe.add %m, %c : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %y, %r : tensor<4x8xf32>, tensor<4xf32>
}

// Whole buckets have an emitter of their own: several outputs per pass over memory.
// CHECK-LABEL: func.func @bucket
// CHECK-NEXT: moe.fused "multi_tensor"
func.func @bucket(%p: tensor<2048xf32>, %g: tensor<2048xf32>) -> tensor<2048xf32> {
  %y = moe.sub %p, %g : (tensor<2048xf32>, tensor<2048xf32>) -> tensor<2048xf32>
  return %y : tensor<2048xf32>
}

// What updates several states from a value they share is one kernel: the moment before its guard is not kept.
// CHECK-LABEL: func.func @updates
// CHECK: %[[F:.*]]:2 = moe.fused
// CHECK: moe.yield
// CHECK-NEXT: }
// CHECK-NEXT: moe.write @m, %[[F]]#0
// CHECK-NEXT: moe.write @p, %[[F]]#1
func.func @updates(%g: tensor<8xf32>, %finite: tensor<8xi1>) {
  %m = moe.read @m : tensor<8xf32>
  %p = moe.read @p : tensor<8xf32>
  %new = moe.add %m, %g : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %step = moe.mul %new, %new : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %kept = moe.select %finite, %new, %m : (tensor<8xi1>, tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  moe.write @m, %kept : tensor<8xf32>
  %moved = moe.sub %p, %step : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  moe.write @p, %moved : tensor<8xf32>
  return
}

// So it is where one of the results is used further on, if the others do not depend on that use.
// CHECK-LABEL: func.func @update_and_result
// CHECK: %[[F:.*]]:2 = moe.fused
// CHECK-NOT: moe.fused
// CHECK: moe.dot %[[F]]#
func.func @update_and_result(%g: tensor<8xf32>, %finite: tensor<8xi1>, %w: tensor<8x4xf32>) -> tensor<4xf32> {
  %m = moe.read @m : tensor<8xf32>
  %new = moe.add %m, %g : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %kept = moe.select %finite, %new, %m : (tensor<8xi1>, tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %step = moe.mul %new, %new : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %d = moe.dot %step, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<8xf32>, tensor<8x4xf32>) -> tensor<4xf32>
  moe.write @m, %kept : tensor<8xf32>
  return %d : tensor<4xf32>
}

// Here the state's new value is made of what a product makes of the step.
// CHECK-LABEL: func.func @update_after_result
// CHECK: moe.fused
// CHECK: moe.dot
// CHECK: moe.fused
// CHECK: moe.write
func.func @update_after_result(%g: tensor<8xf32>, %w: tensor<8x8xf32>) {
  %m = moe.read @m : tensor<8xf32>
  %new = moe.add %m, %g : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %step = moe.mul %new, %new : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %d = moe.dot %step, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %kept = moe.sub %new, %d : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  moe.write @m, %kept : tensor<8xf32>
  return
}

// And here the step reads the state again, after it has been written.
// CHECK-LABEL: func.func @update_read_again
// CHECK: moe.fused
// CHECK: moe.write @m
// CHECK: moe.read @m
// CHECK: moe.fused
// CHECK: moe.write @p
func.func @update_read_again(%g: tensor<8xf32>) {
  %m = moe.read @m : tensor<8xf32>
  %new = moe.add %m, %g : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  %kept = moe.mul %new, %m : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  moe.write @m, %kept : tensor<8xf32>
  %again = moe.read @m : tensor<8xf32>
  %moved = moe.sub %new, %again : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  moe.write @p, %moved : tensor<8xf32>
  return
}

func.func @numbers(%x: tensor<4x8xf32>, %h: tensor<4x8xf32>, %t: tensor<5x8xf32>, %i: tensor<4xi32>) -> (tensor<4x8xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<4x4xf32>, tensor<f32>) {
  %z = moe.add %x, %h : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %g = moe.gather %t, %i : (tensor<5x8xf32>, tensor<4xi32>) -> tensor<4x8xf32>
  %m = moe.mul %z, %g : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %s = moe.reduce %m {kind = 1 : i32, dims = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4xf32>
  %b = moe.broadcast %s {dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<4x8xf32>
  %y = moe.sub %z, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %c = moe.reduce %y {kind = 0 : i32, dims = array<i64: 0>} : (tensor<4x8xf32>) -> tensor<8xf32>
  %d = moe.dot %y, %m {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x4xf32>
  %e = moe.exp %d : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %all = moe.reduce %e {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<4x4xf32>) -> tensor<f32>
  return %z, %y, %c, %e, %all : tensor<4x8xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<4x4xf32>, tensor<f32>
}
