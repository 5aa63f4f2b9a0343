//===- InspectBlocks.h - What a model consists of -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_INSPECTBLOCKS_H
#define MOEC_TOOLS_MOEC_INSPECTBLOCKS_H

#include "mlir/IR/BuiltinOps.h"

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moe::tools {

/// Attention, norms, rotary positions, feed-forward networks and experts of the function @forward of an imported
/// module, in order: `layer`, `kind`, `form`, `where` (the operation in the file), sizes by name, and for what looks
/// like attention or a norm but stays in fine operations `why`.
nlohmann::ordered_json describeBlocks(mlir::ModuleOp module);
/// The same for people; equal blocks of one layer are counted.
std::string blocksText(const nlohmann::ordered_json &blocks);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_INSPECTBLOCKS_H
