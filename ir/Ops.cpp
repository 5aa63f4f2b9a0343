//===- Ops.cpp - Generated definitions of the operations --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"

using namespace mlir;
using namespace moe::ir;

#define GET_OP_CLASSES
#include "ir/MoeOps.cpp.inc"
