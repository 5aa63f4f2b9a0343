//===- RandomRegion.h - Random fused regions ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_CODEGEN_RANDOMREGION_H
#define MOEC_TEST_CODEGEN_RANDOMREGION_H

#include "KernelRunner.h"

namespace moe::codegen::test {

/// A random legal region of `emitter` (one of the five) and inputs for it. Sizes come from 1, 2, 3, 5, 17, 255, 1031
/// and the like, so that tails, single elements and long rows all occur. Values stay moderate.
Case randomCase(mlir::MLIRContext &context, llvm::StringRef emitter, std::mt19937_64 &random);

} // namespace moe::codegen::test

#endif // MOEC_TEST_CODEGEN_RANDOMREGION_H
