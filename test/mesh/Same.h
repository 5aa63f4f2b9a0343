//===- Same.h - What training on a mesh has in common with one rank --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_MESH_SAME_H
#define MOEC_TEST_MESH_SAME_H

#include "test/mesh/MeshRun.h"

namespace moe::test {

/// Expects the losses, norms, gradients and weights of both up to sums in another order, in float64.
void expectSame(const Trained &actual, const Trained &expected);

} // namespace moe::test

#endif // MOEC_TEST_MESH_SAME_H
