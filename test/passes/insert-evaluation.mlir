// RUN: moe-opt %s --insert-evaluation | FileCheck %s
// RUN: moe-opt %s --insert-evaluation | moe-opt --interpret=eval,eval,eval --states=metric --float64 | FileCheck %s --check-prefix=VALUES
// RUN: not moe-opt %s --insert-evaluation --insert-evaluation 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: echo "module {}" | moe-opt --insert-evaluation | FileCheck %s --check-prefix=ALONE

// ALONE: module {
// TWICE: error: the model has no output 'loss'; outputs:

// What only training reads vanishes from the outputs of the user's model, in the middle as well as at the end; the
// others keep their order and names. Erasing by ascending indices would take the wrong ones.
// CHECK-LABEL: func.func @forward
// CHECK-SAME: -> (tensor<1xf32> {moe.name = "loss"}, tensor<2xf32> {moe.name = "logits"})
// CHECK: return %{{.*}}, %{{.*}} : tensor<1xf32>, tensor<2xf32>

// eval leaves its results to the host in states alone.
// CHECK-LABEL: func.func @eval(%{{.*}}: tensor<2xf32> {moe.name = "x"}) attributes {moe.program = "eval"} {
// CHECK: return{{$}}

// Three batches: loss 2, weight 5 (an integer, cast), aux 0.5.
// VALUES: metric.eval_loss_sum = 30
// VALUES: metric.eval_ntokens = 15
// VALUES: metric.eval_batches = 3
// VALUES: metric.eval_moe_gate_loss_sum = 7.5
// VALUES: metric.eval_moe_metrics = 3, 6

func.func @forward(%x: tensor<2xf32> {moe.name = "x"}) -> (tensor<1xf32> {moe.name = "loss"}, tensor<i64> {moe.name = "loss_weight"}, tensor<2xf32> {moe.name = "logits"}, tensor<2xf32> {moe.name = "moe_metrics"}) attributes {moe.program = "forward"} {
  %l = moe.constant {value = dense<2.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %w = moe.constant {value = dense<5> : tensor<i64>} : () -> tensor<i64>
  return %l, %w, %x, %x : tensor<1xf32>, tensor<i64>, tensor<2xf32>, tensor<2xf32>
}

func.func @eval(%x: tensor<2xf32> {moe.name = "x"}) -> (tensor<1xf32> {moe.name = "loss"}, tensor<i64> {moe.name = "loss_weight"}, tensor<f32> {moe.name = "aux_loss"}, tensor<2xf32> {moe.name = "moe_metrics"}) attributes {moe.program = "eval"} {
  %l = moe.constant {value = dense<2.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %w = moe.constant {value = dense<5> : tensor<i64>} : () -> tensor<i64>
  %a = moe.constant {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %m = moe.constant {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  return %l, %w, %a, %m : tensor<1xf32>, tensor<i64>, tensor<f32>, tensor<2xf32>
}
