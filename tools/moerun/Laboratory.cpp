//===- Laboratory.cpp - Updates on given batches -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/Laboratory.h"

#include "runtime/checkpoint/GlobalTensor.h"
#include "runtime/checkpoint/ParameterFile.h"
#include "tools/moerun/Metrics.h"
#include "tools/moerun/Watchdog.h"

#include <algorithm>

namespace moe {

/// Runs "forward" on batch 0 and writes the outputs of the model.
static Status saveOutputs(Session &session, BatchFile &batches, const std::filesystem::path &path) {
  auto program = requireProgram(session, "forward");
  if (!program)
    return tl::unexpected(program.error());
  if (Status status = batches.stage(0, 0); !status)
    return status;
  if (Status status = session.run(*program); !status)
    return status;
  std::vector<TensorView> outputs;
  for (const plan::Output &output : session.plan().programs(*program).outputs())
    if (Status status = addShared(outputs, session, output.name(), output); !status)
      return status;
  return writeShared(session, path, std::move(outputs), {});
}

namespace {
/// Gradients between the micro-steps, which sum them up, and the update, which says what to multiply them with.
class Gradients {
public:
  /// Copies the sums, to rank 0: `update` may overwrite them.
  Status capture(Session &session) {
    for (const plan::StateTensor &tensor : session.plan().state()) {
      if (tensor.kind() != plan::StateTensor::GRADIENT)
        continue;
      if (tensor.dtype() != plan::F32)
        return error("gradients that are not float32 cannot be saved", tensor.name());
      auto bytes = gatherTensor(session, tensor);
      if (!bytes)
        return tl::unexpected(std::move(bytes.error()));
      std::vector<float> &values = copies.emplace_back(bytes->size() / sizeof(float));
      std::ranges::copy(*bytes, std::as_writable_bytes(std::span(values)).begin());
      tensors.push_back(&tensor);
    }
    return {};
  }

  Status save(Session &session, double multiplier, const std::filesystem::path &path) {
    std::vector<TensorView> views;
    for (size_t i = 0; i < tensors.size(); ++i) {
      for (float &value : copies[i])
        value = float(double(value) * multiplier);
      views.push_back({tensors[i]->of(), "F32",
                       std::vector<int64_t>(tensors[i]->shape().begin(), tensors[i]->shape().end()),
                       std::as_bytes(std::span(copies[i]))});
    }
    return writeShared(session, path, std::move(views), {});
  }

private:
  std::vector<const plan::StateTensor *> tensors;
  std::vector<std::vector<float>> copies;
};
} // namespace

Status runLaboratory(Session &session, BatchFile &batches, TrainLog &log, const LaboratoryOptions &options) {
  auto microStep = requireProgram(session, "micro_step");
  auto update = requireProgram(session, "update");
  if (!microStep || !update)
    return tl::unexpected(microStep ? update.error() : microStep.error());
  const int64_t accumulate = session.plan().training().accumulate();
  Metrics metrics(session, "update");
  const bool wantsGradients = !options.gradients.empty();
  if (wantsGradients && (options.steps == 0 || !metrics.has("gradient_multiplier")))
    return options.steps == 0
               ? error("--save-gradients needs at least one update", {}, {}, "give --steps 1 or more", ExitCode::Usage)
               : error("the plan has no metric gradient_multiplier", {}, {}, "compile the model again");
  const int64_t needed = std::max<int64_t>(options.steps, 0) > INT64_MAX / std::max<int64_t>(accumulate, 1)
                             ? INT64_MAX
                             : std::max(options.steps * accumulate, int64_t(!options.outputs.empty()));
  if (batches.count() < needed)
    return error("the input file has too few batches", {},
                 std::to_string(options.steps) + " updates of " + std::to_string(accumulate) + " batches need " +
                     std::to_string(needed) + ", the file holds " + std::to_string(batches.count()),
                 "run fewer --steps or give more batches");

  const std::vector<int> microSteps(size_t(accumulate), *microStep);
  std::vector<int> whole = microSteps;
  whole.push_back(*update);
  Watchdog watchdog(options.deadline, session.rank());
  if (!options.outputs.empty())
    if (Status status = saveOutputs(session, batches, options.outputs); !status)
      return status;
  for (int64_t step = 0; step < options.steps; ++step) {
    if (session.communicator())
      session.communicator()->setUpdate(step);
    for (int64_t micro = 0; micro < accumulate; ++micro)
      if (Status status = batches.stage(step * accumulate + micro, micro); !status)
        return status;
    const bool savesGradients = wantsGradients && step == 0;
    Gradients gradients;
    auto beat = [&](int program) { watchdog.beat(program == *update ? "program update" : "program micro_step", step); };
    if (Status status = session.runSequence(savesGradients ? microSteps : whole, beat); !status)
      return status;
    if (savesGradients) {
      if (Status status = gradients.capture(session); !status)
        return status;
      beat(*update);
      if (Status status = session.run(*update); !status)
        return status;
    }
    if (savesGradients)
      if (Status status = gradients.save(session, metrics.value("gradient_multiplier", 1), options.gradients); !status)
        return status;
    if (Status status = checkFinite(metrics, step); !status)
      return status;
    LogRecord record;
    record["update"] = step;
    metrics.append(record);
    log.record(record);
  }
  return options.state.empty() ? Status() : saveParameters(session, options.state);
}

} // namespace moe
