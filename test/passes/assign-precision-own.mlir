// RUN: moe-opt %s --assign-precision=compute=bf16 | FileCheck %s

// Sums are float32 in a model too that is bfloat16 itself; what it returns keeps its type.
// CHECK-LABEL: func.func @own
// CHECK: %[[WIDE:.*]] = moe.cast %{{.*}} -> tensor<2x3xf32>
// CHECK: %[[SUM:.*]] = moe.reduce %[[WIDE]] {{.*}} -> tensor<2xf32>
// CHECK: %[[OUT:.*]] = moe.cast %[[SUM]] {{.*}} -> tensor<2xbf16>
// CHECK: %[[SHAPED:.*]] = moe.reshape %[[OUT]] {{.*}} -> tensor<2x1xbf16>
// CHECK: return %[[SHAPED]]
func.func @own(%x: tensor<2x3xbf16>) -> tensor<2x1xbf16> {
  %sum = moe.reduce %x {kind = 0 : i32, dims = array<i64: 1>} : (tensor<2x3xbf16>) -> tensor<2xbf16>
  %shaped = moe.reshape %sum : (tensor<2xbf16>) -> tensor<2x1xbf16>
  return %shaped : tensor<2x1xbf16>
}
