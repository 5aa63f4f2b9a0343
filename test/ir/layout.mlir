// RUN: moe-opt %s | moe-opt | FileCheck %s

// All kinds of an axis survive printing and parsing, in their order; types share an alias.
// CHECK: #[[L:layout[0-9]*]] = #moe.layout<data = shard(1), expert = partial, model = replicate>
// CHECK: module attributes {moe.mesh = #moe.mesh<data = 2, expert = 4>}
// CHECK: moe.state parameter @w : tensor<2x4xf32, #[[L]]>
module attributes {moe.mesh = #moe.mesh<data = 2, expert = 4>} {
  moe.state parameter @w : tensor<2x4xf32, #moe.layout<data = shard(1), expert = partial, model = replicate>>
}
