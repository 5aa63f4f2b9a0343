//===- Oracle.h - Run a tiny program in all legal orders, byte by byte --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_VALIDATOR_ORACLE_H
#define MOEC_TEST_RUNTIME_VALIDATOR_ORACLE_H

#include "runtime/plan/plan.pb.h"

#include <string>

namespace moe::test {

/// What is wrong with the memory of a program, or "" if nothing is. Executes every legal order with a tag on every byte
/// (who wrote it, through which buffer, who has read it since). Two unordered conflicting steps are neighbours, in both
/// ways round, in some legal orders, so that one of them sees other tags; hence a program is free of races iff all
/// orders see the same. The plan's structure must be sound; meant for a handful of steps and arenas of some hundred
/// bytes.
std::string bruteForce(const plan::Plan &plan, int program);

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_VALIDATOR_ORACLE_H
