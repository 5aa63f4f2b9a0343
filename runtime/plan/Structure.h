//===- Structure.h - Are the numbers of a plan meaningful? --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// The first of two checks of a plan. This one looks at each record by itself: indexes point into their tables, ranges
// lie within what they are ranges of, operands have the number, types, access and sizes that their work needs. The
// validator (runtime/plan/Validator.h) assumes all that and proves the relations between records: order and lifetimes.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_STRUCTURE_H
#define MOEC_RUNTIME_PLAN_STRUCTURE_H

#include "runtime/core/Diagnostic.h"
#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace moe {

/// Bytes of one element; 0 for DTYPE_UNSPECIFIED and values that are no DType.
uint64_t elementBytes(plan::DType dtype);

/// The product of a shape (1 for a scalar); UINT64_MAX if a dimension is negative or the product does not fit.
uint64_t elementCount(const google::protobuf::RepeatedField<int64_t> &shape);

/// Products and sums that stick at UINT64_MAX, so that a hostile size is too large instead of wrapping around.
uint64_t saturatingProduct(uint64_t a, uint64_t b);
uint64_t saturatingSum(uint64_t a, uint64_t b);

/// Which operands of a step the pointers of its kernel are, in the kernel's order. Only for steps that call a kernel.
std::vector<int> kernelPointers(const plan::Step &step);

/// Checks every record of a plan; reports up to twenty faults in one diagnostic. After success, an executor may use
/// every index and range of the plan without looking again. Says nothing about blobs (see PlanFile), lifetimes or
/// order.
Status checkPlanStructure(const plan::Plan &plan);

/// One fault of one record, e.g. "operand 2 is 16 bytes, 64 are needed".
using Complain = std::function<void(std::string)>;

/// The part of `checkPlanStructure` that compares a step's operands with its work. The operands' slices have been
/// checked.
void checkWork(const plan::Plan &plan, const plan::Step &step, const Complain &complain);

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_STRUCTURE_H
