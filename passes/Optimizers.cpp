//===- Optimizers.cpp - Learning-rate schedules and optimizers as tensor programs -------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/Optimizers.h"

#include <cmath>
#include <numbers>

using namespace mlir;

namespace moe::ir {

//===----------------------------------------------------------------------------------------------------------------===//
// Schedules
//===----------------------------------------------------------------------------------------------------------------===//

FailureOr<Value> learningRate(TensorBuilder &b, const TrainingAttributes &training, Value updates) {
  const TrainingAttributes::Schedule &schedule = training.schedule;
  double lr = training.optimizer.lr, end = schedule.endLr;
  auto warmup = static_cast<double>(schedule.warmupUpdates), total = static_cast<double>(schedule.totalUpdates);
  auto number = [&](double value) { return b.splatLike(updates, value); };
  auto before = [&](double limit) { return b.compare(ComparePredicate::LT, updates, number(limit)); };
  auto warm = [&](Value ramp, Value after) { return warmup > 0 ? b.select(before(warmup), ramp, after) : after; };
  // 0 at the end of the warm-up, 1 at the last update.
  auto fraction = [&] { return b.mul(b.add(updates, -warmup), 1.0 / (total - warmup)); };
  bool needsTotal = schedule.name == "polynomial_decay" || schedule.name == "cosine";
  if (needsTotal && !(total > warmup)) {
    emitError(b.loc) << "schedule." << schedule.name << " needs total_updates above warmup_updates ("
                     << schedule.warmupUpdates << "), got " << schedule.totalUpdates;
    return failure();
  }

  if (schedule.name == "constant")
    return warm(b.mul(updates, lr / std::max(warmup, 1.0)), number(lr));
  if (schedule.name == "fixed")
    return warm(b.mul(b.add(updates, 1.0), lr / std::max(warmup, 1.0)), number(lr));
  if (schedule.name == "inverse_sqrt") {
    if (warmup < 1) {
      emitError(b.loc) << "schedule.inverse_sqrt needs warmup_updates of at least 1";
      return failure();
    }
    Value decayed = b.div(number(lr * std::sqrt(warmup)), b.sqrt(b.max(updates, number(1.0))));
    return warm(b.mul(updates, lr / warmup), decayed);
  }
  if (schedule.name == "polynomial_decay") {
    Value left = b.max(b.sub(number(1.0), fraction()), number(0.0));
    Value power = schedule.power == 1.0 ? left : b.pow(left, number(schedule.power));
    Value decayed = b.select(before(total), b.add(b.mul(power, lr - end), end), number(end));
    return warm(b.mul(updates, lr / std::max(warmup, 1.0)), decayed);
  }
  if (schedule.name == "cosine") {
    Value t = b.min(b.max(fraction(), number(0.0)), number(1.0));
    Value wave = b.add(b.make<CosOp>(b.mul(t, std::numbers::pi)), 1.0);
    return warm(b.mul(updates, lr / std::max(warmup, 1.0)), b.add(b.mul(wave, (lr - end) / 2), end));
  }
  if (schedule.name == "wsd") {
    auto decay = static_cast<double>(schedule.decayUpdates);
    if (decay < 1 || total < warmup + decay) {
      emitError(b.loc)
          << "schedule.wsd needs decay_updates of at least 1 and total_updates of at least warmup_updates + "
             "decay_updates, got "
          << schedule.decayUpdates << " and " << schedule.totalUpdates;
      return failure();
    }
    Value t = b.min(b.max(b.mul(b.add(updates, decay - total), 1.0 / decay), number(0.0)), number(1.0));
    Value left;
    if (schedule.decay == "cosine")
      left = b.mul(b.add(b.make<CosOp>(b.mul(t, std::numbers::pi)), 1.0), 0.5);
    else if (schedule.decay == "1-sqrt")
      left = b.sub(number(1.0), b.sqrt(t));
    else
      left = b.sub(number(1.0), t);
    return warm(b.mul(updates, lr / std::max(warmup, 1.0)), b.add(b.mul(left, lr - end), end));
  }
  emitError(b.loc) << "unknown schedule '" << schedule.name
                   << "'; there are constant, fixed, inverse_sqrt, polynomial_decay, cosine, wsd";
  return failure();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Optimizers
//===----------------------------------------------------------------------------------------------------------------===//

namespace {

/// `value` where `apply` holds, else `old`.
Value chooseIf(TensorBuilder &b, Value apply, Value value, Value old) {
  Value condition = typeOf(value).getRank() == 0 ? apply : b.broadcastScalar(apply, value);
  return b.select(condition, value, old);
}

/// Replaces a state by `value` where `apply` holds.
void writeIf(TensorBuilder &b, StateWriter &states, StringRef name, Value old, Value value, Value apply) {
  states.write(b.builder, b.loc, name, chooseIf(b, apply, value, old));
}

/// p -= lr g, with g + weight_decay p for g and optional momentum (v = momentum v + g).
class Sgd : public Optimizer {
public:
  explicit Sgd(const TrainingAttributes::Optimizer &options) : options(options) {}

  SmallVector<StringRef> slots() const override {
    return options.momentum == 0 ? SmallVector<StringRef>{} : SmallVector<StringRef>{"momentum_buffer"};
  }

  void prepare(TensorBuilder &, StateWriter &, Value learningRate, Value) override { lr = learningRate; }

  Value update(TensorBuilder &b, StateWriter &states, const Bucket &bucket, Value p, Value gradient, Value factor,
               Value apply) override {
    Value g = b.mul(gradient, b.broadcastScalar(factor, p));
    if (options.weightDecay != 0)
      g = b.add(g, b.mul(p, options.weightDecay));
    if (options.momentum != 0) {
      Value old = states.read(b.builder, b.loc, bucket.slots[0]);
      g = b.add(b.mul(old, options.momentum), g);
      writeIf(b, states, bucket.slots[0], old, g, apply);
    }
    return chooseIf(b, apply, b.sub(p, b.mul(b.broadcastScalar(lr, p), g)), p);
  }

private:
  TrainingAttributes::Optimizer options;
  Value lr;
};

/// Kingma and Ba, arXiv 1412.6980; decoupled decay: Loshchilov and Hutter, arXiv 1711.05101. The variants differ in
/// where epsilon and decay enter:
///   adam          g + wd p for g;   p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps)
///   adamw         p -= lr wd p;     the same step
///   fairseq_adam  p -= lr wd p;     p -= lr sqrt(c2) / c1 * m / (sqrt(v) + eps)
/// with c = 1 - beta^t.
class Adam : public Optimizer {
public:
  explicit Adam(const TrainingAttributes::Optimizer &options) : options(options) {}

  SmallVector<StringRef> slots() const override { return {"exp_avg", "exp_avg_sq"}; }

  void prepare(TensorBuilder &b, StateWriter &states, Value learningRate, Value apply) override {
    lr = learningRate;
    Value c1 = correction(b, states, "control.bias_correction1", options.beta1, apply);
    Value c2 = b.sqrt(correction(b, states, "control.bias_correction2", options.beta2, apply));
    if (options.name == "fairseq_adam") {
      step = b.div(b.mul(lr, c2), c1);
    } else {
      step = b.div(lr, c1);
      rootC2 = c2;
    }
    decay = b.sub(b.splatLike(lr, 1.0), b.mul(lr, options.weightDecay));
  }

  Value update(TensorBuilder &b, StateWriter &states, const Bucket &bucket, Value p, Value gradient, Value factor,
               Value apply) override {
    const Value old = p;
    Value g = b.mul(gradient, b.broadcastScalar(factor, p));
    Value oldM = states.read(b.builder, b.loc, bucket.slots[0]), oldV = states.read(b.builder, b.loc, bucket.slots[1]);
    if (options.weightDecay != 0) {
      if (options.name == "adam")
        g = b.add(g, b.mul(p, options.weightDecay));
      else
        p = b.mul(p, b.broadcastScalar(decay, p));
    }
    Value m = b.add(b.mul(oldM, options.beta1), b.mul(g, 1.0 - options.beta1));
    Value v = b.add(b.mul(oldV, options.beta2), b.mul(b.mul(g, g), 1.0 - options.beta2));
    Value root = b.sqrt(v);
    if (rootC2)
      root = b.div(root, b.broadcastScalar(rootC2, root));
    Value change = b.div(b.mul(b.broadcastScalar(step, m), m), b.add(root, options.eps));
    writeIf(b, states, bucket.slots[0], oldM, m, apply);
    writeIf(b, states, bucket.slots[1], oldV, v, apply);
    return chooseIf(b, apply, b.sub(p, change), old);
  }

private:
  /// c(t) = 1 - beta^t by c(t) = beta c(t-1) + (1 - beta): in float32 the power would lose most digits for small t.
  Value correction(TensorBuilder &b, StateWriter &states, StringRef name, double beta, Value apply) {
    states.declare(name, typeOf(lr), StateKind::Control, 0.0).setCheckpointed(true);
    Value old = states.read(b.builder, b.loc, name);
    Value next = b.add(b.mul(old, beta), 1.0 - beta);
    writeIf(b, states, name, old, next, apply);
    return next;
  }

  TrainingAttributes::Optimizer options;
  Value lr, step, rootC2, decay;
};

} // namespace

std::unique_ptr<Optimizer> makeOptimizer(const TrainingAttributes::Optimizer &options) {
  if (options.name == "sgd")
    return std::make_unique<Sgd>(options);
  if (options.name == "adam" || options.name == "adamw" || options.name == "fairseq_adam")
    return std::make_unique<Adam>(options);
  return nullptr;
}

} // namespace moe::ir
