// Layers of experts that drop nothing: ranks of axis `expert` have a part of one table of rows each.
// RUN: moe-opt %s --shard="axes=data,expert sizes=2,2" --insert-data-parallel --insert-expert-parallel | FileCheck %s
// RUN: moe-opt %s --shard="axes=data,expert sizes=2,1" --insert-data-parallel --insert-expert-parallel | FileCheck %s --check-prefix=WHOLE

// CHECK: #[[SUM:.*]] = #moe.layout<data = shard(0), expert = partial>
module {
  // One parameter for each expert, stored transposed: one state of which each rank has its experts. What has other uses,
  // or is no parameter alone, stays.
  // CHECK: moe.state parameter @w.0.stack : tensor<1x5x3xf32, #[[SPLIT:.*]]> {checkpointed, members = [{initial = 1.0{{.*}}, name = "w.0"}, {initial = 2.0{{.*}}, name = "w.1"}]}
  // CHECK-NOT: @w.1
  // CHECK: @v.0 : tensor<5x3xf32
  // CHECK: @v.1 : tensor<5x3xf32
  // CHECK: @bias : tensor<1x5xf32
  // WHOLE: @w.0 : tensor<5x3xf32
  // WHOLE: @w.1 : tensor<5x3xf32
  // WHOLE: @bias : tensor<2x5xf32
  moe.state parameter @w.0 : tensor<5x3xf32> {initial = 1.0 : f64, checkpointed}
  moe.state parameter @w.1 : tensor<5x3xf32> {initial = 2.0 : f64, checkpointed}
  moe.state parameter @v.0 : tensor<5x3xf32>
  moe.state parameter @v.1 : tensor<5x3xf32>
  moe.state parameter @bias : tensor<2x5xf32>
  // CHECK-LABEL: func.func @forward(%{{.*}}: tensor<2x4x3xf32, {{.*}}>, %{{.*}}: tensor<2x4x1xi32,
  func.func @forward(%x: tensor<8x4x3xf32>, %choice: tensor<8x4x1xi32>) -> (tensor<2x16x3xf32>, tensor<5x3xf32>) attributes {moe.program = "forward"} {
    %w0 = moe.read @w.0 : tensor<5x3xf32>
    %w1 = moe.read @w.1 : tensor<5x3xf32>
    %v0 = moe.read @v.0 : tensor<5x3xf32>
    %v1 = moe.read @v.1 : tensor<5x3xf32>
    %bias = moe.read @bias : tensor<2x5xf32>
    %t0 = moe.transpose %w0 {permutation = array<i64: 1, 0>} : (tensor<5x3xf32>) -> tensor<3x5xf32>
    %t1 = moe.transpose %w1 {permutation = array<i64: 1, 0>} : (tensor<5x3xf32>) -> tensor<3x5xf32>
    %o0 = moe.reshape %t0 : (tensor<3x5xf32>) -> tensor<1x3x5xf32>
    %o1 = moe.reshape %t1 : (tensor<3x5xf32>) -> tensor<1x3x5xf32>
    // CHECK: moe.transpose %{{.*}} {permutation = array<i64: 0, 2, 1>} : (tensor<1x5x3xf32, {{.*}}>) -> tensor<1x3x5xf32
    %w = moe.concat %o0, %o1 {dim = 0 : i64} : (tensor<1x3x5xf32>, tensor<1x3x5xf32>) -> tensor<2x3x5xf32>
    %p0 = moe.reshape %v0 : (tensor<5x3xf32>) -> tensor<1x5x3xf32>
    %p1 = moe.reshape %v1 : (tensor<5x3xf32>) -> tensor<1x5x3xf32>
    // CHECK: moe.concat {{.*}} -> tensor<2x5x3xf32
    %v = moe.concat %p0, %p1 {dim = 0 : i64} : (tensor<1x5x3xf32>, tensor<1x5x3xf32>) -> tensor<2x5x3xf32>
    %tokens = moe.reshape %x : (tensor<8x4x3xf32>) -> tensor<2x16x3xf32>
    %expert = moe.reshape %choice : (tensor<8x4x1xi32>) -> tensor<2x16x1xi32>
    // Ranks of a group know all its choices; each keeps its part of the table.
    // CHECK: moe.all_gather %{{.*}} {axes = ["expert"], dim = 0 : i64{{.*}}: {{.*}} -> tensor<4x4x3xf32
    // CHECK: moe.all_gather %{{.*}} {axes = ["expert"], dim = 0 : i64{{.*}}: {{.*}} -> tensor<4x4x1xi32
    // CHECK: moe.group_rows {{.*}}parts = 2 : i64} : {{.*}} -> (tensor<1x16x1xi32, {{.*}}>, tensor<1x1x32xi32, {{.*}}>, tensor<1x8xi32
    // CHECK: moe.own_slots {{.*}} {axis = "expert", dim = 2 : i64} {{.*}} -> {{.*}}tensor<1x1x16xi32
    // WHOLE-NOT: moe.all_gather
    // WHOLE: moe.group_rows {{.*}} -> (tensor<1x16x1xi32,
    // WHOLE-NOT: moe.own_slots
    %zero = moe.constant {value = dense<0> : tensor<2x16x1xi32>} : () -> tensor<2x16x1xi32>
    %slot, %token, %block = moe.group_rows %expert {experts = 2 : i64, block = 4 : i64, parts = 2 : i64} : (tensor<2x16x1xi32>) -> (tensor<2x16x1xi32>, tensor<1x2x32xi32>, tensor<2x8xi32>)
    // CHECK: moe.dispatch {{.*}} -> tensor<1x1x16x3xf32
    %moved = moe.dispatch %tokens, %zero, %slot, %token : (tensor<2x16x3xf32>, tensor<2x16x1xi32>, tensor<2x16x1xi32>, tensor<1x2x32xi32>) -> tensor<1x2x32x3xf32>
    %rows = moe.reshape %moved : (tensor<1x2x32x3xf32>) -> tensor<2x32x3xf32>
    // CHECK: moe.grouped_dot {{.*}} {part_experts = 1 : i64, parts = 2 : i64} : (tensor<1x16x3xf32, {{.*}}>, tensor<1x4xi32, {{.*}}>, tensor<1x3x5xf32, {{.*}}>) -> tensor<1x16x5xf32
    %up = moe.grouped_dot %rows, %block, %w {part_experts = 1 : i64, parts = 2 : i64} : (tensor<2x32x3xf32>, tensor<2x8xi32>, tensor<2x3x5xf32>) -> tensor<2x32x5xf32>
    %ones = moe.constant {value = dense<1.0> : tensor<2x32x1xf32>} : () -> tensor<2x32x1xf32>
    %vectors = moe.reshape %bias : (tensor<2x5xf32>) -> tensor<2x1x5xf32>
    // CHECK: moe.grouped_dot {{.*}}tensor<1x1x5xf32, {{.*}}>) -> tensor<1x16x5xf32
    %each = moe.grouped_dot %ones, %block, %vectors {part_experts = 1 : i64, parts = 2 : i64} : (tensor<2x32x1xf32>, tensor<2x8xi32>, tensor<2x1x5xf32>) -> tensor<2x32x5xf32>
    %h = moe.add %up, %each : (tensor<2x32x5xf32>, tensor<2x32x5xf32>) -> tensor<2x32x5xf32>
    // CHECK: moe.all_slice {{.*}} -> tensor<1x5x3xf32
    // CHECK: moe.grouped_dot {{.*}}tensor<1x5x3xf32, {{.*}}>) -> tensor<1x16x3xf32
    %down = moe.grouped_dot %h, %block, %v {part_experts = 1 : i64, parts = 2 : i64} : (tensor<2x32x5xf32>, tensor<2x8xi32>, tensor<2x5x3xf32>) -> tensor<2x32x3xf32>
    %back = moe.reshape %down : (tensor<2x32x3xf32>) -> tensor<1x2x32x3xf32>
    // What the experts of a rank say is its summand of the result.
    // CHECK: moe.combine {{.*}} -> tensor<1x16x3xf32, #[[SUM]]>
    %y = moe.combine %back, %zero, %slot, %token : (tensor<1x2x32x3xf32>, tensor<2x16x1xi32>, tensor<2x16x1xi32>, tensor<1x2x32xi32>) -> tensor<2x16x3xf32>
    return %y, %v0 : tensor<2x16x3xf32>, tensor<5x3xf32>
  }
}
