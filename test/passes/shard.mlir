// RUN: moe-opt %s --shard | FileCheck %s
// RUN: moe-opt %s "--shard=axes=rows sizes=1" | FileCheck %s --check-prefix=ROWS
// RUN: moe-opt %s "--shard=axes=data,expert sizes=2,3" | FileCheck %s --check-prefix=MANY
// RUN: not moe-opt %s "--shard=axes=data,expert sizes=1,0" 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not moe-opt %s "--shard=axes=data,expert sizes=1" 2>&1 | FileCheck %s --check-prefix=UNEVEN
// RUN: echo "module {}" | moe-opt --shard | FileCheck %s --check-prefix=ALONE
// RUN: moe-opt %s --interpret > %t.before
// RUN: moe-opt %s --shard | moe-opt --interpret > %t.after
// RUN: diff %t.before %t.after

// ALONE: module attributes {moe.mesh = #moe.mesh<data = 1, expert = 1>}

// Every rank computes everything: shapes stay whole.
// MANY: moe.mesh = #moe.mesh<data = 2, expert = 3>
// MANY: func.func @forward(%{{.*}}: tensor<2xf32, #{{.*}}>) -> tensor<2xf32, #{{.*}}>
// NONE: error: shard needs sizes of at least 1
// UNEVEN: error: shard needs as many sizes as axes

// Every place that holds a tensor type gets the layout: a forgotten one (states, constants with their value, arguments
// of functions and of fused regions, function types) makes the module invalid or is seen here.
// ROWS: #[[L:.*]] = #moe.layout<rows = replicate>
// ROWS: moe.mesh = #moe.mesh<rows = 1>
// CHECK: #[[L:.*]] = #moe.layout<data = replicate, expert = replicate>
// CHECK: module attributes {moe.mesh = #moe.mesh<data = 1, expert = 1>}
// CHECK: moe.state parameter @w : tensor<2xf32, #[[L]]>
moe.state parameter @w : tensor<2xf32> {initial = 3.0 : f64}

// CHECK: func.func @forward(%[[X:.*]]: tensor<2xf32, #[[L]]>) -> tensor<2xf32, #[[L]]>
func.func @forward(%x: tensor<2xf32>) -> tensor<2xf32> {
  // CHECK: moe.read @w : tensor<2xf32, #[[L]]>
  %w = moe.read @w : tensor<2xf32>
  // The elements survive the change of type.
  // CHECK: moe.constant {{ ?}}{value = dense<[1.500000e+00, -2.000000e+00]> : tensor<2xf32, #[[L]]>} : () -> tensor<2xf32, #[[L]]>
  %c = moe.constant {value = dense<[1.5, -2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  // A splat has one element of raw data.
  // CHECK: dense<5.000000e-01> : tensor<2xf32, #[[L]]>
  %h = moe.constant {value = dense<0.5> : tensor<2xf32>} : () -> tensor<2xf32>
  %p = moe.mul %x, %w : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  // CHECK: moe.fused "loop"({{.*}}) : (tensor<2xf32, #[[L]]>, tensor<2xf32, #[[L]]>, tensor<2xf32, #[[L]]>) -> tensor<2xf32, #[[L]]>
  // CHECK-NEXT: ^bb0(%{{.*}}: tensor<2xf32, #[[L]]>, %{{.*}}: tensor<2xf32, #[[L]]>, %{{.*}}: tensor<2xf32, #[[L]]>):
  %y = moe.fused "loop"(%p, %c, %h) : (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32> {
  ^bb0(%a: tensor<2xf32>, %b: tensor<2xf32>, %d: tensor<2xf32>):
    %s = moe.add_n %a, %b, %d : (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
    moe.yield %s : tensor<2xf32>
  }
  return %y : tensor<2xf32>
}
