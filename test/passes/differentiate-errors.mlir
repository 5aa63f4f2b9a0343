// RUN: moe-opt %s --differentiate --split-input-file --verify-diagnostics

// All operations without a gradient on the way to the loss are named at once, each with its reason. One off the way is
// no obstacle (what the last one computes feeds nothing).
module {
  moe.state parameter @w : tensor<1x2x1x2xf32> {initial = 1.0 : f64}
  func.func @forward(%x: tensor<1x2x1x2xf32> {moe.name = "x"}, %lse: tensor<1x1x2xf32> {moe.name = "lse"}) -> (tensor<f32> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    %w = moe.read @w : tensor<1x2x1x2xf32>
    // expected-error@+1 {{'moe.attention_backward' lies between a trained parameter and the loss but has no gradient: no: second derivatives}}
    %s:3 = moe.attention_backward %w, %x, %x, %x, %x, %lse {scale = 0.5 : f64} : (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x1x2xf32>) -> (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>)
    // expected-error@+1 {{'moe.attention_backward' lies between a trained parameter and the loss but has no gradient}}
    %t:3 = moe.attention_backward %s#0, %x, %x, %x, %x, %lse {scale = 0.5 : f64} : (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x1x2xf32>) -> (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>)
    %u:3 = moe.attention_backward %x, %x, %x, %x, %x, %lse {scale = 0.5 : f64} : (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x1x2xf32>) -> (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>)
    %v:3 = moe.attention_backward %w, %x, %x, %x, %x, %lse {scale = 0.5 : f64} : (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x1x2xf32>) -> (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>)
    %y = moe.mul %t#0, %u#0 : (tensor<1x2x1x2xf32>, tensor<1x2x1x2xf32>) -> tensor<1x2x1x2xf32>
    %l = moe.reduce %y {kind = 0 : i32, dims = array<i64: 0, 1, 2, 3>} : (tensor<1x2x1x2xf32>) -> tensor<f32>
    return %l : tensor<f32>
  }
}

// -----

// The outputs there are help to correct the recipe.
module attributes {moe.training = {loss = "cost"}} {
  // expected-error@+2 {{the model has no output 'cost' to minimise; outputs: loss, logits}}
  // expected-note@+1 {{try: --set loss.output=NAME}}
  func.func @forward(%x: tensor<f32> {moe.name = "x"}) -> (tensor<f32> {moe.name = "loss"}, tensor<f32> {moe.name = "logits"}) attributes {moe.program = "forward"} {
    return %x, %x : tensor<f32>, tensor<f32>
  }
}

// -----

module {
  // expected-error@+1 {{the loss 'loss' must be one floating-point number, but it is 'tensor<2xf32>'}}
  func.func @forward(%x: tensor<2xf32> {moe.name = "x"}) -> (tensor<2xf32> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    return %x : tensor<2xf32>
  }
}

// -----

module {
  // expected-error@+1 {{the loss 'loss' must be one floating-point number, but it is 'tensor<i64>'}}
  func.func @forward(%x: tensor<i64> {moe.name = "x"}) -> (tensor<i64> {moe.name = "loss"}) attributes {moe.program = "forward"} {
    return %x : tensor<i64>
  }
}

// -----

// expected-error@+1 {{there is no function @forward of one block to differentiate}}
module {
}

// -----

// Values of the wrong kind are all reported by their path in the recipe.
// expected-error@+4 {{moe.training.loss must be a string, got 3 : i64}}
// expected-error@+3 {{moe.training.seed must be an integer, got "one"}}
// expected-error@+2 {{moe.training.optimizer.lr must be a number, got "fast"}}
// expected-error@+1 {{moe.training.schedule.warmup_updates must be an integer, got 1.000000e+00 : f64}}
module attributes {moe.training = {loss = 3 : i64, seed = "one", optimizer = {lr = "fast"}, schedule = {warmup_updates = 1.0 : f64}}} {
  func.func @forward() attributes {moe.program = "forward"} {
    return
  }
}

// -----

// expected-error@+1 {{accumulate must be at least 1, got 0}}
module attributes {moe.training = {accumulate = 0 : i64}} {
  func.func @forward() attributes {moe.program = "forward"} {
    return
  }
}
