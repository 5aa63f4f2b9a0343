// Every pass keeps what the programs compute: the numbers before and after each are the same. A small Mixture of
// Experts: embedding, residual and normalisation, routing with a dropped token, dropout, tied output weight.

// What the model computes is the same until its programs are made.
// DEFINE: %{same} = %python %S/inputs/same_numbers.py
// DEFINE: %{pass} =
// DEFINE: %{from} =
// DEFINE: %{to} =
// DEFINE: %{run} =
// DEFINE: %{states} = none
// DEFINE: %{check} = moe-opt %{from} %{pass} --mlir-print-debuginfo -o %{to} && moe-opt %{to} --interpret=%{run} --states=%{states} --float64 > %{to}.numbers
// REDEFINE: %{run} = forward,eval
// RUN: moe-opt %s -o %t.import.mlir && moe-opt %t.import.mlir --interpret=%{run} --states=%{states} --float64 > %t.forward

// REDEFINE: %{pass} = --verify-phase=phase=import --recompose
// REDEFINE: %{from} = %t.import.mlir
// REDEFINE: %{to} = %t.recompose.mlir
// RUN: %{check} && %{same} %t.forward %{to}.numbers
// REDEFINE: %{pass} = --simplify --verify-phase=phase=recompose
// REDEFINE: %{from} = %t.recompose.mlir
// REDEFINE: %{to} = %t.simplify1.mlir
// RUN: %{check} && %{same} %t.forward %{to}.numbers
// REDEFINE: %{pass} = --assign-precision --shard --verify-phase=phase=shard
// REDEFINE: %{from} = %t.simplify1.mlir
// REDEFINE: %{to} = %t.shard.mlir
// RUN: %{check} && %{same} %t.forward %{to}.numbers

// From here on it is the micro-step: gradients and sums. Two micro-steps, since dropout follows the counter.
// REDEFINE: %{run} = micro_step,micro_step
// REDEFINE: %{states} = w_,sum,control
// REDEFINE: %{pass} = --differentiate
// REDEFINE: %{from} = %t.shard.mlir
// REDEFINE: %{to} = %t.differentiate.mlir
// RUN: %{check} && cp %{to}.numbers %t.step
// RUN: FileCheck %s --check-prefix=STEP < %t.step
// REDEFINE: %{pass} = --simplify --verify-phase=phase=differentiate
// REDEFINE: %{from} = %t.differentiate.mlir
// REDEFINE: %{to} = %t.simplify2.mlir
// RUN: %{check} && %{same} %t.step %{to}.numbers

// And with the update the whole state of two updates and an evaluation.
// REDEFINE: %{run} = micro_step,micro_step,update,micro_step,micro_step,update,eval
// REDEFINE: %{states} = w_,sum,control,metric
// REDEFINE: %{pass} = --insert-update --insert-evaluation
// REDEFINE: %{from} = %t.simplify2.mlir
// REDEFINE: %{to} = %t.update.mlir
// RUN: %{check} && cp %{to}.numbers %t.whole
// RUN: FileCheck %s --check-prefix=WHOLE < %t.whole
// REDEFINE: %{pass} = --simplify --verify-phase=phase=update
// REDEFINE: %{from} = %t.update.mlir
// REDEFINE: %{to} = %t.simplify3.mlir
// RUN: %{check} && %{same} %t.whole %{to}.numbers
// REDEFINE: %{pass} = --decompose-coarse
// REDEFINE: %{from} = %t.simplify3.mlir
// REDEFINE: %{to} = %t.decompose.mlir
// RUN: %{check} && %{same} %t.whole %{to}.numbers
// REDEFINE: %{pass} = --simplify=merge=false
// REDEFINE: %{from} = %t.decompose.mlir
// REDEFINE: %{to} = %t.simplify4.mlir
// RUN: %{check} && %{same} %t.whole %{to}.numbers
// REDEFINE: %{pass} = --fuse --verify-phase=phase=fuse
// REDEFINE: %{from} = %t.simplify4.mlir
// REDEFINE: %{to} = %t.fuse.mlir
// RUN: %{check} && %{same} %t.whole %{to}.numbers
// REDEFINE: %{pass} = --recompute=policy=full --verify-phase=phase=recompute
// REDEFINE: %{from} = %t.fuse.mlir
// REDEFINE: %{to} = %t.recompute.mlir
// RUN: %{check} && %{same} %t.whole %{to}.numbers
// REDEFINE: %{pass} = --select --verify-phase=phase=select --bufferize --verify-phase=phase=bufferize
// REDEFINE: %{from} = %t.recompute.mlir
// REDEFINE: %{to} = %t.bufferize.mlir
// RUN: %{check} && %{same} %t.whole %{to}.numbers
// REDEFINE: %{pass} = --schedule --verify-phase=phase=schedule --place --verify-phase=phase=place
// REDEFINE: %{from} = %t.bufferize.mlir
// REDEFINE: %{to} = %t.place.mlir
// RUN: %{check} && %{same} %t.whole %{to}.numbers

// Something was computed: no gradient is zero throughout, both micro-steps were counted, both updates were applied.
// STEP: control.progress = 0, 2
// STEP: w_emb.grad = {{.*[1-9].*}}
// STEP: w_layers.0.scale.grad = {{.*[1-9].*}}
// STEP: w_layers.0.gate.grad = {{.*[1-9].*}}
// STEP: w_layers.0.up.experts.grad = {{.*[1-9].*}}
// STEP: sum.weight = 8
// WHOLE: control.progress = 2, 0
// WHOLE: metric.ntokens = 8
// WHOLE: metric.applied = 1
// WHOLE: metric.eval_batches = 1

module attributes {moe.training = {accumulate = 2 : i64, clip_norm = 0.5 : f64,
                                   optimizer = {name = "adamw", lr = 0.1 : f64, weight_decay = 0.1 : f64},
                                   schedule = {name = "inverse_sqrt", warmup_updates = 1 : i64}}} {
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64, checkpointed}
  moe.state parameter @w_emb : tensor<5x8xf32> {initial = {normal = [0.0, 1.0]}}
  moe.state parameter @w_layers.0.scale : tensor<8xf32> {initial = 1.0 : f64}
  moe.state parameter @w_layers.0.bias : tensor<8xf32> {initial = 0.25 : f64}
  moe.state parameter @w_layers.0.gate : tensor<2x8xf32> {initial = {normal = [0.0, 1.0]}}
  moe.state parameter @w_layers.0.up.experts : tensor<2x8x8xf32> {initial = {normal = [0.0, 1.0]}}
  func.func @forward(%ids: tensor<1x4xi64> {moe.name = "ids"}, %labels: tensor<1x4xi64> {moe.name = "labels"}) -> (tensor<f32> {moe.name = "loss"}, tensor<f32> {moe.name = "loss_weight"}, tensor<1xf32> {moe.name = "aux_loss"}) attributes {moe.program = "forward"} {
    %emb = moe.read @w_emb : tensor<5x8xf32>
    %scale = moe.read @w_layers.0.scale : tensor<8xf32>
    %bias = moe.read @w_layers.0.bias : tensor<8xf32>
    %gate = moe.read @w_layers.0.gate : tensor<2x8xf32>
    %up = moe.read @w_layers.0.up.experts : tensor<2x8x8xf32>
    %x = moe.gather %emb, %ids : (tensor<5x8xf32>, tensor<1x4xi64>) -> tensor<1x4x8xf32>
    %rng = moe.read @control.progress : tensor<2xi64>
    %d = moe.dropout %x, %rng {rate = 0.25 : f64, seed = 1 : i64, site = 1 : i64} : (tensor<1x4x8xf32>, tensor<2xi64>) -> tensor<1x4x8xf32>
    %n, %mean, %rstd = moe.layer_norm %d, %scale, %bias {epsilon = 1.0e-5 : f64} : (tensor<1x4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<1x4x8xf32>, tensor<1x4xf32>, tensor<1x4xf32>)
    %gateT = moe.transpose %gate {permutation = array<i64: 1, 0>} : (tensor<2x8xf32>) -> tensor<8x2xf32>
    %logits = moe.dot %n, %gateT {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<1x4x8xf32>, tensor<8x2xf32>) -> tensor<1x4x2xf32>
    %expert, %slot, %weight, %token, %aux, %probs, %first, %metrics = "moe.route"(%logits) {top_k = 2 : i64, capacity = 3 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
    %rows = moe.dispatch %n, %expert, %slot, %token : (tensor<1x4x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x1x3xi32>) -> tensor<2x1x3x8xf32>
    %h = moe.dot %rows, %up {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 1>} : (tensor<2x1x3x8xf32>, tensor<2x8x8xf32>) -> tensor<2x1x3x8xf32>
    %a = moe.gelu %h : (tensor<2x1x3x8xf32>) -> tensor<2x1x3x8xf32>
    %scaled = moe.scale_gradient %a {factor = 0.5 : f64} : (tensor<2x1x3x8xf32>) -> tensor<2x1x3x8xf32>
    %c = moe.combine %scaled, %expert, %slot, %token, %weight : (tensor<2x1x3x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x1x3xi32>, tensor<1x4x2xf32>) -> tensor<1x4x8xf32>
    %r = moe.add %c, %d : (tensor<1x4x8xf32>, tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
    %out = moe.dot %r, %emb {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 1>} : (tensor<1x4x8xf32>, tensor<5x8xf32>) -> tensor<1x4x5xf32>
    %ce, %lse = moe.softmax_cross_entropy %out, %labels {ignore_index = -100 : i64} : (tensor<1x4x5xf32>, tensor<1x4xi64>) -> (tensor<1x4xf32>, tensor<1x4xf32>)
    %sum = moe.reduce %ce {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<1x4xf32>) -> tensor<f32>
    %four = moe.constant {value = dense<4.0> : tensor<f32>} : () -> tensor<f32>
    %mean_ce = moe.div %sum, %four : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %aux0 = moe.reshape %aux : (tensor<1xf32>) -> tensor<f32>
    %loss = moe.add %mean_ce, %aux0 : (tensor<f32>, tensor<f32>) -> tensor<f32>
    return %loss, %four, %aux : tensor<f32>, tensor<f32>, tensor<1xf32>
  }
  func.func @eval(%ids: tensor<1x4xi64> {moe.name = "ids"}, %labels: tensor<1x4xi64> {moe.name = "labels"}) -> (tensor<f32> {moe.name = "loss"}, tensor<f32> {moe.name = "loss_weight"}, tensor<1xf32> {moe.name = "aux_loss"}) attributes {moe.program = "eval"} {
    %emb = moe.read @w_emb : tensor<5x8xf32>
    %scale = moe.read @w_layers.0.scale : tensor<8xf32>
    %bias = moe.read @w_layers.0.bias : tensor<8xf32>
    %gate = moe.read @w_layers.0.gate : tensor<2x8xf32>
    %up = moe.read @w_layers.0.up.experts : tensor<2x8x8xf32>
    %x = moe.gather %emb, %ids : (tensor<5x8xf32>, tensor<1x4xi64>) -> tensor<1x4x8xf32>
    %n, %mean, %rstd = moe.layer_norm %x, %scale, %bias {epsilon = 1.0e-5 : f64} : (tensor<1x4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<1x4x8xf32>, tensor<1x4xf32>, tensor<1x4xf32>)
    %gateT = moe.transpose %gate {permutation = array<i64: 1, 0>} : (tensor<2x8xf32>) -> tensor<8x2xf32>
    %logits = moe.dot %n, %gateT {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<1x4x8xf32>, tensor<8x2xf32>) -> tensor<1x4x2xf32>
    %expert, %slot, %weight, %token, %aux, %probs, %first, %metrics = "moe.route"(%logits) {top_k = 2 : i64, capacity = 3 : i64, operandSegmentSizes = array<i32: 1, 0, 0>} : (tensor<1x4x2xf32>) -> (tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<1x4x2xf32>, tensor<2x1x3xi32>, tensor<1xf32>, tensor<1x4x2xf32>, tensor<1x2xf32>, tensor<1x9xf32>)
    %rows = moe.dispatch %n, %expert, %slot, %token : (tensor<1x4x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x1x3xi32>) -> tensor<2x1x3x8xf32>
    %h = moe.dot %rows, %up {lhs_batch = array<i64: 0>, rhs_batch = array<i64: 0>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 1>} : (tensor<2x1x3x8xf32>, tensor<2x8x8xf32>) -> tensor<2x1x3x8xf32>
    %a = moe.gelu %h : (tensor<2x1x3x8xf32>) -> tensor<2x1x3x8xf32>
    %scaled = moe.scale_gradient %a {factor = 0.5 : f64} : (tensor<2x1x3x8xf32>) -> tensor<2x1x3x8xf32>
    %c = moe.combine %scaled, %expert, %slot, %token, %weight : (tensor<2x1x3x8xf32>, tensor<1x4x2xi32>, tensor<1x4x2xi32>, tensor<2x1x3xi32>, tensor<1x4x2xf32>) -> tensor<1x4x8xf32>
    %r = moe.add %c, %x : (tensor<1x4x8xf32>, tensor<1x4x8xf32>) -> tensor<1x4x8xf32>
    %out = moe.dot %r, %emb {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 1>} : (tensor<1x4x8xf32>, tensor<5x8xf32>) -> tensor<1x4x5xf32>
    %ce, %lse = moe.softmax_cross_entropy %out, %labels {ignore_index = -100 : i64} : (tensor<1x4x5xf32>, tensor<1x4xi64>) -> (tensor<1x4xf32>, tensor<1x4xf32>)
    %sum = moe.reduce %ce {kind = 0 : i32, dims = array<i64: 0, 1>} : (tensor<1x4xf32>) -> tensor<f32>
    %four = moe.constant {value = dense<4.0> : tensor<f32>} : () -> tensor<f32>
    %mean_ce = moe.div %sum, %four : (tensor<f32>, tensor<f32>) -> tensor<f32>
    %aux0 = moe.reshape %aux : (tensor<1xf32>) -> tensor<f32>
    %loss = moe.add %mean_ce, %aux0 : (tensor<f32>, tensor<f32>) -> tensor<f32>
    return %loss, %four, %aux : tensor<f32>, tensor<f32>, tensor<1xf32>
  }
}
