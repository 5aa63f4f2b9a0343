//===- Pieces.h - Where the elements of a global tensor lie on a rank ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_PIECES_H
#define MOEC_RUNTIME_PLAN_PIECES_H

#include "runtime/plan/Mesh.h"

#include <cstdint>
#include <vector>

namespace moe {

/// Elements that follow one another both in the global row-major tensor and in the slice of a rank.
struct Piece {
  uint64_t global = 0; ///< index of the first one in the tensor
  uint64_t local = 0;  ///< and in the slice
  uint64_t count = 0;
};

/// What a rank holds of a tensor, in the order of the slice. The records have passed `checkPlanStructure`. Ranks that
/// differ only on axes that do not split the tensor have the same pieces.
std::vector<Piece> piecesOf(const plan::Plan &plan, const plan::StateTensor &tensor, int64_t rank);
std::vector<Piece> piecesOf(const plan::Plan &plan, const plan::Output &output, int64_t rank);

/// Whether what a rank holds counts: of ranks that hold the same (they differ on axes that replicate only) the first
/// one does.
bool counts(const plan::Plan &plan, const plan::StateTensor &tensor, int64_t rank);
bool counts(const plan::Plan &plan, const plan::Output &output, int64_t rank);

/// Whether the tensor is the sum of what the ranks that count hold.
bool isPartial(const LayoutList &layouts);

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_PIECES_H
