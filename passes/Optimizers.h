//===- Optimizers.h - Learning-rate schedules and optimizers as tensor programs ---------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_OPTIMIZERS_H
#define MOEC_PASSES_OPTIMIZERS_H

#include "ir/TensorBuilder.h"
#include "passes/Buckets.h"
#include "passes/TrainingAttributes.h"

#include <memory>

namespace moe::ir {

/// The learning rate of the update after `updates` (scalar, float) completed ones. Emits an error for an unknown or
/// incomplete schedule. Formulas: fairseq's for fixed, inverse_sqrt and polynomial_decay; `cosine` warms up like
/// inverse_sqrt and then follows end + (lr - end) (1 + cos(pi t)) / 2, Loshchilov and Hutter, arXiv 1608.03983. `wsd`
/// warms up likewise, stays at lr, and in the last `decay_updates` follows end + (lr - end) f(t), t from 0 to 1, where
/// f is 1 - t, (1 + cos(pi t)) / 2 or 1 - sqrt(t): Hägele et al., arXiv 2405.18392.
mlir::FailureOr<mlir::Value> learningRate(TensorBuilder &b, const TrainingAttributes &training, mlir::Value updates);

/// Emits the update of flat buckets.
class Optimizer {
public:
  virtual ~Optimizer() = default;
  /// Suffixes of the moments kept per parameter.
  virtual llvm::SmallVector<llvm::StringRef> slots() const = 0;
  /// Emits what all buckets share. `lr` is a scalar, `apply` a boolean scalar: false leaves all state as it is.
  virtual void prepare(TensorBuilder &b, StateWriter &states, mlir::Value lr, mlir::Value apply) = 0;
  /// Emits the update of `parameters` of one bucket and returns the new ones; `factor` (scalar) multiplies `gradient`.
  /// Both lie as the moments do.
  virtual mlir::Value update(TensorBuilder &b, StateWriter &states, const Bucket &bucket, mlir::Value parameters,
                             mlir::Value gradient, mlir::Value factor, mlir::Value apply) = 0;
};

/// sgd, adam, adamw or fairseq_adam; null for another name.
std::unique_ptr<Optimizer> makeOptimizer(const TrainingAttributes::Optimizer &options);

} // namespace moe::ir

#endif // MOEC_PASSES_OPTIMIZERS_H
