// RUN: moe-opt %s "--select=target=cpu:x86-64-v3 threads=3" | FileCheck %s
// RUN: not moe-opt %s --select=target=cpu:z80 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not moe-opt %S/inputs/sort.mlir --select 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: echo "module {}" | moe-opt --select=threads=2 | FileCheck %s --check-prefix=ALONE

// ALONE: moe.threads = 2
// TARGET: error: {{.*}}z80
// NONE: error: {{.*}}moe.sort

// CHECK: module attributes {moe.target = "cpu:x86-64-v3", moe.threads = 3 : i64}
// CHECK-LABEL: func.func @f
func.func @f(%x: tensor<8x16xf32>, %w: tensor<16x16xf32>, %row: tensor<16xf32>) -> tensor<8x16xf32> {
  // A product works on no operand in place.
  // CHECK: moe.dot
  // CHECK-NOT: moe.in_place
  // CHECK: moe.fused "loop"
  %d = moe.dot %x, %w {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<8x16xf32>, tensor<16x16xf32>) -> tensor<8x16xf32>
  // The result may take over the operand read element by element (input 1), not the row that is repeated (input 0): its
  // first element is read again for the second row. Pairs are (output, input).
  // CHECK-SAME: moe.in_place = array<i64: 0, 1>}
  %y = moe.fused "loop"(%row, %d) : (tensor<16xf32>, tensor<8x16xf32>) -> tensor<8x16xf32> {
  ^bb0(%b: tensor<16xf32>, %a: tensor<8x16xf32>):
    %c = moe.broadcast %b {dims = array<i64: 1>} : (tensor<16xf32>) -> tensor<8x16xf32>
    %e = moe.add %a, %c : (tensor<8x16xf32>, tensor<8x16xf32>) -> tensor<8x16xf32>
    moe.yield %e : tensor<8x16xf32>
  }
  return %y : tensor<8x16xf32>
}
