// RUN: not moe-opt %s 2>&1 | FileCheck %s

// Routers whose gradient nobody reduces: each rank has that of its own tokens, takes it for the whole one, and routers
// drift apart from the first update on.
//   https://github.com/pytorch/torchtitan/issues/2387   https://github.com/NVIDIA/Megatron-LM/issues/599
// The gradient of a whole weight is partial. A state of that gradient that says otherwise is refused.

#tokens = #moe.layout<data = shard(0), expert = shard(0)>
#whole = #moe.layout<data = replicate, expert = replicate>
#part = #moe.layout<data = partial, expert = partial>
// CHECK: error: 'moe.write' op uses @gate.grad as 'tensor<3x4xf32, #moe.layout<data = partial, expert = partial>>', but it is 'tensor<3x4xf32, #moe.layout<data = replicate, expert = replicate>>'
// CHECK: note: on mesh axis 'data' it is replicate, but what is written ('gate.grad') is partial; reduce it first
// CHECK: note: on mesh axis 'expert' it is replicate, but what is written ('gate.grad') is partial; reduce it first
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {
  moe.state gradient @gate.grad : tensor<3x4xf32, #whole>
  func.func @micro_step(%x: tensor<8x3xf32, #tokens>, %logits_grad: tensor<8x4xf32, #tokens>) attributes {moe.program = "micro_step"} {
    %grad = moe.dot %x, %logits_grad {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>} : (tensor<8x3xf32, #tokens>, tensor<8x4xf32, #tokens>) -> tensor<3x4xf32, #part> loc("gate.grad")
    moe.write @gate.grad, %grad : tensor<3x4xf32, #part>
    return
  }
}
