//===- PlanMutator.cpp - Other plans in whole files ---------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/PlanFile.h"
#include "runtime/plan/Structure.h"
#include "test/fuzz/Mutators.h"
#include "test/fuzz/Target.h"
#include "test/runtime/validator/Mutate.h"

#include <cstdint>

namespace moe::fuzz {

std::optional<std::string> mutatePlan(std::string_view file, Random &random) {
  Expected<PlanFile> plan = PlanFile::read(folder().write("before.moe", file));
  if (!plan)
    return std::nullopt;
  for (size_t changes = 1 + random.below(3); changes > 0; --changes)
    // That one may use every index.
    if (random.oneIn(4) && checkPlanStructure(plan->plan))
      static_cast<void>(test::mutate(plan->plan, random.below(SIZE_MAX)));
    else
      mutateField(plan->plan, random);
  plan->blobs.resize(size_t(plan->plan.images_size()));
  const std::filesystem::path path = folder().path() / "after.moe";
  if (!plan->write(path))
    return std::nullopt;
  return test::readFile(path);
}

} // namespace moe::fuzz
