// RUN: moe-opt %s --insert-update --split-input-file --verify-diagnostics

// The names there are help to correct the recipe.
// expected-error@+1 {{unknown optimizer 'lion'; there are sgd, adam, adamw, fairseq_adam}}
module attributes {moe.training = {optimizer = {name = "lion"}}} {
  func.func @micro_step() attributes {moe.program = "micro_step"} {
    return
  }
}

// -----

// expected-error@+1 {{there is no program @micro_step to update after}}
module {
}

// -----

module attributes {moe.training = {schedule = {name = "step"}}} {
  moe.state control @sum.loss : tensor<f32> {initial = 0.0 : f64}
  moe.state control @sum.weight : tensor<f32> {initial = 0.0 : f64}
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64}
  // expected-error@unknown {{unknown schedule 'step'; there are constant, fixed, inverse_sqrt, polynomial_decay, cosine, wsd}}
  func.func @micro_step() attributes {moe.program = "micro_step"} {
    return
  }
}

// -----

// A decay over no updates would divide by zero.
module attributes {moe.training = {schedule = {name = "cosine", warmup_updates = 5 : i64, total_updates = 5 : i64}}} {
  moe.state control @sum.loss : tensor<f32> {initial = 0.0 : f64}
  moe.state control @sum.weight : tensor<f32> {initial = 0.0 : f64}
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64}
  // expected-error@unknown {{schedule.cosine needs total_updates above warmup_updates (5), got 5}}
  func.func @micro_step() attributes {moe.program = "micro_step"} {
    return
  }
}

// -----

module attributes {moe.training = {schedule = {name = "inverse_sqrt"}}} {
  moe.state control @sum.loss : tensor<f32> {initial = 0.0 : f64}
  moe.state control @sum.weight : tensor<f32> {initial = 0.0 : f64}
  moe.state control @control.progress : tensor<2xi64> {initial = 0 : i64}
  // expected-error@unknown {{schedule.inverse_sqrt needs warmup_updates of at least 1}}
  func.func @micro_step() attributes {moe.program = "micro_step"} {
    return
  }
}
