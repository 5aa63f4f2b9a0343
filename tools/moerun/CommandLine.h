//===- CommandLine.h - Flags and help from one table -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_COMMANDLINE_H
#define MOEC_TOOLS_MOERUN_COMMANDLINE_H

#include "runtime/core/Diagnostic.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// One flag of a command: `--name VALUE` or `--name=VALUE`, or a switch if `value` is empty.
struct Flag {
  std::string_view name; ///< without dashes
  std::string_view value;
  std::string_view help;
  bool required = false;
};

struct Command {
  std::string_view name;
  std::string_view summary;
  std::string_view operand; ///< "PLAN"; empty: none
  std::vector<Flag> flags;
  std::string_view notes; ///< printed below the flags
};

/// The words of one command line. Of a repeated flag the last wins.
class Arguments {
public:
  bool has(std::string_view flag) const { return values.contains(flag); }
  /// Empty if the flag was not given.
  std::string text(std::string_view flag) const;
  /// The number given, or `fallback`; an error of usage if it is not a whole number in [least, most].
  Expected<int64_t> integer(std::string_view flag, int64_t fallback, int64_t least, int64_t most = INT64_MAX) const;
  /// The number given, or `fallback`; an error of usage unless it is in [least, most).
  Expected<double> real(std::string_view flag, double fallback, double least, double most) const;

  std::string operand;
  bool help = false;

private:
  friend Expected<Arguments> parseArguments(const Command &command, std::span<const char *const> words);
  std::map<std::string, std::string, std::less<>> values;
};

/// Errors of usage (exit code 2): unknown flags with the nearest valid one, missing values, missing or superfluous
/// operand, missing required flags. `--help` anywhere wins over everything.
Expected<Arguments> parseArguments(const Command &command, std::span<const char *const> words);

/// Everything that `moerun COMMAND --help` prints.
std::string helpText(const Command &command);

/// The candidate with the smallest edit distance to `word`, if it is near enough to be meant; else empty.
std::string nearestName(std::string_view word, const std::vector<std::string_view> &candidates);

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_COMMANDLINE_H
