//===- ModelCommand.h - `moec model` ------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_MODELS_MODELCOMMAND_H
#define MOEC_FRONTEND_MODELS_MODELCOMMAND_H

#include <iosfwd>
#include <string>
#include <vector>

namespace moe::models {

/// `moec model PRESET FLAGS -o FILE` (design §12); `args` begins behind `model`. Results and help go to `out`,
/// diagnostics to `err`. Returns the exit code: 1 for models that cannot be built or written, 2 for wrong usage.
int runModelCommand(const std::vector<std::string> &args, std::ostream &out, std::ostream &err);

} // namespace moe::models

#endif // MOEC_FRONTEND_MODELS_MODELCOMMAND_H
