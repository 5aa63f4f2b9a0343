//===- MoeDialect.td - The moe dialect, its attributes and the base of its operations -------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_DIALECT_TD
#define MOE_DIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Moe_Dialect : Dialect {
  let name = "moe";
  let cppNamespace = "::moe::ir";
  let summary = "Tensor programs that train Mixture-of-Experts transformers";
  let description = [{
    Values are immutable ranked tensors with static shapes. A tensor type may carry a layout (`#moe.layout`) that says
    how the tensor lies on the mesh; a type without one is a whole, logical tensor. What survives a program (parameters,
    gradients, optimizer moments, counters) is a `moe.state` symbol, touched by `moe.read` and `moe.write` only.

    Broadcasting is always explicit, so that the adjoint of every elementwise operation is elementwise and the adjoint
    of `broadcast` is `reduce`.
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 1;
  let dependentDialects = ["::mlir::func::FuncDialect"];
}

//===----------------------------------------------------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------------------------------------------------===//

class Moe_Attr<string name, string attrMnemonic, list<Trait> traits = []> : AttrDef<Moe_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def Moe_AxisKind : I32EnumAttr<"AxisKind", "how a tensor lies on one mesh axis", [
  I32EnumAttrCase<"Replicate", 0, "replicate">,
  I32EnumAttrCase<"Shard", 1, "shard">,
  I32EnumAttrCase<"Partial", 2, "partial">
]> {
  let cppNamespace = "::moe::ir";
  let genSpecializedAttr = 0;
}

def Moe_LayoutAttr : Moe_Attr<"Layout", "layout"> {
  let summary = "how a tensor lies on the named axes of the mesh";
  let description = [{
    One entry for each mesh axis: `shard(d)` splits dimension d evenly over the axis, `replicate` means equal on all
    ranks of the axis, `partial` means that the true value is the sum over the axis.

    ```mlir
    tensor<4x32xf32, #moe.layout<data = shard(0), expert = replicate>>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::StringAttr">:$axes, ArrayRefParameter<"int32_t">:$kinds,
                        ArrayRefParameter<"int64_t">:$dims);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The layout that is `replicate` on every axis in `axes`.
    static LayoutAttr replicated(::mlir::MLIRContext *context, ::llvm::ArrayRef<::mlir::StringAttr> axes);
    AxisKind kind(unsigned axis) const { return static_cast<AxisKind>(getKinds()[axis]); }
    bool isReplicated() const;
    /// Index of the axis of a name; absent if there is none.
    std::optional<unsigned> axis(::llvm::StringRef name) const;
    /// The same but for one axis.
    LayoutAttr with(unsigned axis, AxisKind kind, int64_t dim = 0) const;
  }];
}

def Moe_MeshAttr : Moe_Attr<"Mesh", "mesh"> {
  let summary = "the named axes of the mesh of ranks and their sizes, minor axis last";
  let parameters = (ins ArrayRefParameter<"::mlir::StringAttr">:$axes, ArrayRefParameter<"int64_t">:$sizes);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Of a module: its attribute `moe.mesh`; null if it has none.
    static MeshAttr of(::mlir::Operation *module);
    /// Ranks of the whole mesh.
    int64_t ranks() const;
    /// Ranks of a group over `axes`; absent if the mesh lacks one of them.
    std::optional<int64_t> ranks(::llvm::ArrayRef<::mlir::StringAttr> axes) const;
    /// Coordinate of a rank on each axis.
    ::llvm::SmallVector<int64_t> coordinates(int64_t rank) const;
    /// The groups over `axes`, each in its order, which together are all ranks.
    std::vector<::llvm::SmallVector<int64_t>> groups(::llvm::ArrayRef<::mlir::StringAttr> axes) const;
  }];
}

class Moe_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::moe::ir";
}

def Moe_StateKind : Moe_Enum<"StateKind", "what a state tensor is for", [
  I32EnumAttrCase<"Parameter", 0, "parameter">, I32EnumAttrCase<"Frozen", 1, "frozen">,
  I32EnumAttrCase<"Gradient", 2, "gradient">, I32EnumAttrCase<"Moment", 3, "moment">,
  I32EnumAttrCase<"Control", 4, "control">, I32EnumAttrCase<"Metric", 5, "metric">
]>;

def Moe_ComparePredicate : Moe_Enum<"ComparePredicate", "comparison of two elements", [
  I32EnumAttrCase<"EQ", 0, "eq">, I32EnumAttrCase<"NE", 1, "ne">, I32EnumAttrCase<"LT", 2, "lt">,
  I32EnumAttrCase<"LE", 3, "le">, I32EnumAttrCase<"GT", 4, "gt">, I32EnumAttrCase<"GE", 5, "ge">
]>;

def Moe_ReduceKind : Moe_Enum<"ReduceKind", "associative combination of elements", [
  I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Max", 1, "max">, I32EnumAttrCase<"Min", 2, "min">
]>;

def Moe_GeluKind : Moe_Enum<"GeluKind", "which formula of GELU", [
  I32EnumAttrCase<"Erf", 0, "erf">, I32EnumAttrCase<"Tanh", 1, "tanh">
]>;

def Moe_SecondExpertPolicy : Moe_Enum<"SecondExpertPolicy", "how the second expert of a token is chosen", [
  I32EnumAttrCase<"All", 0, "all">, I32EnumAttrCase<"Sampling", 1, "sampling">, I32EnumAttrCase<"Random", 2, "random">
]>;

#endif // MOE_DIALECT_TD
