//===- Stop.cpp - Stopping on request ----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Stop.h"

#include <csignal>
#include <unistd.h>

namespace moe {

static volatile std::sig_atomic_t requested = 0;

static void onSignal(int signal) {
  if (requested)
    ::_exit(128 + signal);
  requested = signal;
}

void installStopSignals() {
  struct sigaction action = {};
  action.sa_handler = onSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

int stopSignal() {
  return requested;
}

} // namespace moe
