// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s
// RUN: moe-opt %s --canonicalize --cse | FileCheck %s --check-prefix=KEPT

// CHECK: moe.state parameter @a.b.weight : tensor<4xf32> {bucket = @flat, checkpointed, initial = {normal = [0.000000e+00, 2.000000e-02], zero_rows = [1]}, offset = 8 : i64}
moe.state parameter @a.b.weight : tensor<4xf32> {bucket = @flat, offset = 8 : i64, checkpointed, initial = {normal = [0.0, 0.02], zero_rows = [1]}}
// CHECK: moe.state parameter @flat : tensor<12xf32>
moe.state parameter @flat : tensor<12xf32>
// CHECK: moe.state frozen @table : tensor<2xi64> {initial = {data = dense<[3, 4]> : tensor<2xi64>}}
moe.state frozen @table : tensor<2xi64> {initial = {data = dense<[3, 4]> : tensor<2xi64>}}
// CHECK: moe.state gradient @a.b.weight.grad : tensor<4xf32> {of = @a.b.weight}
moe.state gradient @a.b.weight.grad : tensor<4xf32> {of = @a.b.weight}
// CHECK: moe.state moment @m : tensor<4xf32> {initial = {uniform = [-1.000000e+00, 1.000000e+00]}}
moe.state moment @m : tensor<4xf32> {initial = {uniform = [-1.0, 1.0]}}
// CHECK: moe.state control @"odd name" : tensor<f32>
moe.state control @"odd name" : tensor<f32>
// CHECK: moe.state metric @loss : tensor<f32> {initial = {bytes = 4 : i64, file = "w.bin", offset = 0 : i64, stored = f32}}
moe.state metric @loss : tensor<f32> {initial = {file = "w.bin", offset = 0 : i64, bytes = 4 : i64, stored = f32}}

// A write is an effect: nothing may drop it, though it has no results; a read without users may go.
// CHECK-LABEL: func.func @program
// KEPT-LABEL: func.func @program
// KEPT-NOT: moe.read @m
// KEPT: moe.write @m
func.func @program(%x: tensor<4xf32>) attributes {moe.program = "micro_step"} {
  // CHECK-NEXT: moe.read @m : tensor<4xf32>
  %0 = moe.read @m : tensor<4xf32>
  // CHECK-NEXT: moe.write @m, %{{[^ ]*}} : tensor<4xf32>
  moe.write @m, %x : tensor<4xf32>
  // CHECK-NEXT: %[[F:.*]]:2 = moe.fused "row_reduce"(%{{[^ ]*}}) {moe.lane = 0 : i64} : (tensor<4xf32>) -> (tensor<f32>, tensor<4xf32>) {
  // CHECK-NEXT: ^bb0(%[[A:.*]]: tensor<4xf32>):
  // CHECK: moe.yield %{{[^ ]*}}, %[[A]] : tensor<f32>, tensor<4xf32>
  %1:2 = moe.fused "row_reduce"(%x) {moe.lane = 0 : i64} : (tensor<4xf32>) -> (tensor<f32>, tensor<4xf32>) {
  ^bb0(%a: tensor<4xf32>):
    %2 = moe.reduce %a {kind = 2 : i32, dims = array<i64: 0>} : (tensor<4xf32>) -> tensor<f32>
    moe.yield %2, %a : tensor<f32>, tensor<4xf32>
  }
  return
}
