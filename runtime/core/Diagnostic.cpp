//===- Diagnostic.cpp - What went wrong, where, why, and what to do -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Diagnostic.h"

namespace moe {

std::string Diagnostic::str() const {
  std::string text = (code == ExitCode::Success ? "warning: " : "error: ") + what;
  auto line = [&](const char *label, const std::string &part) {
    if (!part.empty())
      text += std::string("\n  ") + label + part;
  };
  line("where: ", where);
  line("why:   ", why);
  line("try:   ", remedy);
  return text;
}

} // namespace moe
