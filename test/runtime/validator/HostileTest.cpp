//===- HostileTest.cpp - Damaged plans are findings, never crashes ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Validator.h"
#include "test/runtime/validator/PlanBuilder.h"
#include "test/runtime/validator/RandomPlan.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

using namespace moe;
using namespace moe::test;

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

/// A place in a plan where an integer is.
struct Site {
  Message *message;
  const FieldDescriptor *field;
  int index; ///< -1 if the field is not repeated
};

void collect(Message &message, std::vector<Site> &sites) {
  const Reflection &reflection = *message.GetReflection();
  std::vector<const FieldDescriptor *> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor *field : fields) {
    int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE)
        collect(field->is_repeated() ? *reflection.MutableRepeatedMessage(&message, field, i)
                                     : *reflection.MutableMessage(&message, field),
                sites);
      else if (field->cpp_type() != FieldDescriptor::CPPTYPE_STRING)
        sites.push_back({&message, field, field->is_repeated() ? i : -1});
    }
  }
}

/// Values at which arithmetic of 32 and 64 bits goes wrong.
void set(const Site &site, uint64_t value) {
  const Reflection &r = *site.message->GetReflection();
  bool repeated = site.index >= 0;
  switch (site.field->cpp_type()) {
  case FieldDescriptor::CPPTYPE_INT32:
    return r.SetInt32(site.message, site.field, int32_t(value));
  case FieldDescriptor::CPPTYPE_INT64:
    return repeated ? r.SetRepeatedInt64(site.message, site.field, site.index, int64_t(value))
                    : r.SetInt64(site.message, site.field, int64_t(value));
  case FieldDescriptor::CPPTYPE_UINT32:
    return repeated ? r.SetRepeatedUInt32(site.message, site.field, site.index, uint32_t(value))
                    : r.SetUInt32(site.message, site.field, uint32_t(value));
  case FieldDescriptor::CPPTYPE_UINT64:
    return r.SetUInt64(site.message, site.field, value);
  case FieldDescriptor::CPPTYPE_ENUM:
    return r.SetEnumValue(site.message, site.field, int(value));
  case FieldDescriptor::CPPTYPE_BOOL:
    return r.SetBool(site.message, site.field, value % 2 != 0);
  default:
    return;
  }
}

plan::Plan victim(uint64_t seed) {
  plan::Plan plan = randomPlan(seed, {.steps = 8, .lanes = 3});
  // Work with numbers of its own; whether it fits its operands does not matter here.
  plan::Step &gemm = *plan.mutable_programs(0)->mutable_steps(5);
  for (auto setter : {&plan::Gemm::set_batch, &plan::Gemm::set_m, &plan::Gemm::set_n, &plan::Gemm::set_k,
                      &plan::Gemm::set_lda, &plan::Gemm::set_ldb, &plan::Gemm::set_ldc, &plan::Gemm::set_stride_a,
                      &plan::Gemm::set_stride_b, &plan::Gemm::set_stride_c})
    (gemm.mutable_gemm()->*setter)(1);
  gemm.clear_operands();
  for (int i = 0; i < 3; ++i)
    *gemm.add_operands() = operand(i < 2 ? plan::Operand::READ : plan::Operand::WRITE, uint32_t(i), 0, plan::F32, {1});
  return plan;
}

TEST(Hostile, AnyIntegerMayBeAnything) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  const uint64_t values[] = {0,        1,    2,       0x7fffffff, 0x80000000, 0xffffffff, kMax / 2, kMax / 2 + 1,
                             kMax - 1, kMax, kMax / 4};
  int rejected = 0, total = 0;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    plan::Plan original = victim(seed);
    std::vector<Site> sites;
    collect(original, sites);
    for (std::size_t s = 0; s < sites.size(); ++s)
      for (uint64_t value : values) {
        plan::Plan plan = original;
        std::vector<Site> copies;
        collect(plan, copies);
        set(copies[s], value);
        rejected += validate(plan).ok() ? 0 : 1;
        ++total;
      }
  }
  EXPECT_GT(rejected, total / 3);
}

TEST(Hostile, AnyBytesMayBeAPlan) {
  google::protobuf::LogSilencer silence; // protobuf reports what it can not parse
  std::mt19937_64 random(1);
  int parsed = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = victim(uint64_t(i % 7)).SerializeAsString();
    for (uint64_t flips = 1 + random() % 2; flips > 0; --flips)
      bytes[random() % bytes.size()] = char(random());
    plan::Plan plan;
    if (!plan.ParseFromString(bytes))
      continue;
    ++parsed;
    (void)validate(plan).status();
  }
  EXPECT_GT(parsed, 300);
}

TEST(Hostile, EmptyPlan) {
  EXPECT_FALSE(validate(plan::Plan()).ok());
} // no device, no threads

} // namespace
