// RUN: moe-opt %s --recompute | FileCheck %s
// RUN: moe-opt %s --recompute=policy=none | FileCheck %s
// RUN: not moe-opt %s --recompute=policy=layers 2>&1 | FileCheck %s --check-prefix=LAYERS
// RUN: echo "module {}" | moe-opt --recompute | FileCheck %s --check-prefix=ALONE

// ALONE: module {

// A policy that is not there must not be taken for none: the memory plan would be another one than asked for.
// LAYERS: error: --recompute layers is planned; only none is implemented

// CHECK: func.func @forward(%[[X:.*]]: tensor<4xf32>)
// CHECK-NEXT: %[[Y:.*]] = moe.neg %[[X]]
// CHECK-NEXT: return %[[Y]]
func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = moe.neg %x : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}
