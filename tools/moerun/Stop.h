//===- Stop.h - Stopping on request ------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_STOP_H
#define MOEC_TOOLS_MOERUN_STOP_H

namespace moe {

/// From now on the first SIGINT or SIGTERM only asks for a stop; the second ends the process at once with 128 + signal.
void installStopSignals();

/// The signal that asked for a stop, or 0.
int stopSignal();

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_STOP_H
