//===- PlanType.h - Element types as the plan names them ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_KERNEL_PLANTYPE_H
#define MOEC_CODEGEN_KERNEL_PLANTYPE_H

#include "mlir/IR/BuiltinTypes.h"
#include "runtime/plan/plan.pb.h"

namespace moe::codegen {

/// DTYPE_UNSPECIFIED for a type that no tensor of a plan has.
inline plan::DType toPlanType(mlir::Type type) {
  if (type.isF32())
    return plan::F32;
  if (type.isBF16())
    return plan::BF16;
  if (type.isF16())
    return plan::F16;
  if (type.isInteger(1))
    return plan::BOOL;
  if (type.isInteger(32))
    return plan::I32;
  if (type.isInteger(64))
    return plan::I64;
  return plan::DTYPE_UNSPECIFIED;
}

} // namespace moe::codegen

#endif // MOEC_CODEGEN_KERNEL_PLANTYPE_H
