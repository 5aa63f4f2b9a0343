// Layers of experts as inputs/experts.py writes them: what is found, and that loss and gradients stay those of the graph,
// in float64, with even loads, and with all tokens on the first expert and none on the last; also with tables for many
// ranks, where tokens and experts divide.

// DEFINE: %{form} =
// DEFINE: %{found} =
// DEFINE: %{interpret} = moe-opt --interpret=micro_step --states=x,gate,up,down,sum,columns --float64
// DEFINE: %{same} = %python %S/inputs/experts.py %{form} > %t.mlir && \
// DEFINE:   moe-opt %t.mlir --differentiate | %{interpret} > %t.before && \
// DEFINE:   moe-opt %t.mlir --simplify --recompose-experts --simplify --differentiate | %{interpret} > %t.after && \
// DEFINE:   %python %S/inputs/same_numbers.py %t.before %t.after && \
// DEFINE:   moe-opt %t.mlir --simplify --recompose-experts="groups=2 parts=2" --simplify --differentiate | %{interpret} > %t.parts && \
// DEFINE:   %python %S/inputs/same_numbers.py %t.before %t.parts && \
// DEFINE:   moe-opt %t.mlir --simplify --recompose-experts --simplify | FileCheck %s --check-prefix=%{found}

// Weights that are gathered for each choice: one table of rows for both products, tokens moved as they are, the choices
// added up with their weights. Nothing is gathered but rows.
// GATHERED: moe.group_rows
// GATHERED-NOT: moe.group_rows
// GATHERED: moe.dispatch {{.*}} : (tensor<1x12x6xf32>, tensor<1x12x2xi32>
// GATHERED: moe.grouped_dot
// GATHERED-NOT: moe.dispatch
// GATHERED: moe.grouped_dot
// GATHERED-NOT: {{moe.dispatch|tensor<24x}}
// GATHERED: moe.combine {{.*}}tensor<1x12x2xf32>) -> tensor<1x12x6xf32>
// GATHERED-NOT: moe.dot
// REDEFINE: %{found} = GATHERED
// REDEFINE: %{form} = gathered
// RUN: %{same}
// REDEFINE: %{form} = gathered load=one
// RUN: %{same}
// REDEFINE: %{form} = gathered stored=nm bias=1
// RUN: %{same}
// REDEFINE: %{form} = gathered stored=nm bias=1 load=one
// RUN: %{same}
// REDEFINE: %{form} = gathered end=dot
// RUN: %{same}

// One choice of each token: the tokens themselves are the rows.
// SINGLE: moe.group_rows
// SINGLE: moe.dispatch
// SINGLE: moe.grouped_dot
// SINGLE: moe.grouped_dot
// SINGLE: moe.combine
// REDEFINE: %{found} = SINGLE
// REDEFINE: %{form} = gathered choices=1
// RUN: %{same}
// REDEFINE: %{form} = looped choices=1 bias=1
// RUN: %{same}
// REDEFINE: %{form} = gathered choices=1 tokens=1
// RUN: %{same}
// REDEFINE: %{form} = gathered choices=3 experts=3
// RUN: %{same}

// Two tables of two parts each, of half the experts. Biases are parted as weights are.
// PARTS: moe.group_rows {{.*}}experts = 4 : i64, parts = 2 : i64} : (tensor<2x12x1xi32>)
// PARTS: moe.dispatch {{.*}} : (tensor<2x6x6xf32>, tensor<2x6x2xi32>
// PARTS: moe.grouped_dot {{.*}}part_experts = 2 : i64, parts = 2 : i64, transposed} : {{.*}}tensor<4x10x6xf32>
// PARTS: moe.grouped_dot {{.*}}part_experts = 2 : i64, parts = 2 : i64} : (tensor<2x{{[0-9]*}}x1xf32>, {{.*}}, tensor<4x1x10xf32>
// PARTS: moe.combine {{.*}} -> tensor<2x6x6xf32>
// RUN: %python %S/inputs/experts.py gathered stored=nm bias=1 > %t.parts.mlir
// RUN: moe-opt %t.parts.mlir --simplify --recompose-experts="groups=2 parts=2" --simplify | FileCheck %s --check-prefix=PARTS
// Three experts in no two parts: four tables instead.
// FOUR: moe.group_rows {{.*}}experts = 3 : i64} : (tensor<4x6x1xi32>)
// RUN: %python %S/inputs/experts.py gathered experts=3 > %t.parts.mlir
// RUN: moe-opt %t.parts.mlir --simplify --recompose-experts="groups=2 parts=2" --simplify | FileCheck %s --check-prefix=FOUR
// FEW: error: recompose-experts needs at least one group of tokens and one part of the experts
// RUN: not moe-opt %t.parts.mlir --recompose-experts="parts=0" 2>&1 | FileCheck %s --check-prefix=FEW

// Parameters of their own for each expert are read where they are.
// SEPARATE-NOT: moe.concat
// SEPARATE-COUNT-2: moe.grouped_dot {{.*}} : (tensor<{{[0-9x]*}}xf32>, tensor<{{[0-9x]*}}xi32>, tensor<{{.*}}>, tensor<{{.*}}>, tensor<{{.*}}>, tensor<{{.*}}>)
// REDEFINE: %{found} = SEPARATE
// REDEFINE: %{form} = gathered separate=1
// RUN: %{same}
// REDEFINE: %{form} = gathered separate=1 stored=nm load=one
// RUN: %{same}
// REDEFINE: %{form} = looped separate=1
// RUN: %{same}
// REDEFINE: %{form} = looped separate=1 stored=nm load=one
// RUN: %{same}

// The sum over the choices is not found: each choice gets its row back.
// UNSUMMED: moe.combine {{.*}} -> tensor<1x24x6xf32>
// REDEFINE: %{found} = UNSUMMED
// REDEFINE: %{form} = gathered end=none
// RUN: %{same}
// A factor that is not one per choice.
// REDEFINE: %{form} = gathered spoil=weight
// RUN: %{same}

// Products of different experts, and what might be infinite in rows that hold nothing, are not joined.
// TWICE: moe.group_rows
// TWICE: moe.combine
// TWICE: moe.group_rows
// TWICE: moe.combine
// REDEFINE: %{found} = TWICE
// REDEFINE: %{form} = gathered spoil=index
// RUN: %{same}
// APART: moe.group_rows
// APART: moe.rsqrt {{.*}} tensor<24x5xf32>
// APART: moe.combine
// REDEFINE: %{found} = APART
// REDEFINE: %{form} = gathered spoil=rsqrt
// RUN: %{same}

// Loops: one table instead of a layer for each expert; the other terms of the sum stay.
// LOOPED: moe.group_rows
// LOOPED-NOT: moe.group_rows
// LOOPED: moe.dispatch {{.*}} : (tensor<1x12x6xf32>, tensor<1x12x2xi32>
// LOOPED: moe.grouped_dot {{.*}} : (tensor<{{[0-9x]*}}xf32>, tensor<{{[0-9x]*}}xi32>, tensor<4x
// LOOPED: moe.grouped_dot {{.*}} : (tensor<{{[0-9x]*}}xf32>, tensor<{{[0-9x]*}}xi32>, tensor<4x
// LOOPED: moe.combine {{.*}}tensor<1x12x2xf32>) -> tensor<1x12x6xf32>
// LOOPED-NOT: moe.dot
// REDEFINE: %{found} = LOOPED
// REDEFINE: %{form} = looped
// RUN: %{same}
// REDEFINE: %{form} = looped stored=nm bias=1
// RUN: %{same}
// REDEFINE: %{form} = looped bias=1 load=one
// RUN: %{same}
// REDEFINE: %{form} = looped column=1
// RUN: %{same}
// REDEFINE: %{form} = looped column=1 bias=1 load=one
// RUN: %{same}

// Experts that differ in more than their weights, weights that are not zero elsewhere, `not equal` for `equal`: left as
// they are.
// NEITHER-NOT: moe.group_rows
// REDEFINE: %{found} = NEITHER
// REDEFINE: %{form} = looped spoil=activation
// RUN: %{same}
// REDEFINE: %{form} = looped spoil=dense
// RUN: %{same}
// REDEFINE: %{form} = looped spoil=predicate
// RUN: %{same}
// The second product of all experts is with one weight.
// REDEFINE: %{form} = looped spoil=shared
// RUN: %{same}

// One-hot tensors: no tensor of tokens, experts and slots is left.
// CAPACITY-NOT: tensor<12x4x4x
// CAPACITY: moe.dispatch {{.*}} -> tensor<4x1x4x6xf32>
// CAPACITY-NOT: tensor<12x4x4x
// CAPACITY: moe.combine {{.*}} -> tensor<1x12x6xf32>
// CAPACITY-NOT: tensor<12x4x4x
// REDEFINE: %{found} = CAPACITY
// REDEFINE: %{form} = capacity
// RUN: %{same}
// REDEFINE: %{form} = capacity load=one bias=1
// RUN: %{same}
// REDEFINE: %{form} = capacity choices=1 bias=1
// RUN: %{same}

// Slots that two tokens may share, that count what does not fit, or of which nobody knows the number.
// FINE-NOT: moe.dispatch
// FINE-NOT: moe.combine
// REDEFINE: %{found} = FINE
// REDEFINE: %{form} = capacity spoil=places
// RUN: %{same}
// REDEFINE: %{form} = capacity spoil=mask
// RUN: %{same}
// REDEFINE: %{form} = capacity spoil=slots
// RUN: %{same}
