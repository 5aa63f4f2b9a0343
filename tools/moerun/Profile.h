//===- Profile.h - Where the time of an update goes --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_PROFILE_H
#define MOEC_TOOLS_MOERUN_PROFILE_H

#include "runtime/core/Session.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moe {

/// Time of one step of a program.
struct StepProfile {
  std::string program;
  int index = 0; ///< in the program
  std::string name;
  std::string kind;   ///< as `profileKind`
  double seconds = 0; ///< the least of all runs: other work on the machine only ever adds
  double flops = 0;   ///< of one run
  double bytes = 0;   ///< read and written by one run, scratch not counted
  int64_t runs = 1;   ///< runs in one update
  double total() const { return seconds * static_cast<double>(runs); } ///< seconds in one update
};

/// Sums over the steps of one kind in one update.
struct KindProfile {
  double seconds = 0, flops = 0, bytes = 0;
  int64_t steps = 0;
};

/// What an update consists of, from repeated runs of `micro_step` and `update`.
class Profile {
public:
  /// Of programs `microStep` and `update` of a session with `SessionOptions::profile`.
  Profile(const Session &session, int microStep, int update);

  /// Takes over the times of the last run of the program, which is one of the two.
  void record(int program);

  const std::vector<StepProfile> &steps() const { return list; }
  std::map<std::string, KindProfile> kinds() const;
  /// Sum over all steps of one update.
  double seconds() const;
  /// The same for matrix products and attention alone.
  double productSeconds() const;

private:
  const Session &session;
  int update;
  size_t updateBegin = 0; ///< first step of `update` in `list`
  std::vector<StepProfile> list;
};

/// As `stepKind`, but the emitter of a compiled kernel.
std::string profileKind(const plan::Plan &plan, const plan::Step &step);

/// Bytes that a step reads and writes; an operand changed in place counts twice, scratch does not.
double stepBytes(const plan::Step &step);

/// Fills the staging arena: tokens drawn evenly from the vocabulary without the padding, zeros elsewhere.
void stageRandomTokens(Session &session, uint64_t seed);

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_PROFILE_H
