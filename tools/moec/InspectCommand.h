//===- InspectCommand.h - moec inspect ----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_INSPECTCOMMAND_H
#define MOEC_TOOLS_MOEC_INSPECTCOMMAND_H

#include <iosfwd>
#include <string>
#include <vector>

namespace moe::tools {

/// `moec inspect MODEL.onnx|PLAN.moe [FLAGS]`: what is in a file, whose kind its first bytes tell. Returns the exit
/// code: 1 if the file cannot be read or, where programs were asked for, the model cannot be compiled; what is known is
/// printed all the same.
int runInspectCommand(const std::vector<std::string> &words, std::ostream &out, std::ostream &err);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_INSPECTCOMMAND_H
