//===- LayoutPicture.h - Which ranks have which part of a tensor, drawn ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_LAYOUTPICTURE_H
#define MOEC_IR_LAYOUTPICTURE_H

#include "ir/Ops.h"

#include <string>

namespace moe::ir {

/// The parts of a tensor, whose type is that of one rank, as boxes with the numbers of the ranks that have them, below
/// each other along the first dimension that is split and beside each other along the second; "0,2 + 1,3" is a sum of
/// what ranks 0 and 2 have alike and ranks 1 and 3 have alike. On a mesh of data = 2 and expert = 2, with the first
/// dimension split over `data` and a sum over `expert`:
///
///     8x3
///       | 0 + 1 |
///       | 2 + 3 |
///
/// A long row, column or list is cut short. Empty without a layout or a mesh, or if three dimensions are split.
std::string layoutPicture(mlir::RankedTensorType type, MeshAttr mesh);

/// Adds a note to an error: `what`, which lies in `region` of a module with a mesh, and its picture. Nothing without
/// one.
void drawLayout(mlir::InFlightDiagnostic &error, const llvm::Twine &what, mlir::RankedTensorType type,
                mlir::Region *region);

} // namespace moe::ir

#endif // MOEC_IR_LAYOUTPICTURE_H
