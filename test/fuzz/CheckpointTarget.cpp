//===- CheckpointTarget.cpp - Fuzzes the readers of checkpoints and parameters ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Input: a safetensors file. It is read as such, as a checkpoint of a small model, and as initial parameters.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/ParameterFile.h"
#include "test/fuzz/CheckpointModel.h"
#include "test/fuzz/Target.h"

#include <numeric>

using namespace moe;

namespace {

/// Bytes of all tensors fill the data without a gap, so a sum over them touches each byte once.
void readTensors(const SafetensorsFile &file) {
  uint64_t sum = 0;
  for (const TensorEntry &entry : file.tensors()) {
    for (std::byte byte : file.bytes(entry))
      sum += uint64_t(byte);
    if (!file.find(entry.name))
      fuzz::finding("a tensor that is not found by its name");
  }
  volatile uint64_t kept = sum;
  static_cast<void>(kept);
  if (file.digestMatches() && !file.hasDigest())
    fuzz::finding("a digest that is not there matches");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::TimeLimit limit;
  static test::FakeSession session(fuzz::checkpointModel());
  const std::filesystem::path path = fuzz::folder().write("checkpoint.safetensors", fuzz::textOf(data, size));
  Expected<SafetensorsFile> file = SafetensorsFile::open(path);
  if (!fuzz::taken(file))
    return 0;
  readTensors(*file);
  fuzz::taken(loadParameters(session, path));
  Expected<CheckpointFile> checkpoint = CheckpointFile::open(path);
  if (!fuzz::taken(checkpoint))
    return 0;
  const CheckpointInfo &info = checkpoint->info();
  if (info.updates < 0 || info.samples < 0 || info.windows < 0 || info.sampleLength < 0 || info.routingGroups < 0)
    fuzz::finding("a checkpoint that counts below zero");
  fuzz::taken(checkpoint->restore(session));
  return 0;
}
