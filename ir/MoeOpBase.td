//===- MoeOpBase.td - Base records of the operations ------------------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOE_OP_BASE_TD
#define MOE_OP_BASE_TD

include "MoeDialect.td"
include "MoeInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Moe_Tensor : Type<And<[AnyStaticShapeTensor.predicate,
    CPred<"::llvm::cast<::mlir::RankedTensorType>($_self).getElementType().isIntOrFloat()">]>,
    "tensor of numbers or booleans with a static shape", "::mlir::RankedTensorType">;
def Moe_FloatTensor : Type<And<[AnyStaticShapeTensor.predicate,
    CPred<"::llvm::isa<::mlir::FloatType>(::llvm::cast<::mlir::RankedTensorType>($_self).getElementType())">]>,
    "floating-point tensor with a static shape", "::mlir::RankedTensorType">;
def Moe_IntTensor : Type<And<[AnyStaticShapeTensor.predicate,
    CPred<"::llvm::isa<::mlir::IntegerType>(::llvm::cast<::mlir::RankedTensorType>($_self).getElementType())">]>,
    "integer tensor with a static shape", "::mlir::RankedTensorType">;
def Moe_BoolTensor : Type<And<[AnyStaticShapeTensor.predicate,
    CPred<"::llvm::cast<::mlir::RankedTensorType>($_self).getElementType().isInteger(1)">]>,
    "boolean tensor with a static shape", "::mlir::RankedTensorType">;

// Every operation states its obligations in its record; "" where a default of the class does not apply is an error that
// the obligations test reports.
class Moe_Op<string mnemonic, list<Trait> traits = []>
    : Op<Moe_Dialect, mnemonic, !listconcat(traits, [Moe_OpInterface])> {
  string verifierStatus = "yes";
  string shapeStatus = "yes";
  string layoutStatus = "yes";
  string referenceStatus = "yes";
  string adjointStatus = "";
  string decompositionStatus = "no: a fine operation";
  string costStatus = "yes";
  string cpuStatus = "";
  string cudaStatus = "yes";
  string testsStatus = "yes";
  string precisionRole = "Keep";
  // "::moe::ir::Cost getCost();" where the default (one operation per element, operands and results moved) is wrong.
  code extraDeclaration = "";
  let extraClassDeclaration = extraDeclaration # [{
    static ::moe::ir::Obligations getObligations() {
      return {"}] # verifierStatus # [{", "}] # shapeStatus # [{", "}] # layoutStatus # [{", "}] # referenceStatus # [{", "}]
          # adjointStatus # [{", "}] # decompositionStatus # [{", "}] # costStatus # [{", "}] # cpuStatus # [{", "}]
          # cudaStatus # [{", "}] # testsStatus # [{"};
    }
    static ::moe::ir::PrecisionRole getPrecisionRole() { return ::moe::ir::PrecisionRole::}] # precisionRole # [{; }
    ::moe::ir::LayoutRule getLayoutRule();
    ::llvm::LogicalResult interpret(::moe::ir::InterpreterContext &context,
                                    ::llvm::ArrayRef<const ::moe::ir::HostTensor *> operands,
                                    ::llvm::MutableArrayRef<::moe::ir::HostTensor> results);
  }];
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

// Pure operations whose result types follow from operands and attributes.
class Moe_PureOp<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, !listconcat(traits, [Pure, InferTypeOpAdaptor])>;

// Pure operations with result types that the builder states (and the verifier checks).
class Moe_ShapedOp<string mnemonic, list<Trait> traits = []> : Moe_Op<mnemonic, !listconcat(traits, [Pure])> {
  let hasVerifier = 1;
}

// The result depends on the index of an element in the whole tensor: a rank's part must know where it lies.
def Moe_PlaceDependent : NativeOpTrait<"PlaceDependent"> { let cppNamespace = "::moe::ir"; }

defvar Differentiable = DeclareOpInterfaceMethods<Moe_DifferentiableOpInterface>;
defvar DifferentiableReads = DeclareOpInterfaceMethods<Moe_DifferentiableOpInterface, ["adjointReads"]>;
defvar Decomposable = DeclareOpInterfaceMethods<Moe_DecomposableOpInterface>;
defvar MapsElements = DeclareOpInterfaceMethods<Moe_ElementwiseOpInterface>;

#endif // MOE_OP_BASE_TD
