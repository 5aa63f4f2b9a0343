//===- DataSetup.h - The data of a run from its flags ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_DATASETUP_H
#define MOEC_TOOLS_MOERUN_DATASETUP_H

#include "runtime/data/ModelInputs.h"
#include "runtime/data/Sample.h"
#include "runtime/log/TrainLog.h"
#include "tools/moerun/CommandLine.h"

namespace moe {

/// Flags that say how files become inputs, for `train` and `eval`.
std::vector<Flag> dataFlags();

/// The inputs of the plan, with what --pad-token and --decoder-start say.
Expected<ModelInputs> readModelInputs(const Arguments &arguments, const plan::Plan &plan);

/// The samples of one file, by its format (`--data` in `moerun train --help` lists them), cut into training and
/// held-out ones: the last `validFraction` of the tokens or of the samples, in [0, 1). What is not read of the file
/// goes to `log`.
Expected<DataSplit> openData(const std::string &path, double validFraction, const Arguments &arguments,
                             const plan::Plan &plan, const ModelInputs &inputs, TrainLog &log);

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_DATASETUP_H
