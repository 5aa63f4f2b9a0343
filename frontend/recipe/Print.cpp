//===- Print.cpp - Canonical text of recipes ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/recipe/Recipe.h"
#include "frontend/recipe/RecipeNames.h"
#include <charconv>

namespace moe::frontend {

template <> llvm::ArrayRef<EnumName<OptimizerName>> names() {
  static constexpr EnumName<OptimizerName> kNames[] = {{"sgd", OptimizerName::Sgd},
                                                       {"adam", OptimizerName::Adam},
                                                       {"adamw", OptimizerName::AdamW},
                                                       {"fairseq_adam", OptimizerName::FairseqAdam}};
  return kNames;
}

template <> llvm::ArrayRef<EnumName<ScheduleName>> names() {
  static constexpr EnumName<ScheduleName> kNames[] = {{"constant", ScheduleName::Constant},
                                                      {"fixed", ScheduleName::Fixed},
                                                      {"inverse_sqrt", ScheduleName::InverseSqrt},
                                                      {"polynomial_decay", ScheduleName::PolynomialDecay},
                                                      {"cosine", ScheduleName::Cosine},
                                                      {"wsd", ScheduleName::WarmupStableDecay},
                                                      // What users of transformers call them.
                                                      {"linear", ScheduleName::PolynomialDecay},
                                                      {"polynomial", ScheduleName::PolynomialDecay},
                                                      {"constant_with_warmup", ScheduleName::Constant},
                                                      {"warmup_stable_decay", ScheduleName::WarmupStableDecay}};
  return kNames;
}

template <> llvm::ArrayRef<EnumName<DecayShape>> names() {
  static constexpr EnumName<DecayShape> kNames[] = {
      {"linear", DecayShape::Linear}, {"cosine", DecayShape::Cosine}, {"1-sqrt", DecayShape::OneMinusSqrt}};
  return kNames;
}

template <> llvm::ArrayRef<EnumName<ComputeType>> names() {
  static constexpr EnumName<ComputeType> kNames[] = {
      {"f32", ComputeType::F32}, {"bf16", ComputeType::BF16}, {"fp16", ComputeType::F16}};
  return kNames;
}

template <> llvm::ArrayRef<EnumName<ParameterPolicy::Standard>> names() {
  using Standard = ParameterPolicy::Standard;
  static constexpr EnumName<Standard> kNames[] = {
      {"file", Standard::File}, {"train", Standard::Train}, {"freeze", Standard::Freeze}};
  return kNames;
}

const char *name(OptimizerName optimizer) {
  return nameOf(optimizer);
}
const char *name(ScheduleName schedule) {
  return nameOf(schedule);
}
const char *name(DecayShape shape) {
  return nameOf(shape);
}
const char *name(ComputeType type) {
  return nameOf(type);
}

namespace {

/// The shortest decimal that reads back as the same double.
std::string text(double value) {
  char digits[64];
  auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  return std::string(digits, end);
}

std::string text(int64_t value) {
  return std::to_string(value);
}

/// Double quotes protect everything that YAML would read as something else, but for what ends lines and is not printed.
std::string quoted(const std::string &value) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string result = "\"";
  for (char each : value) {
    const auto code = static_cast<unsigned char>(each);
    if (code < 0x20 || code == 0x7f) {
      result += {'\\', 'x', digits[code / 16], digits[code % 16]};
      continue;
    }
    if (each == '"' || each == '\\')
      result += '\\';
    result += each;
  }
  return result + "\"";
}

std::string list(const std::vector<std::string> &values) {
  std::string result;
  for (const std::string &value : values)
    result += (result.empty() ? "" : ", ") + quoted(value);
  return "[" + result + "]";
}

std::string text(const Loss &loss) {
  if (!loss.crossEntropy)
    return "{output: " + quoted(loss.output) + "}";
  const Loss::CrossEntropy &entropy = *loss.crossEntropy;
  return "{cross_entropy: {logits: " + quoted(entropy.logits) + ", labels: " + quoted(entropy.labels) +
         ", ignore_index: " + text(entropy.ignoreIndex) + ", label_smoothing: " + text(entropy.labelSmoothing) + "}}";
}

} // namespace

std::string print(llvm::ArrayRef<Tie> ties) {
  std::string pairs;
  for (const Tie &tie : ties)
    pairs += (pairs.empty() ? "" : ", ") + list({tie.source, tie.target + (tie.transposed ? "^T" : "")});
  return "[" + pairs + "]";
}

std::string print(const Recipe &r) {
  std::string momentum = r.optimizer.name == OptimizerName::Sgd ? ", momentum: " + text(r.optimizer.momentum) : "";
  std::string decay = r.schedule.name == ScheduleName::WarmupStableDecay
                          ? ", decay_updates: " + text(r.schedule.decayUpdates) + ", decay: " + name(r.schedule.decay)
                          : "";
  return "loss: " + text(r.loss) + "\n" + "optimizer: {name: " + name(r.optimizer.name) +
         ", lr: " + text(r.optimizer.lr) + ", betas: [" + text(r.optimizer.beta1) + ", " + text(r.optimizer.beta2) +
         "], eps: " + text(r.optimizer.eps) + ", weight_decay: " + text(r.optimizer.weightDecay) + momentum + "}\n" +
         "clip_norm: " + text(r.clipNorm) + "\n" + "schedule: {name: " + name(r.schedule.name) +
         ", warmup_updates: " + text(r.schedule.warmupUpdates) + ", total_updates: " + text(r.schedule.totalUpdates) +
         ", power: " + text(r.schedule.power) + ", end_lr: " + text(r.schedule.endLr) + decay + "}\n" +
         "precision: {compute: " + name(r.precision.compute) +
         ", reduce: " + (r.precision.reduceBf16 ? "bf16" : "f32") + "}\n" + "accumulate: " + text(r.accumulate) + "\n" +
         "parameters: {default: " + nameOf(r.parameters.standard) + ", train: " + list(r.parameters.train) +
         ", freeze: " + list(r.parameters.freeze) + "}\n" + "tie: " + print(r.tie) + "\n" +
         "routing_groups: " + text(r.routingGroups) + "\n" + "seed: " + text(r.seed) + "\n";
}

} // namespace moe::frontend
