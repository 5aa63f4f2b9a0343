//===- Validator.cpp - Running the checks and reporting what they find --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/Validator.h"

#include "runtime/plan/Structure.h"
#include "runtime/plan/validator/Checks.h"

#include <algorithm>
#include <array>

namespace moe {

std::string_view ruleName(Rule rule) {
  switch (rule) {
  case Rule::Structure:
    return "structure";
  case Rule::Reference:
    return "reference";
  case Rule::Overlap:
    return "overlap";
  case Rule::Shape:
    return "shape";
  case Rule::Arena:
    return "arena";
  case Rule::Coverage:
    return "coverage";
  case Rule::Signal:
    return "signal";
  case Rule::Deadlock:
    return "deadlock";
  case Rule::Race:
    return "race";
  case Rule::Undefined:
    return "undefined";
  case Rule::Foreign:
    return "foreign";
  case Rule::Output:
    return "output";
  case Rule::Destroyed:
    return "destroyed";
  case Rule::ReadOnly:
    return "read-only";
  case Rule::Certificate:
    return "certificate";
  case Rule::Collective:
    return "collective";
  case Rule::Replica:
    return "replica";
  }
  return "unknown";
}

Status Validation::status() const {
  if (ok())
    return {};
  std::string why;
  for (const Finding &finding : findings) {
    if (!why.empty())
      why += '\n';
    why += std::string(ruleName(finding.rule)) + ": " + finding.diagnostic.what;
    if (!finding.diagnostic.where.empty())
      why += " (" + finding.diagnostic.where + ")";
    if (!finding.diagnostic.why.empty())
      why += ": " + finding.diagnostic.why;
  }
  if (omitted != 0)
    why += "\nand " + std::to_string(omitted) + " more";
  uint64_t total = findings.size() + omitted;
  return error("the plan is not safe to run: " + std::to_string(total) + (total == 1 ? " finding" : " findings"), {},
               std::move(why), "compile the model again; if the plan was not altered, this is a bug of moec");
}

Validation validate(const plan::Plan &plan, const ValidatorOptions &options) {
  validator::Context context(plan, options);
  if (Status structure = checkPlanStructure(plan); !structure) {
    context.add(Rule::Structure, structure.error());
    return context.take();
  }
  validator::checkTables(context);
  for (int program = 0; program < plan.programs_size(); ++program)
    if (validator::checkProgram(context, program)) {
      validator::checkMemory(context, program);
      validator::checkReplicas(context, program);
    }
  validator::checkCertificate(context);
  return context.take();
}

namespace validator {

void Context::add(Rule rule, Place place, std::string what, std::string why) {
  if (result.findings.size() >= limit) {
    ++result.omitted;
    return;
  }
  std::string where;
  if (place.program >= 0)
    where = place.step >= 0 ? stepName(plan, place.program, place.step)
                            : "program " + quoted(plan.programs(place.program).name());
  if (place.operand >= 0)
    where = "operand " + std::to_string(place.operand) + " of " + where;
  result.findings.push_back(
      {rule, place.program, place.step, Diagnostic{std::move(what), std::move(where), std::move(why), {}}});
}

void Context::add(Rule rule, Diagnostic diagnostic) {
  result.findings.push_back({rule, -1, -1, std::move(diagnostic)});
}

std::string quoted(const std::string &name) {
  constexpr std::size_t kLongest = 200;
  std::string text = "\"";
  for (char c : name.substr(0, kLongest))
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return text + (name.size() > kLongest ? "...\"" : "\"");
}

std::string bytesOf(uint64_t begin, uint64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

std::string bufferBytes(const plan::Plan &plan, uint32_t buffer, uint64_t begin, uint64_t end) {
  const plan::Buffer &record = plan.buffers(int(buffer));
  return "buffer " + quoted(record.name()) + " " + bytesOf(begin - record.offset(), end - record.offset());
}

std::string stepName(const plan::Plan &plan, int program, int step) {
  const plan::Program &record = plan.programs(program);
  return "step " + std::to_string(step) + " " + quoted(record.steps(step).name()) + " of program " +
         quoted(record.name());
}

void checkCertificate(Context &context) {
  struct Class {
    const char *name;
    plan::Arena::Class id;
  };
  constexpr std::array<Class, 4> kClasses{{{"state", plan::Arena::STATE},
                                           {"gradients", plan::Arena::GRADIENTS},
                                           {"step", plan::Arena::STEP},
                                           {"staging", plan::Arena::STAGING}}};
  const plan::Plan &plan = context.plan;
  const plan::Certificate &certificate = plan.certificate();
  for (const Class &expected : kClasses) {
    uint64_t bytes = 0;
    for (const plan::Arena &arena : plan.arenas())
      if (arena.class_() == expected.id)
        bytes = saturatingSum(bytes, arena.bytes());
    std::string why = "its arenas take " + std::to_string(bytes) + " bytes";
    int entries = 0;
    for (const plan::Certificate::Class &entry : certificate.classes()) {
      if (entry.name() != expected.name)
        continue;
      ++entries;
      if (entry.bytes() != bytes)
        context.add(Rule::Certificate, {},
                    "the certificate gives class \"" + entry.name() + "\" " + std::to_string(entry.bytes()) + " bytes",
                    why);
    }
    if (entries > 1 || (entries == 0 && bytes != 0))
      context.add(Rule::Certificate, {},
                  std::string("the certificate lists class \"") + expected.name + "\" " + std::to_string(entries) +
                      " times",
                  why);
    if (expected.id == plan::Arena::STEP && certificate.live_lower_bound() > bytes)
      context.add(Rule::Certificate, {},
                  "the certificate's lower bound of live bytes is " + std::to_string(certificate.live_lower_bound()),
                  why);
  }
  uint64_t total = 0;
  for (const plan::Certificate::Class &entry : certificate.classes()) {
    total = saturatingSum(total, entry.bytes());
    bool known = std::any_of(kClasses.begin(), kClasses.end(), [&](const Class &c) { return entry.name() == c.name; });
    if (!known)
      context.add(Rule::Certificate, {}, "the certificate lists the unknown class " + quoted(entry.name()));
  }
  if (total != certificate.total())
    context.add(Rule::Certificate, {}, "the certificate's total is " + std::to_string(certificate.total()) + " bytes",
                "its classes add up to " + std::to_string(total) + " bytes");
}

} // namespace validator
} // namespace moe
