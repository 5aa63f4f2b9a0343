//===- TrainLoop.cpp - Updates, checkpoints, validation ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/TrainLoop.h"

#include <vector>

namespace moe {

Expected<TrainLoop> TrainLoop::create(Session &session, const ModelInputs &inputs, DataSplit data,
                                      CheckpointFolder &folder, TrainLog &log, TrainOptions options, StopRequest stop) {
  InputBatch batch(session, inputs);
  auto microStep = requireProgram(session, "micro_step");
  auto update = requireProgram(session, "update");
  if (!microStep || !update)
    return tl::unexpected(microStep ? update.error() : microStep.error());
  ShuffledSamples samples(std::move(data.train), options.seed, options.inOrder);
  TrainLoop loop(session, batch, std::move(samples), std::move(data.valid), folder, log, options, std::move(stop));
  loop.programs.assign(size_t(session.plan().training().accumulate()), *microStep);
  loop.programs.push_back(*update);
  if (loop.valid) {
    auto evaluator = Evaluator::create(session, batch);
    if (!evaluator)
      return tl::unexpected(evaluator.error());
    loop.evaluator.emplace(std::move(*evaluator));
  }
  return loop;
}

Status TrainLoop::resume(const CheckpointInfo &info, bool keepDataPosition) {
  done = lastSaved = info.updates;
  if (!keepDataPosition)
    return {};
  const SampleSource &source = samples.source();
  if (info.windows != source.count() || info.sampleLength != source.length())
    return error("the checkpoint was made with other training data", source.path().string(),
                 "it counts " + std::to_string(info.windows) + " samples of " + std::to_string(info.sampleLength) +
                     " tokens, this data has " + std::to_string(source.count()) + " of " +
                     std::to_string(source.length()),
                 "give the same --data and --valid-split, or start at the beginning of the new data with "
                 "--reset-dataloader");
  if (info.seed != options.seed)
    return error("the checkpoint was made with another seed", {},
                 "its samples were shuffled with seed " + std::to_string(info.seed) + ", now it is " +
                     std::to_string(options.seed),
                 "leave --seed out, or start at the beginning of the data with --reset-dataloader");
  if (info.inOrder != options.inOrder)
    return error("the checkpoint was made with another order of the data", {},
                 info.inOrder ? "its samples came as the file has them" : "its samples were shuffled",
                 std::string(info.inOrder ? "give" : "leave out") +
                     " --in-order, or start at the beginning of the data with --reset-dataloader");
  samples.seek(info.samples);
  return {};
}

Status TrainLoop::stage() {
  for (int64_t micro = 0; micro < session.plan().training().accumulate(); ++micro)
    for (int64_t row = 0; row < batch.rows(); ++row) {
      if (!batch.holds(row)) {
        samples.skip(); // another rank reads it
        continue;
      }
      Status status = samples.read(sample);
      if (status)
        status = batch.write(micro, row, sample);
      if (!status)
        return status;
    }
  return {};
}

Status TrainLoop::update() {
  if (session.communicator())
    session.communicator()->setUpdate(done + 1);
  if (Status status = stage(); !status)
    return status;
  auto beat = [&](int program) {
    watchdog->beat(program == programs.back() ? "program update" : "program micro_step", done + 1);
  };
  if (Status status = session.runSequence(programs, beat); !status)
    return status;
  ++done;
  if (Status status = checkFinite(metrics, done); !status)
    return status;
  if (double counted = metrics.value("num_updates", double(done)); counted != double(done))
    return error("the plan has lost count of its updates", {},
                 "its state says " + std::to_string(int64_t(counted)) + " after update " + std::to_string(done),
                 "this is an error of moerun or of the plan; please report it", ExitCode::Internal);
  return {};
}

Status TrainLoop::save() {
  if (lastSaved == done)
    return {};
  watchdog->beat("saving a checkpoint", done);
  CheckpointInfo info{.updates = done,
                      .samples = samples.position(),
                      .windows = samples.source().count(),
                      .sampleLength = samples.source().length(),
                      .seed = options.seed,
                      .inOrder = options.inOrder,
                      .routingGroups = session.plan().header().routing_groups(),
                      .modelDigest = session.plan().header().model().digest()};
  if (Status status = folder.save(session, info, options.keepLast); !status)
    return status;
  lastSaved = done;
  return {};
}

Status TrainLoop::validate() {
  if (!evaluator || !valid)
    return {};
  auto result = evaluator->run(*valid, "valid_", *watchdog, done);
  if (!result)
    return tl::unexpected(result.error());
  LogRecord record;
  record["update"] = done;
  record.update(*result);
  log.record(record);
  addEvents(record);
  return {};
}

void TrainLoop::report() {
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - lastReport).count();
  const double tokens = double((done - reportedUpdates) * session.plan().training().accumulate() * batch.rows()) *
                        double(batch.inputs().length());
  lastReport = now;
  reportedUpdates = done;
  const double speed = seconds > 0 ? tokens / seconds : 0;
  LogRecord record;
  record["update"] = done;
  record["epoch"] = samples.epoch();
  metrics.append(record);
  record["tokens_per_second"] = speed;
  addEvents(record);
  if (!log.isJson()) {
    record.clear();
    record["update"] = std::to_string(done) + "/" + std::to_string(options.maxUpdate);
    for (const char *name : {"loss", "lr", "gnorm"})
      if (metrics.has(name))
        record[name] = metrics.value(name, 0);
    record["tokens/s"] = static_cast<int64_t>(speed);
    const double elapsed = std::chrono::duration<double>(now - started).count();
    record["ETA"] = durationText(elapsed / double(done - firstUpdate) * double(options.maxUpdate - done));
  }
  log.progress(record);
}

/// Curves are worth less than the training that they show: an error ends them alone.
void TrainLoop::addEvents(const LogRecord &record) {
  if (!events)
    return;
  LogRecord scalars = record;
  scalars.erase("update");
  if (Status status = events->add(done, scalars); !status) {
    log.message(status.error().str() + "\nnote: training goes on without them");
    events.reset();
  }
}

Status TrainLoop::run() {
  watchdog = std::make_unique<Watchdog>(options.deadline, session.rank());
  firstUpdate = reportedUpdates = done;
  started = lastReport = Clock::now();
  int64_t validated = -1;
  while (done < options.maxUpdate) {
    auto stops = stop();
    if (!stops)
      return tl::unexpected(std::move(stops.error()));
    if (*stops)
      break;
    if (Status status = update(); !status)
      return status;
    const bool last = done == options.maxUpdate;
    if (done % options.logInterval == 0 || last || done == firstUpdate + 1)
      report();
    if (last || (options.saveInterval > 0 && done % options.saveInterval == 0))
      if (Status status = save(); !status)
        return status;
    if (options.validateInterval > 0 && done % options.validateInterval == 0) {
      if (Status status = validate(); !status)
        return status;
      validated = done;
    }
  }
  if (done > firstUpdate)
    if (Status status = save(); !status)
      return status;
  if (done == options.maxUpdate && done > firstUpdate && validated != done)
    return validate();
  return {};
}

} // namespace moe
