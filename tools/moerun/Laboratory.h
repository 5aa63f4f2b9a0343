//===- Laboratory.h - Updates on given batches -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_LABORATORY_H
#define MOEC_TOOLS_MOERUN_LABORATORY_H

#include "runtime/log/TrainLog.h"
#include "tools/moerun/BatchFile.h"

#include <filesystem>

namespace moe {

struct LaboratoryOptions {
  int64_t steps = 0;
  std::filesystem::path outputs = {}, gradients = {}, state = {}; ///< files to write; empty = none
  double deadline = 0; ///< seconds without progress that end the run; 0 = none
};

/// What `moerun run` does once state and batches are there. Gradients are those of update 0 before clipping: the
/// accumulated sums times the metric "gradient_multiplier". Errors: fewer batches than steps * accumulate, a loss or
/// gradient norm that is not finite, plans without the program or metric that is asked for.
Status runLaboratory(Session &session, BatchFile &batches, TrainLog &log, const LaboratoryOptions &options);

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_LABORATORY_H
