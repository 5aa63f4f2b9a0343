// RUN: moe-opt %s --shard="axes=data,expert sizes=2,2" --insert-fsdp="mode=full" | FileCheck %s
// RUN: moe-opt %s --shard="axes=data,expert sizes=2,2" --insert-fsdp="mode=optimizer" | FileCheck %s --check-prefix=MOMENTS
// RUN: moe-opt %s --shard="axes=data,expert sizes=2,2" --insert-fsdp | FileCheck %s --check-prefix=OFF
// RUN: not moe-opt %s --shard="axes=data,expert sizes=2,2" --insert-fsdp="mode=some" 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// UNKNOWN: error: unknown --fsdp 'some'; there are off, optimizer, full
// OFF-NOT: moe.fsdp
// OFF-NOT: moe.all_gather
// Gradients and moments come later; the module remembers.
// MOMENTS: moe.fsdp = "optimizer"
// MOMENTS-NOT: moe.all_gather

// One bucket per layer; sizes divide among the ranks (4) and members start at multiples of 64 bytes.
// CHECK: #[[PART:.*]] = #moe.layout<data = shard(0), expert = shard(0)>
// CHECK: moe.fsdp = "full"
// CHECK-DAG: moe.state parameter @bucket.0 : tensor<16xf32, #[[PART]]>
// CHECK-DAG: moe.state parameter @bucket.1 : tensor<16xf32, #[[PART]]>
// CHECK-DAG: moe.state parameter @layers.1.w : {{.*}} {bucket = @bucket.1, offset = 0 : i64}
// CHECK-DAG: moe.state parameter @layers.1.b : {{.*}} {bucket = @bucket.1, offset = 16 : i64}
module {
  moe.state parameter @layers.0.w : tensor<3x5xf32>
  moe.state parameter @layers.1.w : tensor<3x5xf32>
  moe.state parameter @layers.1.b : tensor<5xf32>
  func.func @forward(%x: tensor<8x3xf32>) -> (tensor<8x5xf32>, tensor<5xf32>) attributes {moe.program = "forward"} {
    // Each is gathered where its first member is used, not before.
    // CHECK: %[[P0:.*]] = moe.read @bucket.0
    // CHECK: %[[W0:.*]] = moe.all_gather %[[P0]] {axes = ["data", "expert"], dim = 0 : i64, moe.inserted_by = "insert-fsdp"}
    // CHECK: moe.bucket_split %[[W0]] {offsets = array<i64: 0>}
    // CHECK: moe.dot
    %w1 = moe.read @layers.1.w : tensor<3x5xf32>
    %b1 = moe.read @layers.1.b : tensor<5xf32>
    %w0 = moe.read @layers.0.w : tensor<3x5xf32>
    %y = moe.dot %x, %w0 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<8x3xf32>, tensor<3x5xf32>) -> tensor<8x5xf32>
    // CHECK: moe.read @bucket.1
    // CHECK: moe.all_gather
    // CHECK: %[[M:.*]]:2 = moe.bucket_split %{{.*}} {offsets = array<i64: 0, 16>}
    // CHECK: moe.dot %{{.*}}, %[[M]]#0
    // CHECK: return %{{.*}}, %[[M]]#1
    %z = moe.dot %x, %w1 {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<8x3xf32>, tensor<3x5xf32>) -> tensor<8x5xf32>
    %s = moe.add %y, %z : (tensor<8x5xf32>, tensor<8x5xf32>) -> tensor<8x5xf32>
    return %s, %b1 : tensor<8x5xf32>, tensor<5xf32>
  }
}
