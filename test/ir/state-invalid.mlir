// RUN: moe-opt %s --split-input-file --verify-diagnostics

// expected-error@+1 {{needs both bucket and offset, or neither}}
moe.state parameter @w : tensor<4xf32> {offset = 0 : i64}

// -----

moe.state parameter @flat : tensor<8xf32>
// expected-error@+1 {{has a negative offset}}
moe.state parameter @w : tensor<4xf32> {bucket = @flat, offset = -1 : i64}

// -----

// The last element would lie behind the bucket, in somebody else's memory.
moe.state parameter @flat : tensor<8xf32>
// expected-error@+1 {{ends after its bucket @flat of 8 elements}}
moe.state parameter @w : tensor<4xf32> {bucket = @flat, offset = 5 : i64}

// -----

moe.state parameter @flat : tensor<8xf64>
// expected-error@+1 {{lies in @flat, which is no flat state of 'f32'}}
moe.state parameter @w : tensor<4xf32> {bucket = @flat, offset = 0 : i64}

// -----

// Views of views would have two offsets.
moe.state parameter @all : tensor<16xf32>
moe.state parameter @flat : tensor<8xf32> {bucket = @all, offset = 0 : i64}
// expected-error@+1 {{lies in @flat, which is no flat state of 'f32'}}
moe.state parameter @w : tensor<4xf32> {bucket = @flat, offset = 0 : i64}

// -----

// expected-error@+1 {{lies in @nowhere, which is no moe.state}}
moe.state parameter @w : tensor<4xf32> {bucket = @nowhere, offset = 0 : i64}

// -----

// expected-error@+1 {{belongs to @nobody, which is no moe.state}}
moe.state gradient @g : tensor<4xf32> {of = @nobody}

// -----

// expected-error@+1 {{has an initial value that is neither a number nor}}
moe.state parameter @w : tensor<4xf32> {initial = "zeros"}

// -----

// expected-error@+1 {{has an initial value that is neither a number nor}}
moe.state parameter @w : tensor<4xf32> {initial = {gaussian = [0.0, 1.0]}}

// -----

// expected-error@+1 {{has initial data that is no 'tensor<4xf32>'}}
moe.state parameter @w : tensor<4xf32> {initial = {data = dense<1.0> : tensor<5xf32>}}

// -----

func.func @f() {
  // expected-error@+1 {{refers to @w, which is no moe.state}}
  %0 = moe.read @w : tensor<4xf32>
  return
}

// -----

// A function of that name is no state either.
func.func @f() {
  // expected-error@+1 {{refers to @f, which is no moe.state}}
  %0 = moe.read @f : tensor<4xf32>
  return
}

// -----

moe.state control @s : tensor<4xf32>
func.func @f(%x: tensor<2x2xf32>) {
  // expected-error@+1 {{uses @s as 'tensor<2x2xf32>', but it is 'tensor<4xf32>'}}
  moe.write @s, %x : tensor<2x2xf32>
  return
}

// -----

moe.state control @s : tensor<4xf32>
func.func @f() {
  // expected-error@+1 {{uses @s as 'tensor<4xf64>', but it is 'tensor<4xf32>'}}
  %0 = moe.read @s : tensor<4xf64>
  return
}

// -----

func.func @f(%x: tensor<4xf32>) {
  // expected-error@+1 {{has body arguments that differ from its inputs}}
  %0 = moe.fused "loop"(%x) : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>, %b: tensor<4xf32>):
    moe.yield %a : tensor<4xf32>
  }
  return
}

// -----

func.func @f(%x: tensor<4xf32>) {
  // expected-error@+1 {{must yield values of the types of its outputs}}
  %0 = moe.fused "loop"(%x) : (tensor<4xf32>) -> tensor<f32> {
  ^bb0(%a: tensor<4xf32>):
    moe.yield %a : tensor<4xf32>
  }
  return
}

// -----

// A generated kernel computes operations of the dialect only.
func.func private @callee()
func.func @f(%x: tensor<4xf32>) {
  %0 = moe.fused "loop"(%x) : (tensor<4xf32>) -> tensor<4xf32> {
  ^bb0(%a: tensor<4xf32>):
    // expected-error@+1 {{cannot be part of a fused region}}
    func.call @callee() : () -> ()
    moe.yield %a : tensor<4xf32>
  }
  return
}

// -----

// What a kernel reads is an input: values of the program outside are not visible.
func.func @f(%x: tensor<4xf32>) {
  // expected-note@+1 {{required by region isolation constraints}}
  %0 = moe.fused "loop"() : () -> tensor<4xf32> {
    // expected-error@+1 {{using value defined outside the region}}
    moe.yield %x : tensor<4xf32>
  }
  return
}

// -----

func.func @f(%x: tensor<4xf32>) {
  // expected-error@+1 {{expects parent op 'moe.fused'}}
  moe.yield %x : tensor<4xf32>
}
