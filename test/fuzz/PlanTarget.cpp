//===- PlanTarget.cpp - Fuzzes all that a plan passes before memory is allocated ----------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Input: a plan file. What Session::create does follows, up to where it would run code of the file; a plan that the
// validator takes is then looked at as `moerun train` does.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/core/Backend.h"
#include "runtime/core/Memory.h"
#include "runtime/data/ModelInputs.h"
#include "runtime/data/Windows.h"
#include "runtime/plan/Liveness.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Structure.h"
#include "runtime/plan/Validator.h"
#include "test/fuzz/Target.h"

using namespace moe;

namespace {

Device &device() {
  static std::unique_ptr<Device> shared = [] {
    auto created = createDevice("cpu", 1);
    if (!created)
      fuzz::finding(created.error().str());
    return std::move(*created);
  }();
  return *shared;
}

/// `deadAfterSteps` may use every index, and what it says lies in the arenas.
void checkLiveness(const plan::Plan &plan) {
  for (const plan::Program &program : plan.programs())
    for (const std::vector<ByteRange> &ranges : deadAfterSteps(plan, program))
      for (const ByteRange &range : ranges)
        if (range.begin >= range.end || range.end > plan.arenas(int(range.arena)).bytes())
          fuzz::finding("dead bytes that are no bytes of the arena");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::TimeLimit limit;
  Expected<PlanFile> file = PlanFile::read(fuzz::folder().write("plan.moe", fuzz::textOf(data, size)));
  if (!fuzz::taken(file) || !fuzz::taken(checkPlanStructure(file->plan)))
    return 0;
  const bool valid = fuzz::taken(validate(file->plan).status());
  static_cast<void>(requiredMemory(file->plan));
  checkLiveness(file->plan);
  if (!valid)
    return 0;
  fuzz::taken(device().prepare(file->plan, 0));
  Expected<ModelInputs> inputs = ModelInputs::describe(file->plan);
  if (fuzz::taken(inputs))
    fuzz::taken(StreamColumns::create(*inputs));
  return 0;
}
