//===- SeedPlans.cpp - Writes plans to start fuzzing from ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
//   fuzz_seed_plans FOLDER [PLAN...]
//
// Writes a plan with a record of every kind, random plans that are valid, and the plans given, in place of whose code
// one byte stands: nothing that is fuzzed looks at it.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/PlanFile.h"
#include "test/runtime/plan/PlanBuilder.h"

#include <cstdio>
#include <filesystem>
#include <string>

using namespace moe;

static bool write(PlanFile file, const std::filesystem::path &path) {
  file.blobs.assign(size_t(file.plan.images_size()), "x");
  // Any processor that runs the fuzzer can run the plan.
  file.plan.mutable_target()->clear_features();
  Status status = file.write(path);
  if (!status)
    std::fprintf(stderr, "%s\n", status.error().str().c_str());
  return bool(status);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: fuzz_seed_plans FOLDER [PLAN...]\n");
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  bool written = write(test::everyKindOfRecord(), folder / "records");
  for (int i = 2; i < argc; ++i) {
    Expected<PlanFile> file = PlanFile::read(argv[i]);
    if (!file) {
      std::fprintf(stderr, "%s\n", file.error().str().c_str());
      return 1;
    }
    written &= write(std::move(*file), folder / std::filesystem::path(argv[i]).stem());
  }
  return written ? 0 : 1;
}
