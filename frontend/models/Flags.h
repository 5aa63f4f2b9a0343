//===- Flags.h - A table of command-line flags --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_MODELS_FLAGS_H
#define MOEC_FRONTEND_MODELS_FLAGS_H

#include "runtime/core/Diagnostic.h"
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace moe::models {

/// One flag and the variable it sets. A bool is a switch without a value; a list takes the flag any number of times.
struct Flag {
  std::string name; ///< with its dashes
  std::variant<int64_t *, double *, bool *, std::string *, std::vector<std::string> *> target;
  std::string help;
};

/// Reads `--flag value` and `--flag=value`; of a repeated flag the last wins. Returns every usage error: unknown flags
/// with the nearest known one, missing or malformed values, and words that belong to no flag unless `positional` takes
/// them.
std::vector<Diagnostic> parseFlags(const std::vector<Flag> &flags, const std::vector<std::string> &words,
                                   std::vector<std::string> *positional = nullptr);

/// One line per flag, with the present value of its variable as the default.
std::string describeFlags(const std::vector<Flag> &flags);

/// The flags as a command line that sets the variables to their present values; switches only if set.
std::string renderFlags(const std::vector<Flag> &flags);

/// The candidate with the least edit distance to `word`; empty if there is no candidate.
std::string nearest(const std::string &word, const std::vector<std::string> &candidates);

} // namespace moe::models

#endif // MOEC_FRONTEND_MODELS_FLAGS_H
