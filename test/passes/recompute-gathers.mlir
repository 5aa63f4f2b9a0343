// RUN: moe-opt %s --shard="axes=data,expert sizes=2,1" --insert-data-parallel --insert-fsdp="mode=full" --differentiate --simplify --decompose-coarse --simplify=merge=false --fuse-epilogues --fuse --mlir-print-debuginfo -o %t.mlir
// RUN: moe-opt %t.mlir '--recompute=cheap-bytes=256 cheap-steps=1 cheap-flops=0' --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s --check-prefixes=CHECK,NONE
// RUN: moe-opt %t.mlir '--recompute=policy=full cheap-bytes=256 cheap-steps=1 cheap-flops=0' --mlir-print-debuginfo --mlir-print-local-scope | FileCheck %s --check-prefixes=CHECK,FULL
// RUN: moe-opt %t.mlir '--recompute=cheap-bytes=257 cheap-steps=1 cheap-flops=0' | FileCheck %s --check-prefix=SMALL
// RUN: moe-opt %t.mlir '--recompute=cheap-bytes=256 cheap-steps=1000 cheap-flops=0' | FileCheck %s --check-prefix=SMALL
// RUN: moe-opt %s --assign-precision=compute=bf16 --shard="axes=data,expert sizes=2,1" --insert-data-parallel --insert-fsdp="mode=full" --differentiate --simplify --decompose-coarse --simplify=merge=false --fuse-epilogues --fuse '--recompute=cheap-bytes=128 cheap-steps=1 cheap-flops=0' --mlir-print-local-scope | FileCheck %s --check-prefix=NARROW

// Whole parameters live from the gather to their last reader in the forward, and from another gather on in the backward. The
// number in the name of a bucket is that of no layer: if it were taken for one, `full` would keep nothing of any layer and
// compute all of the forward again before the backward begins.
// SMALL-NOT: moe.recomputed

// CHECK-LABEL: func.func @micro_step
// CHECK: %[[P0:.*]] = moe.read @bucket.0
// CHECK: %[[W0:.*]] = moe.all_gather %[[P0]]
// CHECK: %[[P1:.*]] = moe.read @bucket.1
// CHECK: %[[W1:.*]] = moe.all_gather %[[P1]]
// The product before GELU is kept, or made of the layer's input again; that of the layer before never is.
// CHECK: %[[AGAIN1:.*]] = moe.all_gather %[[P1]] {{.*}}moe.recomputed
// CHECK: %[[MEMBER1:.*]] = moe.bucket_split %[[AGAIN1]] {{.*}}moe.recomputed
// NONE-NOT: moe.dot {{.*}}moe.recomputed
// FULL: moe.dot %{{.*}}, %[[MEMBER1]] {{.*}}moe.recomputed
// CHECK: moe.write @bucket.1.grad
// Nothing reads the weight of the first layer in the backward but the layer itself.
// NONE-NOT: moe.all_gather
// FULL: %[[AGAIN0:.*]] = moe.all_gather %[[P0]] {{.*}}moe.recomputed
// FULL: %[[MEMBER0:.*]] = moe.bucket_split %[[AGAIN0]] {{.*}}moe.recomputed
// FULL: moe.dot %{{.*}}, %[[MEMBER0]] {{.*}}moe.recomputed
// CHECK: moe.write @bucket.0.grad

// Of weights that the backward reads in bf16 alone neither the wide nor the narrow whole is kept.
// NARROW-LABEL: func.func @micro_step
// NARROW: %[[N1:.*]] = moe.read @bucket.1
// NARROW: moe.all_gather %[[N1]] {{.*}}moe.recomputed
// NARROW: moe.bucket_split {{.*}}moe.recomputed
// NARROW: moe.fused "loop"({{.*}}) {moe.recomputed} : (tensor<8x8xf32>) -> tensor<8x8xbf16>
// NARROW: moe.write @bucket.1.grad

// Two layers x + gelu(x w) and a head.
module attributes {moe.training = {accumulate = 2 : i64}} {
  moe.state parameter @layers.0.w : tensor<8x8xf32> {initial = {normal = [0.0, 0.5]}}
  moe.state parameter @layers.1.w : tensor<8x8xf32> {initial = {normal = [0.0, 0.5]}}
  func.func @forward(%x: tensor<16x8xf32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    %w0 = moe.read @layers.0.w : tensor<8x8xf32> loc("layers.0.w")
    %w1 = moe.read @layers.1.w : tensor<8x8xf32> loc("layers.1.w")
    %h0 = moe.dot %x, %w0 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<16x8xf32>, tensor<8x8xf32>) -> tensor<16x8xf32> loc("h0")
    %a0 = moe.gelu %h0 : (tensor<16x8xf32>) -> tensor<16x8xf32> loc("a0")
    %x1 = moe.add %x, %a0 : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32> loc("x1")
    %h1 = moe.dot %x1, %w1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<16x8xf32>, tensor<8x8xf32>) -> tensor<16x8xf32> loc("h1")
    %a1 = moe.gelu %h1 : (tensor<16x8xf32>) -> tensor<16x8xf32> loc("a1")
    %x2 = moe.add %x1, %a1 : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32> loc("x2")
    %q = moe.mul %x2, %x2 : (tensor<16x8xf32>, tensor<16x8xf32>) -> tensor<16x8xf32> loc("q")
    %loss = moe.reduce %q {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<16x8xf32>) -> tensor<f32> loc("loss")
    return %loss : tensor<f32>
  }
}
