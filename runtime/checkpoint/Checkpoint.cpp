//===- Checkpoint.cpp - One complete training state in a file ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Checkpoint.h"

#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/GlobalTensor.h"
#include "runtime/checkpoint/SliceView.h"
#include "runtime/checkpoint/TensorMatch.h"

#include <charconv>

namespace moe {

static constexpr std::string_view formatVersion = "1";

static std::map<std::string, std::string> toMetadata(const CheckpointInfo &info) {
  return {{"moe.format", std::string(formatVersion)},
          {"moe.num_updates", std::to_string(info.updates)},
          {"moe.data.samples", std::to_string(info.samples)},
          {"moe.data.windows", std::to_string(info.windows)},
          {"moe.data.sample_length", std::to_string(info.sampleLength)},
          {"moe.data.seed", std::to_string(info.seed)},
          {"moe.data.order", info.inOrder ? "file" : "shuffled"},
          {"moe.routing_groups", std::to_string(info.routingGroups)},
          {"moe.model_digest", hexText(info.modelDigest)}};
}

template <typename T>
static bool parseField(const std::map<std::string, std::string> &metadata, const char *key, T &value, int base = 10) {
  auto found = metadata.find(key);
  if (found == metadata.end())
    return false;
  const std::string &text = found->second;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return failure == std::errc() && end == text.data() + text.size() && value >= T(0);
}

static std::vector<const plan::StateTensor *> checkpointed(const plan::Plan &plan) {
  std::vector<const plan::StateTensor *> tensors;
  for (const plan::StateTensor &tensor : plan.state())
    if (tensor.checkpointed())
      tensors.push_back(&tensor);
  return tensors;
}

Status saveCheckpoint(const std::filesystem::path &path, Session &session, const CheckpointInfo &info) {
  std::vector<TensorView> views;
  Status status;
  if (session.communicator()) {
    status = writeParts(session, path, checkpointed(session.plan()), toMetadata(info));
  } else {
    for (const plan::StateTensor *tensor : checkpointed(session.plan()))
      views.push_back(viewOf(session, tensor->name(), *tensor));
    status = writeSafetensors(path, std::move(views), toMetadata(info), /*digest=*/true);
  }
  if (!status) {
    Diagnostic problem = status.error();
    problem.what = "cannot save the checkpoint: " + problem.what;
    return tl::unexpected(std::move(problem));
  }
  return {};
}

Expected<CheckpointFile> CheckpointFile::open(const std::filesystem::path &path) {
  auto opened = SafetensorsFile::open(path);
  if (!opened)
    return tl::unexpected(opened.error());
  CheckpointFile result(std::move(*opened));
  const auto &metadata = result.file.metadata();
  auto version = metadata.find("moe.format");
  if (version == metadata.end() || !result.file.hasDigest())
    return error("not a checkpoint", path.string(), "the file has tensors, but nothing about a training run",
                 "parameters alone are read with --init-state FILE");
  if (!result.file.digestMatches())
    return error("the checkpoint is damaged", path.string(), "its contents do not match its digest");
  if (version->second != formatVersion)
    return error("the checkpoint has another format version", path.string(),
                 "it has version " + version->second + ", this program reads " + std::string(formatVersion));
  CheckpointInfo &info = result.values;
  if (!parseField(metadata, "moe.num_updates", info.updates) ||
      !parseField(metadata, "moe.data.samples", info.samples) ||
      !parseField(metadata, "moe.data.windows", info.windows) ||
      !parseField(metadata, "moe.data.sample_length", info.sampleLength) ||
      !parseField(metadata, "moe.data.seed", info.seed) ||
      !parseField(metadata, "moe.routing_groups", info.routingGroups) ||
      !parseField(metadata, "moe.model_digest", info.modelDigest, 16))
    return error("not a checkpoint", path.string(), "its metadata are incomplete");
  // Checkpoints from before there was a choice do not tell.
  if (auto order = metadata.find("moe.data.order"); order != metadata.end())
    info.inOrder = order->second == "file";
  return result;
}

Status CheckpointFile::matches(const plan::Plan &plan) const {
  const char *remedy = "use the plan of the model that was trained, or another --save-dir";
  auto wanted = checkpointed(plan);
  if (std::string problems = compareTensors(file, wanted, MatchRules()); !problems.empty())
    return error("the checkpoint is of another model or optimizer", path().string(), problems, remedy);
  if (values.modelDigest != plan.header().model().digest())
    return error("the checkpoint is of another model", path().string(),
                 "all tensors have the same names and shapes, but the model file differs (digest " +
                     hexText(values.modelDigest) + ", the plan has " + hexText(plan.header().model().digest()) + ")",
                 "to start from its parameters alone, give them with --init-state");
  if (values.routingGroups != plan.header().routing_groups())
    return error("the checkpoint was trained with other routing groups", path().string(),
                 std::to_string(values.routingGroups) + " groups, the plan has " +
                     std::to_string(plan.header().routing_groups()),
                 "compile the plan with routing_groups: " + std::to_string(values.routingGroups));
  return {};
}

Status CheckpointFile::restore(Session &session) const {
  if (Status status = matches(session.plan()); !status)
    return status;
  for (const plan::StateTensor *tensor : checkpointed(session.plan())) {
    std::span<const std::byte> source = file.bytes(*file.find(tensor->name()));
    if (isWhole(session.plan(), *tensor) && source.size() != tensor->slice().bytes())
      return error("a state tensor of the plan does not fill its slice", tensor->name(), {}, "compile the plan again");
    if (Status status = scatterTensor(session, *tensor, source); !status)
      return status;
  }
  return {};
}

} // namespace moe
