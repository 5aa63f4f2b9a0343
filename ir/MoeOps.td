//===- MoeOps.td - All operations of the moe dialect -------------------------------------------------------*- tablegen -*-===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

include "MoeElementwiseOps.td"
include "MoeTensorOps.td"
include "MoeTransformerOps.td"
include "MoeRoutingOps.td"
include "MoeStateOps.td"
include "MoeCollectiveOps.td"
