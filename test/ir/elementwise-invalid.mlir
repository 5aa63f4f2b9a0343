// RUN: moe-opt %s --split-input-file --verify-diagnostics

// Broadcasting is explicit: operands of other shapes are an error, not a broadcast.
func.func @shapes(%a: tensor<4xf32>, %b: tensor<1xf32>) {
  // expected-error@+2 {{'moe.add' needs operands of one type, got 'tensor<4xf32>' and 'tensor<1xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.add %a, %b : (tensor<4xf32>, tensor<1xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @element_types(%a: tensor<4xf32>, %b: tensor<4xi32>) {
  // expected-error@+2 {{'moe.compare' needs operands of one type, got 'tensor<4xf32>' and 'tensor<4xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.compare %a, %b {predicate = 0 : i32} : (tensor<4xf32>, tensor<4xi32>) -> tensor<4xi1>
  return
}

// -----

func.func @and_of_floats(%a: tensor<4xf32>) {
  // expected-error@+2 {{'moe.and' is not defined on 'tensor<4xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.and %a, %a : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @pow_of_integers(%a: tensor<4xi32>) {
  // expected-error@+2 {{'moe.pow' is not defined on 'tensor<4xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.pow %a, %a : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  return
}

// -----

func.func @exp_of_integers(%a: tensor<4xi32>) {
  // expected-error@+1 {{operand #0 must be floating-point tensor with a static shape, but got 'tensor<4xi32>'}}
  %0 = moe.exp %a : (tensor<4xi32>) -> tensor<4xi32>
  return
}

// -----

func.func @dynamic(%a: tensor<?xf32>) {
  // expected-error@+1 {{operand #0 must be floating-point tensor with a static shape, but got 'tensor<?xf32>'}}
  %0 = moe.exp %a : (tensor<?xf32>) -> tensor<?xf32>
  return
}

// -----

func.func @unranked(%a: tensor<*xf32>) {
  // expected-error@+1 {{operand #0 must be floating-point tensor with a static shape, but got 'tensor<*xf32>'}}
  %0 = moe.exp %a : (tensor<*xf32>) -> tensor<*xf32>
  return
}

// -----

// The stated result is compared with the inferred one.
func.func @wrong_result(%a: tensor<4xf32>) {
  // expected-error@+2 {{'moe.exp' op inferred type(s) 'tensor<4xf32>' are incompatible with return type(s) of operation 'tensor<5xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.exp %a : (tensor<4xf32>) -> tensor<5xf32>
  return
}

// -----

func.func @condition(%c: tensor<3xi1>, %a: tensor<4xf32>) {
  // expected-error@+2 {{'moe.select' needs a condition of the shape of its alternatives}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.select %c, %a, %a : (tensor<3xi1>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @alternatives(%c: tensor<4xi1>, %a: tensor<4xf32>, %b: tensor<4xf64>) {
  // expected-error@+2 {{'moe.select' needs alternatives of one type, got 'tensor<4xf32>' and 'tensor<4xf64>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.select %c, %a, %b : (tensor<4xi1>, tensor<4xf32>, tensor<4xf64>) -> tensor<4xf32>
  return
}

// -----

func.func @cast(%a: tensor<4xf32>) {
  // expected-error@+2 {{'moe.cast' to 'index', which is neither integer nor floating point}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.cast %a {to = index} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

// A rate of 1 would divide by zero.
func.func @rate(%a: tensor<4xf32>, %rng: tensor<2xi64>) {
  // expected-error@+2 {{dropout rate 1.000000e+00 is outside [0, 1)}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dropout %a, %rng {rate = 1.0 : f64, seed = 0 : i64, site = 0 : i64} : (tensor<4xf32>, tensor<2xi64>) -> tensor<4xf32>
  return
}

// -----

func.func @rng(%a: tensor<4xf32>, %rng: tensor<2xi32>) {
  // expected-error@+2 {{rng must be tensor<2xi64> (num_updates, micro-batch), got 'tensor<2xi32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.dropout %a, %rng {rate = 0.5 : f64, seed = 0 : i64, site = 0 : i64} : (tensor<4xf32>, tensor<2xi32>) -> tensor<4xf32>
  return
}

// -----

func.func @no_terms() {
  // expected-error@+2 {{'moe.add_n' needs at least one operand}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = "moe.add_n"() : () -> tensor<f32>
  return
}

// -----

func.func @terms(%a: tensor<4xf32>, %b: tensor<3xf32>) {
  // expected-error@+2 {{'moe.add_n' needs operands of one type, got 'tensor<4xf32>' and 'tensor<3xf32>'}}
  // expected-error@+1 {{failed to infer returned types}}
  %0 = moe.add_n %a, %b : (tensor<4xf32>, tensor<3xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @predicate(%a: tensor<4xf32>) {
  // expected-error@+1 {{attribute 'predicate' failed to satisfy constraint: comparison of two elements}}
  %0 = moe.compare %a, %a {predicate = 9 : i32} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xi1>
  return
}
