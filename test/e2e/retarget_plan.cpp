//===- retarget_plan.cpp - Make a plan require another CPU --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
//   retarget_plan PLAN FEATURE RESULT
//
// Writes PLAN with one more required feature to RESULT, a valid plan file with lengths and digests of its own.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/PlanFile.h"

#include <iostream>

int main(int argc, char **argv) {
  if (argc != 4) {
    std::cerr << "usage: retarget_plan PLAN FEATURE RESULT\n";
    return 2;
  }
  moe::Expected<moe::PlanFile> file = moe::PlanFile::read(argv[1]);
  moe::Status status;
  if (file) {
    file->plan.mutable_target()->add_features(argv[2]);
    status = file->write(argv[3]);
  }
  if (!file || !status) {
    std::cerr << (file ? status.error() : file.error()).str() << '\n';
    return 1;
  }
  return 0;
}
