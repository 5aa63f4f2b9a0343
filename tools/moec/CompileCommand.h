//===- CompileCommand.h - moec compile --------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOEC_COMPILECOMMAND_H
#define MOEC_TOOLS_MOEC_COMPILECOMMAND_H

#include <iosfwd>
#include <string>
#include <vector>

namespace moe::tools {

/// `moec compile MODEL.onnx [FLAGS] -o PLAN.moe`, or with `--emit PHASE` the module after a phase. Returns the exit
/// code.
int runCompileCommand(const std::vector<std::string> &words, std::ostream &out, std::ostream &err);

} // namespace moe::tools

#endif // MOEC_TOOLS_MOEC_COMPILECOMMAND_H
