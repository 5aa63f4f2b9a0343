//===- LauncherTest.cpp - What launchers tell through the environment ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/Launcher.h"

#include <gtest/gtest.h>
#include <map>

using namespace moe;

namespace {

std::string found(const std::map<std::string, const char *> &variables) {
  auto launch = findLaunch([&](const char *name) -> const char * {
    auto entry = variables.find(name);
    return entry == variables.end() ? nullptr : entry->second;
  });
  if (!launch)
    return "none";
  return launch->launcher + " " + std::to_string(launch->rank) + "/" + std::to_string(launch->size) +
         (launch->isConnected ? "" : " alone");
}

TEST(Launcher, KnowsWhoStartedTheProcess) {
  EXPECT_EQ(found({}), "none");
  EXPECT_EQ(found({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}, {"PMIX_RANK", "3"}}), "mpirun 3/8");
  EXPECT_EQ(found({{"PMIX_RANK", "1"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}), "srun 1/2");
  EXPECT_EQ(found({{"PMIX_RANK", "1"}}), "the launcher 1/0");
  EXPECT_EQ(found({{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}), "srun 1/2 alone");
  EXPECT_EQ(found({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}), "none");
  EXPECT_EQ(found({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}), "none"); // the script of a batch job
  EXPECT_EQ(found({{"OMPI_COMM_WORLD_RANK", "three"}}), "none");
  EXPECT_EQ(found({{"OMPI_COMM_WORLD_RANK", "-1"}}), "none");
}

TEST(Launcher, ProcessesThatSrunDoesNotConnectAreRefused) {
  auto communicator = connect({"srun", 1, 2, false}, {});
  ASSERT_FALSE(communicator);
  EXPECT_NE(communicator.error().str().find("srun --mpi=pmix"), std::string::npos) << communicator.error().str();
}

} // namespace
