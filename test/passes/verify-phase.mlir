// RUN: moe-opt %s --verify-phase --split-input-file --verify-diagnostics
// RUN: not moe-opt %s --verify-phase=phase=shard --split-input-file 2>&1 | FileCheck %s --check-prefix=SHARD
// RUN: not moe-opt %s --verify-phase=phase=differentiate --split-input-file 2>&1 | FileCheck %s --check-prefix=STEP
// RUN: not moe-opt %s --verify-phase=phase=update --split-input-file 2>&1 | FileCheck %s --check-prefix=UPDATE
// RUN: not moe-opt %s --verify-phase=phase=fuse --split-input-file 2>&1 | FileCheck %s --check-prefix=FUSE
// RUN: not moe-opt %s --verify-phase=phase=bufferize --split-input-file 2>&1 | FileCheck %s --check-prefix=SLOTS
// RUN: not moe-opt %s --verify-phase=phase=place --split-input-file 2>&1 | FileCheck %s --check-prefix=PLACE
// RUN: echo "module {}" | not moe-opt --verify-phase=phase=lunch 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: echo "module {}" | moe-opt --verify-phase | FileCheck %s --check-prefix=ALONE

// Every phase is asked for what it must have brought about; a check that is missing leaves its line here without error.
// ALONE: module {
// NAME: error: there is no phase 'lunch'; there are import, recompose, precision, shard, differentiate, update, fuse, recompute, select, bufferize, schedule, place, codegen
// SHARD: error: after phase shard: 'moe.exp' makes a tensor without a layout
// STEP: error: after phase differentiate: 'builtin.module' has no program @micro_step
// UPDATE: error: after phase update: 'builtin.module' has no program @update
// FUSE-DAG: error: after phase fuse: 'moe.softmax' should have been decomposed
// FUSE-DAG: error: after phase fuse: 'moe.exp' should be inside a fused region
// Attention is coarse on purpose, and what a region holds is where it should be.
// FUSE-DAG: error: after phase fuse: 'moe.constant' makes a tensor that has a layout still
// FUSE-NOT: 'moe.attention' should
// FUSE-NOT: 'moe.sin' should
// SLOTS: error: after phase bufferize: 'moe.exp' has no slots for its results
// PLACE: error: after phase place: 'func.func' uses buffer 'b', which has no offset

module {
  func.func @forward(%x: tensor<1x2x1x4xf32>, %y: tensor<4xf32>) attributes {moe.program = "forward"} {
    %0 = moe.exp %y : (tensor<4xf32>) -> tensor<4xf32>
    %1 = moe.softmax %y : (tensor<4xf32>) -> tensor<4xf32>
    %2, %3 = moe.attention %x, %x, %x {scale = 0.5 : f64} : (tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>, tensor<1x2x1x4xf32>) -> (tensor<1x2x1x4xf32>, tensor<1x1x2xf32>)
    %4 = moe.fused "loop"(%y) : (tensor<4xf32>) -> tensor<4xf32> {
    ^bb0(%a: tensor<4xf32>):
      %5 = moe.sin %a : (tensor<4xf32>) -> tensor<4xf32>
      moe.yield %5 : tensor<4xf32>
    }
    return
  }
}

// -----

module {
  // expected-error@+1 {{after phase import: 'func.func' is no program of one block with the attribute moe.program}}
  func.func @helper() {
    return
  }
}

// -----

module {
  func.func private @callee(%x: tensor<f32>) -> tensor<f32> attributes {moe.program = "callee"} {
    return %x : tensor<f32>
  }
  func.func @forward(%x: tensor<f32>) attributes {moe.program = "forward"} {
    // expected-error@+1 {{after phase import: 'func.call' is no operation of the moe dialect}}
    %0 = func.call @callee(%x) : (tensor<f32>) -> tensor<f32>
    return
  }
}

// -----

module attributes {moe.buffers = [{arena = "step", bytes = 4 : i64, name = "b", program = "micro_step"}]} {
  func.func @micro_step() attributes {moe.program = "micro_step"} {
    %0 = moe.constant {value = dense<0.0> : tensor<f32>, moe.slots = array<i64: 0, 0>} : () -> tensor<f32>
    return
  }
  func.func @update() attributes {moe.program = "update"} {
    return
  }
}

// -----

// On the mesh until the programs are those of one rank.
module {
  func.func @forward() attributes {moe.program = "forward"} {
    %0 = moe.constant {value = dense<0.0> : tensor<f32, #moe.layout<data = replicate>>} : () -> tensor<f32, #moe.layout<data = replicate>>
    return
  }
}
