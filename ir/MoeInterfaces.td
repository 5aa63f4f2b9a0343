//===- MoeInterfaces.td - What an operation owes to the passes -------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_INTERFACES_TD
#define MOE_INTERFACES_TD

include "mlir/IR/OpBase.td"

def Moe_OpInterface : OpInterface<"MoeOpInterface"> {
  let cppNamespace = "::moe::ir";
  let description = [{
    The obligations of every operation of the dialect (docs/status.md is generated from them).
  }];
  let methods = [
    StaticInterfaceMethod<"State of each obligation: \"yes\", \"planned: why\", or \"no: why\".",
      "::moe::ir::Obligations", "getObligations", (ins)>,
    StaticInterfaceMethod<"What the operation does under a compute type narrower than float32.",
      "::moe::ir::PrecisionRole", "getPrecisionRole", (ins)>,
    InterfaceMethod<[{Reference semantics: computes the results from the operands in float64, slowly and obviously.
      The interpreter rounds results to the element type afterwards.}],
      "::llvm::LogicalResult", "interpret",
      (ins "::moe::ir::InterpreterContext &":$context, "::llvm::ArrayRef<const ::moe::ir::HostTensor *>":$operands,
           "::llvm::MutableArrayRef<::moe::ir::HostTensor>":$results)>,
    InterfaceMethod<[{How the dimensions of operands and results hang together; every operation is verified against it.}],
      "::moe::ir::LayoutRule", "getLayoutRule", (ins)>,
    InterfaceMethod<[{Brings along attributes that repeat sizes, after operands and results have become the parts of one
      rank. Attributes without sizes stay.}],
      "void", "localize", (ins), [{}], [{ (void)$_op; }]>,
    InterfaceMethod<"Floating-point operations and bytes moved by one execution (local shapes).",
      "::moe::ir::Cost", "getCost", (ins), [{}], [{ return ::moe::ir::elementwiseCost($_op); }]>,
    InterfaceMethod<[{How results relate to the memory of operands. The default: results are new, except for the pairs
      (result, operand) of the attribute `moe.in_place`, which may share memory.}],
      "::moe::ir::BufferUse", "getBufferUse", (ins), [{}], [{ return ::moe::ir::BufferUse::compute($_op); }]>
  ];
  // After the operation's own verifier, on whose word rules are read.
  let verify = "return ::moe::ir::verifyLayouts($_op);";
  let verifyWithRegions = 1;
}

def Moe_DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::moe::ir";
  let description = [{
    Reverse-mode rule of an operation. A null value stands for a gradient that is zero, both ways.
  }];
  let methods = [
    InterfaceMethod<[{Emits, at the builder's insertion point, the gradient of each operand whose bit is set in
      `needed`, given the gradients of the results (null = zero; not all are null). `operandGrads` has one entry per
      operand, initially null.}],
      "::llvm::LogicalResult", "buildAdjoint",
      (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$resultGrads, "const ::llvm::SmallBitVector &":$needed,
           "::llvm::MutableArrayRef<::mlir::Value>":$operandGrads)>,
    InterfaceMethod<"Operands and results whose values the adjoint reads: what must be saved or recomputed.",
      "::moe::ir::AdjointReads", "adjointReads", (ins), [{}], [{ return ::moe::ir::AdjointReads::everything($_op); }]>
  ];
}

def Moe_DecomposableOpInterface : OpInterface<"DecomposableOpInterface"> {
  let cppNamespace = "::moe::ir";
  let description = [{A coarse operation that finer operations can express.}];
  let methods = [
    InterfaceMethod<"Emits the finer operations at the insertion point; returns one value per result (null if unused).",
      "::llvm::FailureOr<::llvm::SmallVector<::mlir::Value>>", "decompose", (ins "::mlir::OpBuilder &":$builder)>,
    InterfaceMethod<[{Whether code generation wants the decomposition (generated kernels) rather than the operation
      itself (a library kernel).}],
      "bool", "decomposesForCodegen", (ins), [{}], [{ return true; }]>
  ];
}

def Moe_ElementwiseOpInterface : OpInterface<"ElementwiseOpInterface"> {
  let cppNamespace = "::moe::ir";
  let description = [{
    Result element i depends on element i of each operand only. The scalar body serves scalars and vectors alike.
  }];
  let methods = [
    InterfaceMethod<[{Emits arith/math operations that compute the result from `operands`, which are scalars or vectors
      of the operands' element types (arithmetic types already widened to f32 by the caller).}],
      "::mlir::Value", "buildScalar", (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$operands)>
  ];
}

def Moe_CollectiveOpInterface : OpInterface<"CollectiveOpInterface"> {
  let cppNamespace = "::moe::ir";
  let description = [{
    An operation whose results on a rank depend on its place in a group: the ranks that differ in some mesh axes alone.
  }];
  let methods = [
    InterfaceMethod<"Names of the axes that make up a group.", "::llvm::SmallVector<::mlir::StringAttr>", "groupAxes", (ins)>,
    InterfaceMethod<"Whether ranks exchange data; otherwise each computes from its own operands and its place.",
      "bool", "communicates", (ins)>,
    InterfaceMethod<[{Reference semantics: the results of all ranks of one group from their operands, both in the order
      of the group.}],
      "::llvm::LogicalResult", "interpretGroup",
      (ins "::llvm::ArrayRef<::llvm::SmallVector<const ::moe::ir::HostTensor *>>":$operands,
           "::llvm::MutableArrayRef<std::vector<::moe::ir::HostTensor>>":$results)>
  ];
}

#endif // MOE_INTERFACES_TD
