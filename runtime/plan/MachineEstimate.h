//===- MachineEstimate.h - How long steps take, roughly ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_MACHINEESTIMATE_H
#define MOEC_RUNTIME_PLAN_MACHINEESTIMATE_H

#include <cstdint>
#include <string_view>

namespace moe {

/// Rates of one rank's machine, from which times of steps follow. They decide where communication is started and what a
/// report calls exposed, never what is computed. The defaults are what large transfers and products reach of what data
/// sheets promise: about half of the FLOP/s and 80 % of the bytes/s of memory; the link is one of 400 Gb/s per GPU, or
/// memory where the ranks are processes of one host.
struct MachineEstimate {
  /// FLOP/s of steps that work in 16 bits, and of others.
  double narrowFlops = 30e9, wideFlops = 30e9;
  /// Bytes/s of memory, and those that a rank sends to others.
  double memory = 10e9, link = 5e9;
  /// Seconds that a step and a collective take at least.
  double step = 1e-6, collective = 10e-6;

  /// Of a target as `moec compile --target` names it, with `threads` on a CPU.
  static MachineEstimate of(std::string_view target, int64_t threads);

  /// Picoseconds of computation of `flops` that moves `bytes`; whole numbers, so that sums do not depend on their
  /// order.
  int64_t computing(double flops, double bytes, bool narrow) const;
  /// Picoseconds of a collective in which a rank sends `bytes`.
  int64_t sending(double bytes) const;
};

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_MACHINEESTIMATE_H
