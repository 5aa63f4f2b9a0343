// RUN: moe-opt %s --assign-precision | FileCheck %s
// RUN: not moe-opt %s --assign-precision=compute=bf16 2>&1 | FileCheck %s --check-prefix=BF16
// RUN: echo "module {}" | moe-opt --assign-precision | FileCheck %s --check-prefix=ALONE

// ALONE: module {

// The name of the recipe's key and the type asked for are in the message: compiling on in float32 would train another
// model than the recipe says.
// BF16: error: precision.compute: bf16 is planned; only f32 is implemented

// float32 programs stay as they are.
// CHECK: func.func @forward(%[[X:.*]]: tensor<4xf32>)
// CHECK-NEXT: %[[Y:.*]] = moe.neg %[[X]]
// CHECK-NEXT: return %[[Y]]
func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = moe.neg %x : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
