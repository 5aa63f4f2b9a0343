// RUN: moe-opt %s --bufferize | FileCheck %s
// RUN: not moe-opt %S/inputs/unnamed.mlir --bufferize 2>&1 | FileCheck %s --check-prefix=UNNAMED
// RUN: echo "module {}" | moe-opt --bufferize | FileCheck %s --check-prefix=ALONE

// ALONE: module attributes {moe.buffers = []}
// UNNAMED: error: argument #0 has no moe.name

// A bucket is one buffer, its members are places inside it and have none of their own; gradients lie in the arena that
// an update may clear as a whole. Inputs of the same name are one staging buffer. Bytes: 32 floats, 8 floats, ...
// CHECK: moe.buffers = [
// CHECK-SAME: {arena = "state", bytes = 128 : i64, name = "bucket"}, {arena = "state", bytes = 64 : i64, name = "s"},
// CHECK-SAME: {arena = "gradients", bytes = 64 : i64, name = "g"}, {arena = "staging", bytes = 64 : i64, name = "x"}, {arena = "staging", bytes = 16 : i64, name = "i"},
moe.state parameter @a : tensor<16xf32> {bucket = @bucket, offset = 0 : i64}
moe.state parameter @b : tensor<16xf32> {bucket = @bucket, offset = 16 : i64}
moe.state parameter @bucket : tensor<32xf32>
moe.state control @s : tensor<16xf32>
moe.state gradient @g : tensor<16xf32>

// A member is read where it lies in the bucket: buffer 0, byte 64. A view is no new buffer. What dies in an operation
// that can work in place gives its buffer to the result (%2 takes over %1), unless somebody reads it later (%1 may not
// take over %0, which %3 reads). Buffer 5 and so on are in the step arena of the program.
// CHECK-LABEL: func.func @in_place(%{{.*}}: tensor<16xf32> {moe.name = "x", moe.slot = array<i64: 3, 0>})
func.func @in_place(%x: tensor<16xf32> {moe.name = "x"}) attributes {moe.program = "a"} {
  // CHECK-NEXT: moe.read @b {moe.slots = array<i64: 0, 64>}
  %r = moe.read @b : tensor<16xf32>
  // CHECK-NEXT: moe.reshape {{.*}}moe.slots = array<i64: 0, 64>}
  %v = moe.reshape %r : (tensor<16xf32>) -> tensor<4x4xf32>
  // A result never takes over a state that is not written: `%v` dies here.
  // CHECK-NEXT: moe.exp {{.*}}moe.slots = array<i64: 5, 0>}
  %0 = moe.exp %v {moe.in_place = array<i64: 0, 0>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // CHECK-NEXT: moe.sin {{.*}}moe.slots = array<i64: 6, 0>}
  %1 = moe.sin %0 {moe.in_place = array<i64: 0, 0>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // CHECK-NEXT: moe.cos {{.*}}moe.slots = array<i64: 6, 0>}
  %2 = moe.cos %1 {moe.in_place = array<i64: 0, 0>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // CHECK-NEXT: moe.reshape {{.*}}moe.slots = array<i64: 5, 0>}
  %w = moe.reshape %0 : (tensor<4x4xf32>) -> tensor<16xf32>
  // CHECK-NEXT: moe.reshape {{.*}}moe.slots = array<i64: 6, 0>}
  %u = moe.reshape %2 : (tensor<4x4xf32>) -> tensor<16xf32>
  // Through the view, too, %0 is read after this operation: only %u's buffer is free to take.
  // CHECK-NEXT: moe.add {{.*}}moe.slots = array<i64: 6, 0>}
  %3 = moe.add %w, %u {moe.in_place = array<i64: 0, 0, 0, 1>} : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  // Not in place where the kernel cannot (no attribute).
  // CHECK-NEXT: moe.mul {{.*}}moe.slots = array<i64: 7, 0>}
  %4 = moe.mul %3, %w : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  // CHECK-NEXT: moe.reduce {{.*}}moe.slots = array<i64: 8, 0>}
  %5 = moe.reduce %4 {kind = 0 : i32, dims = array<i64: 0>} : (tensor<16xf32>) -> tensor<f32>
  return
}

// What is written to a state is computed in the state's memory, if all that read the old value come before or may work
// in place: then the write itself is nothing.
// CHECK-LABEL: func.func @donate
func.func @donate(%x: tensor<16xf32> {moe.name = "x"}) attributes {moe.program = "b"} {
  // CHECK: moe.read @s {moe.slots = array<i64: 1, 0>}
  %r = moe.read @s : tensor<16xf32>
  // CHECK-NEXT: moe.add {{.*}}moe.slots = array<i64: 1, 0>}
  %n = moe.add %r, %x {moe.in_place = array<i64: 0, 0>} : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  // CHECK-NEXT: moe.write @s, %{{[^ ]*}} : tensor<16xf32>
  moe.write @s, %n : tensor<16xf32>
  // A gradient nobody reads is computed where it belongs, through a view as well.
  // CHECK-NEXT: moe.exp {{.*}}moe.slots = array<i64: 2, 0>}
  %e = moe.exp %x : (tensor<16xf32>) -> tensor<16xf32>
  // CHECK-NEXT: moe.write @g, %{{[^ ]*}} : tensor<16xf32>
  moe.write @g, %e : tensor<16xf32>
  return
}

// A later reader of the old value keeps the new one out of the state until the write copies it. Donating here would
// hand %o the new value.
// CHECK-LABEL: func.func @later_reader
func.func @later_reader(%x: tensor<16xf32> {moe.name = "x"}) attributes {moe.program = "c"} {
  %r = moe.read @s : tensor<16xf32>
  %v = moe.reshape %r : (tensor<16xf32>) -> tensor<4x4xf32>
  // CHECK: moe.add {{.*}}moe.slots = array<i64: [[NEW:[0-9]+]], 0>}
  %n = moe.add %r, %x {moe.in_place = array<i64: 0, 0>} : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  // CHECK-NEXT: moe.exp
  %o = moe.exp %v : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // CHECK-NEXT: moe.write @s, %{{[^ ]*}} {moe.copy}
  moe.write @s, %n : tensor<16xf32>
  return
}

// An operation that reads the state otherwise than element by element cannot write over it while it runs.
// CHECK-LABEL: func.func @not_in_place
func.func @not_in_place() attributes {moe.program = "d"} {
  %r = moe.read @s : tensor<16xf32>
  // CHECK: moe.reshape {{.*}}moe.slots = array<i64: 1, 0>}
  %v = moe.reshape %r : (tensor<16xf32>) -> tensor<4x4xf32>
  // CHECK-NEXT: moe.transpose {{.*}}moe.slots = array<i64: {{[0-9][0-9]|[5-9]}}, 0>, permutation
  %t = moe.transpose %v {permutation = array<i64: 1, 0>} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %n = moe.reshape %t : (tensor<4x4xf32>) -> tensor<16xf32>
  // CHECK: moe.write @s, %{{[^ ]*}} {moe.copy}
  moe.write @s, %n : tensor<16xf32>
  return
}

// The state overlaps another name of the same memory: @a is the first half of @bucket.
// CHECK-LABEL: func.func @alias
func.func @alias(%x: tensor<16xf32> {moe.name = "x"}) attributes {moe.program = "e"} {
  %r = moe.read @bucket : tensor<32xf32>
  // CHECK: moe.exp {{.*}}moe.slots = array<i64: {{[0-9][0-9]|[5-9]}}, 0>}
  %n = moe.exp %x : (tensor<16xf32>) -> tensor<16xf32>
  // CHECK: moe.reduce
  %o = moe.reduce %r {kind = 0 : i32, dims = array<i64: 0>} : (tensor<32xf32>) -> tensor<f32>
  // CHECK: moe.write @a, %{{[^ ]*}} {moe.copy}
  moe.write @a, %n : tensor<16xf32>
  // The other half is free: @b does not overlap @a.
  // CHECK: moe.sin {{.*}}moe.slots = array<i64: 0, 64>}
  %m = moe.sin %x : (tensor<16xf32>) -> tensor<16xf32>
  moe.write @b, %m : tensor<16xf32>
  return
}

// Inputs are the host's: nobody works in place on them, and writing one to a state copies. Scratch memory is a buffer.
// CHECK-LABEL: func.func @inputs
func.func @inputs(%x: tensor<16xf32> {moe.name = "x"}) attributes {moe.program = "f"} {
  // CHECK-NEXT: moe.exp {{.*}}moe.scratch = [[SCRATCH:[0-9]+]] : i64, moe.scratch_bytes = 256 : i64, moe.slots = array<i64: {{[0-9][0-9]|[5-9]}}, 0>}
  %n = moe.exp %x {moe.in_place = array<i64: 0, 0>, moe.scratch_bytes = 256 : i64} : (tensor<16xf32>) -> tensor<16xf32>
  // CHECK-NEXT: moe.write @s, %{{[^ ]*}} {moe.copy}
  moe.write @s, %x : tensor<16xf32>
  return
}

// A sum that must happen in its first operand (scatter_add with init) says so when it could not take that operand over.
// CHECK-LABEL: func.func @must_be_in_place
func.func @must_be_in_place(%i: tensor<2xi64> {moe.name = "i"}, %x: tensor<16xf32> {moe.name = "x"}) attributes {moe.program = "g"} {
  %r = moe.constant {value = dense<0.0> : tensor<2x4xf32>} : () -> tensor<2x4xf32>
  %init = moe.reshape %x : (tensor<16xf32>) -> tensor<4x4xf32>
  // CHECK: moe.scatter_add {{.*}}moe.copy
  %y = moe.scatter_add %i, %r, %init : (tensor<2xi64>, tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  // CHECK-NEXT: moe.scatter_add
  // CHECK-NOT: moe.copy
  %z = moe.scatter_add %i, %r, %y : (tensor<2xi64>, tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return
}
