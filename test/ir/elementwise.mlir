// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// Text and generic text are read back as the same operations: an attribute that the printer forgets is missed here.
// CHECK-LABEL: func.func @floats
func.func @floats(%x: tensor<2x3xf32>) {
  // CHECK-NEXT: moe.neg %{{.*}} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %0 = moe.neg %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.abs
  %1 = moe.abs %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.exp
  %2 = moe.exp %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.log
  %3 = moe.log %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.sqrt
  %4 = moe.sqrt %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.rsqrt
  %5 = moe.rsqrt %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.tanh
  %6 = moe.tanh %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.erf
  %7 = moe.erf %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.sigmoid
  %8 = moe.sigmoid %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.sin
  %9 = moe.sin %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.cos
  %10 = moe.cos %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.relu
  %11 = moe.relu %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.is_finite %{{.*}} : (tensor<2x3xf32>) -> tensor<2x3xi1>
  %12 = moe.is_finite %x : (tensor<2x3xf32>) -> tensor<2x3xi1>
  // CHECK-NEXT: moe.gelu %{{.*}} {approximate = 1 : i32}
  %13 = moe.gelu %x {approximate = 1 : i32} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.add_n %{{[^ ]*}}, %{{[^ ]*}}, %{{[^ ]*}} :
  %14 = moe.add_n %0, %1, %2 : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.cast %{{.*}} {to = bf16} : (tensor<2x3xf32>) -> tensor<2x3xbf16>
  %15 = moe.cast %x {to = bf16} : (tensor<2x3xf32>) -> tensor<2x3xbf16>
  // CHECK-NEXT: moe.select
  %16 = moe.select %12, %x, %0 : (tensor<2x3xi1>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK-NEXT: moe.not
  %17 = moe.not %12 : (tensor<2x3xi1>) -> tensor<2x3xi1>
  return
}

// CHECK-LABEL: func.func @pairs
func.func @pairs(%x: tensor<4xf32>, %i: tensor<4xi32>, %rng: tensor<2xi64>) {
  // CHECK-NEXT: moe.add
  %0 = moe.add %i, %i : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  // CHECK-NEXT: moe.sub
  %1 = moe.sub %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK-NEXT: moe.mul
  %2 = moe.mul %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK-NEXT: moe.div
  %3 = moe.div %i, %i : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  // CHECK-NEXT: moe.max
  %4 = moe.max %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK-NEXT: moe.min
  %5 = moe.min %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK-NEXT: moe.pow
  %6 = moe.pow %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK-NEXT: moe.and
  %7 = moe.and %i, %i : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  // CHECK-NEXT: moe.or
  %8 = moe.or %i, %i : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  // CHECK-NEXT: moe.compare %{{[^ ]*}}, %{{[^ ]*}} {predicate = 5 : i32} : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi1>
  %9 = moe.compare %i, %i {predicate = 5 : i32} : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi1>
  // CHECK-NEXT: moe.dropout %{{[^ ]*}}, %{{[^ ]*}} {rate = 1.000000e-01 : f64, seed = 3 : i64, site = 2 : i64}
  %10 = moe.dropout %x, %rng {rate = 0.1 : f64, seed = 3 : i64, site = 2 : i64} : (tensor<4xf32>, tensor<2xi64>) -> tensor<4xf32>
  return
}
