//===- FakeSession.h - A small trainable plan without a compiler -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// A session whose programs are a few lines here: a bigram-like model of one weight per vocabulary entry, so that data,
// checkpoints and commands can be tested without a compiled plan. Every update depends on all earlier ones.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_FAKESESSION_H
#define MOEC_TEST_RUNTIME_FAKESESSION_H

#include "runtime/core/Session.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

namespace moe::test {

struct FakeOptions {
  int64_t batch = 2;
  int64_t length = 4;
  int64_t accumulate = 1;
  int64_t vocabulary = 260;
  int64_t padId = 1;
  plan::DType tokenType = plan::I64;
  std::string parameter = "weight";
  bool remote = false; ///< like a device with memory of its own: the host reaches staged inputs alone
};

class FakeSession final : public Session {
public:
  explicit FakeSession(const FakeOptions &options) : options(options), arena(size_t(1) << 20) {
    plan::Training &training = *message.mutable_training();
    training.set_accumulate(options.accumulate);
    training.set_micro_batch(options.batch);
    training.set_sequence_length(options.length);
    training.set_vocabulary(options.vocabulary);
    training.set_pad_id(options.padId);
    training.set_seed(7);
    message.mutable_header()->mutable_model()->set_digest(0x1234);
    message.mutable_header()->set_routing_groups(1);
    for (const char *name : {"micro_step", "update", "eval", "forward"})
      message.add_programs()->set_name(name);
    weight = state(options.parameter, plan::StateTensor::PARAMETER, plan::F32, options.vocabulary, true);
    gradient = state(options.parameter + ".grad", plan::StateTensor::GRADIENT, plan::F32, options.vocabulary, false);
    moment = state(options.parameter + ".exp_avg", plan::StateTensor::MOMENT, plan::F32, options.vocabulary, true);
    control = state("control.num_updates", plan::StateTensor::CONTROL, plan::I64, 1, true);
    input("input_ids", false);
    input("labels", true);
    for (const char *name : {"loss", "gnorm", "lr", "gradient_multiplier"})
      metricOf(name, plan::F32, "update");
    metricOf("ntokens", plan::I64, "update");
    metricOf("num_updates", plan::I64, "update");
    for (const char *name : {"eval_loss_sum", "eval_ntokens", "eval_hits_sum"})
      metricOf(name, plan::F32, "eval");
    plan::Output &logits = *message.mutable_programs(3)->add_outputs();
    logits.set_name("logits");
    logits.set_dtype(plan::F32);
    logits.add_shape(options.batch);
    logits.add_shape(options.length);
    *logits.mutable_slice() = slice(uint64_t(options.batch * options.length) * 4);
  }

  const plan::Plan &plan() const override { return message; }
  plan::Plan &mutablePlan() { return message; }
  int programIndex(std::string_view name) const override {
    for (int i = 0; i < message.programs_size(); ++i)
      if (message.programs(i).name() == name)
        return i;
    return -1;
  }
  std::span<std::byte> bytes(const plan::Slice &slice) override {
    auto isStaged = [&](const plan::Input &input) { return input.staging().offset() == slice.offset(); };
    return options.remote && std::ranges::none_of(message.inputs(), isStaged) ? std::span<std::byte>() : memory(slice);
  }
  Status read(const plan::Slice &slice, std::span<std::byte> destination) override {
    std::memcpy(destination.data(), memory(slice).data(), destination.size());
    return {};
  }
  Status write(const plan::Slice &slice, std::span<const std::byte> source) override {
    std::memcpy(memory(slice).data(), source.data(), source.size());
    return {};
  }
  double metric(int index) const override {
    const plan::Metric &metric = message.metrics(index);
    const std::byte *at = arena.data() + metric.slice().offset();
    if (metric.dtype() == plan::F32)
      return load<float>(at);
    return double(load<int64_t>(at));
  }

  Status run(int program) override {
    programsRun.push_back(message.programs(program).name());
    if (onRun)
      onRun(message.programs(program).name());
    switch (program) {
    case 0:
      microStep();
      break;
    case 1:
      update();
      break;
    case 2:
      evaluate();
      break;
    default:
      forward();
    }
    return {};
  }

  /// Staged tokens of one micro-batch.
  std::vector<int64_t> staged(std::string_view name, int64_t micro) {
    for (const plan::Input &in : message.inputs())
      if (in.name() == name) {
        std::vector<int64_t> tokens;
        const int64_t count = options.batch * options.length, width = in.dtype() == plan::I64 ? 8 : 4;
        const std::byte *at = memory(in.staging()).data() + micro * count * width;
        tokens.reserve(size_t(count));
        for (int64_t i = 0; i < count; ++i)
          tokens.push_back(width == 8 ? load<int64_t>(at + i * 8) : load<int32_t>(at + i * 4));
        return tokens;
      }
    return {};
  }

  std::span<float> values(std::string_view name) {
    for (const plan::StateTensor &tensor : message.state())
      if (tensor.name() == name)
        return floats(tensor.slice());
    return {};
  }

  std::vector<std::string> programsRun;
  std::vector<std::vector<int64_t>> inputsSeen;
  std::function<void(const std::string &)> onRun;
  float poisonLoss = 0;

private:
  template <typename T> static T load(const std::byte *at) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
  }

  std::span<std::byte> memory(const plan::Slice &slice) {
    return std::span(arena).subspan(slice.offset(), slice.bytes());
  }
  plan::Slice slice(uint64_t size) {
    plan::Slice result;
    result.set_offset(used);
    result.set_bytes(size);
    used += (size + 63) / 64 * 64;
    return result;
  }
  plan::Slice state(const std::string &name, plan::StateTensor::Kind kind, plan::DType type, int64_t count,
                    bool saved) {
    plan::StateTensor &tensor = *message.add_state();
    tensor.set_name(name);
    tensor.set_kind(kind);
    tensor.set_dtype(type);
    tensor.add_shape(count);
    tensor.set_checkpointed(saved);
    if (kind == plan::StateTensor::PARAMETER)
      tensor.mutable_initial()->mutable_normal()->set_stddev(1);
    else
      tensor.set_of(options.parameter);
    *tensor.mutable_slice() = slice(uint64_t(count) * (type == plan::I64 ? 8 : 4));
    return tensor.slice();
  }
  void input(const char *name, bool labels) {
    plan::Input &in = *message.add_inputs();
    in.set_name(name);
    in.set_dtype(options.tokenType);
    in.add_shape(options.batch);
    in.add_shape(options.length);
    in.set_vocabulary(options.vocabulary);
    in.set_is_labels(labels);
    *in.mutable_staging() =
        slice(uint64_t(options.accumulate * options.batch * options.length) * (options.tokenType == plan::I64 ? 8 : 4));
  }
  void metricOf(const char *name, plan::DType type, const char *program) {
    plan::Metric &metric = *message.add_metrics();
    metric.set_name(name);
    metric.set_dtype(type);
    metric.set_program(program);
    *metric.mutable_slice() = slice(type == plan::I64 ? 8 : 4);
  }

  std::span<float> floats(const plan::Slice &slice) {
    auto raw = memory(slice);
    return {reinterpret_cast<float *>(raw.data()), raw.size() / 4};
  }
  void setMetric(std::string_view name, double value) {
    for (const plan::Metric &metric : message.metrics())
      if (metric.name() == name) {
        float narrow = float(value);
        int64_t whole = int64_t(value);
        if (metric.dtype() == plan::F32)
          std::memcpy(memory(metric.slice()).data(), &narrow, 4);
        else
          std::memcpy(memory(metric.slice()).data(), &whole, 8);
      }
  }
  double metricNamed(std::string_view name) {
    for (int i = 0; i < message.metrics_size(); ++i)
      if (message.metrics(i).name() == name)
        return metric(i);
    return 0;
  }

  /// Sum over the counted labels of (w[label] - w[id] / 2 - 1)^2 / 2.
  void microStep() {
    auto ids = staged("input_ids", micro), labels = staged("labels", micro);
    inputsSeen.push_back(ids);
    auto w = floats(weight), g = floats(gradient);
    if (micro == 0) {
      std::ranges::fill(g, 0.0f);
      lossSum = counted = 0;
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      if (labels[i] == options.padId)
        continue;
      float error = w[size_t(labels[i])] - w[size_t(ids[i])] / 2 - 1;
      g[size_t(labels[i])] += error;
      g[size_t(ids[i])] -= error / 2;
      lossSum += double(error) * error / 2;
      counted += 1;
    }
    ++micro;
  }
  void update() {
    auto w = floats(weight), g = floats(gradient), m = floats(moment);
    int64_t updates = load<int64_t>(memory(control).data()) + 1;
    const float multiplier = float(1 / counted), rate = 0.1f / float(updates);
    double norm = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      m[i] = 0.9f * m[i] + g[i] * multiplier;
      w[i] -= rate * m[i];
      norm += double(g[i] * multiplier) * (g[i] * multiplier);
      g[i] = std::nanf(""); // The gradient is dead now.
    }
    std::memcpy(memory(control).data(), &updates, 8);
    setMetric("loss", lossSum / counted + double(poisonLoss));
    setMetric("gnorm", std::sqrt(norm));
    setMetric("lr", rate);
    setMetric("gradient_multiplier", multiplier);
    setMetric("ntokens", counted);
    setMetric("num_updates", double(updates));
    micro = 0;
  }
  /// Every counted label adds its weight + 2 to the loss sum, and 1 to hits if it is even.
  void evaluate() {
    auto labels = staged("labels", 0);
    auto w = floats(weight);
    for (int64_t label : labels) {
      if (label == options.padId)
        continue;
      setMetric("eval_loss_sum", metricNamed("eval_loss_sum") + double(w[size_t(label)]) + 2);
      setMetric("eval_ntokens", metricNamed("eval_ntokens") + 1);
      setMetric("eval_hits_sum", metricNamed("eval_hits_sum") + (label % 2 == 0));
    }
  }
  void forward() {
    auto ids = staged("input_ids", 0);
    auto out = floats(message.programs(3).outputs(0).slice());
    for (size_t i = 0; i < ids.size(); ++i)
      out[i] = floats(weight)[size_t(ids[i])];
  }

  FakeOptions options;
  plan::Plan message;
  std::vector<std::byte> arena;
  uint64_t used = 0;
  plan::Slice weight, gradient, moment, control;
  int64_t micro = 0;
  double lossSum = 0, counted = 0;
};

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_FAKESESSION_H
