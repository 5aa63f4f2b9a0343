//===- InspectModel.h - What is in a model ------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_INSPECTMODEL_H
#define MOEC_TOOLS_MOEC_INSPECTMODEL_H

#include "runtime/core/Diagnostic.h"

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moe::tools {

/// What `moec compile` would be given beside the model.
struct InspectModelOptions {
  std::vector<std::string> bind, set;
  std::string recipe;
  bool wantsPrograms() const { return !bind.empty() || !set.empty() || !recipe.empty(); }
};

/// Inputs, outputs and parameters as the file has them (extents are numbers or the names of symbolic dimensions; dtypes
/// are named as in NumPy), counts of elements, routing groups. If dimensions are bound or none is symbolic, `programs`
/// says what the importer made of the graph, `coverage` which operations no backend lowers yet.
///
/// Null if the file cannot be read. `found` is what hinders a compilation, all of it; without programs, what is unknown
/// about parameters stands in the result only (kind "unknown"), since a recipe may say it.
nlohmann::ordered_json describeModel(const std::string &path, const InspectModelOptions &options,
                                     std::vector<Diagnostic> &found);

/// The same for people.
std::string modelText(const nlohmann::ordered_json &model);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_INSPECTMODEL_H
