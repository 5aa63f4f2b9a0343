//===- GraphCommand.h - moec graph --------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_GRAPHCOMMAND_H
#define MOEC_TOOLS_MOEC_GRAPHCOMMAND_H

#include <iosfwd>
#include <string>
#include <vector>

namespace moe::tools {

/// `moec graph PLAN.moe [--format dot] [--program NAME] [-o FILE]`: the steps of a program and the data between them.
/// Returns the exit code.
int runGraphCommand(const std::vector<std::string> &words, std::ostream &out, std::ostream &err);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_GRAPHCOMMAND_H
