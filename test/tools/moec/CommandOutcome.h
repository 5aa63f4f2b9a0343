//===- CommandOutcome.h - What a command said ---------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_TOOLS_MOEC_COMMANDOUTCOME_H
#define MOEC_TEST_TOOLS_MOEC_COMMANDOUTCOME_H

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace moe::test {

using Json = nlohmann::json;

struct Outcome {
  int code;
  std::string out, err;
  /// The output as one JSON object on one line; null if it is none.
  Json json() const {
    return out.find('\n') == out.size() - 1 ? Json::parse(out, nullptr, /*allow_exceptions=*/false) : Json();
  }
};

/// Runs a command of moec in this process.
template <typename Command> Outcome runCommand(Command command, const std::vector<std::string> &words) {
  std::ostringstream out, err;
  const int code = command(words, out, err);
  return {code, out.str(), err.str()};
}

} // namespace moe::test

#endif // MOEC_TEST_TOOLS_MOEC_COMMANDOUTCOME_H
