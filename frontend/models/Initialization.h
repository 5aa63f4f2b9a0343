//===- Initialization.h - How a preset's parameters are drawn -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_MODELS_INITIALIZATION_H
#define MOEC_FRONTEND_MODELS_INITIALIZATION_H

#include "frontend/models/NodeBuilder.h"
#include <cstdint>
#include <string>
#include <vector>

namespace moe::models {

/// Fills the initialization graph of a TrainingInfoProto. Each call binds one parameter, `name`, to an output of that
/// graph, named `name` + ".initial". Being bound is what makes an initializer a trained parameter. No seed is written:
/// a draw is keyed by the seed of the run and the parameter's name.
class Initialization {
public:
  using Shape = std::vector<int64_t>;

  explicit Initialization(onnx::TrainingInfoProto &info);

  /// Normal of mean 0 and standard deviation `deviation`.
  void normal(const std::string &name, const Shape &shape, double deviation);
  /// The same for a table [rows, columns] whose row `row` is zero.
  void normalExceptRow(const std::string &name, const Shape &shape, double deviation, int64_t row);
  /// Uniform in [-bound, bound).
  void uniform(const std::string &name, const Shape &shape, double bound);
  void constant(const std::string &name, const Shape &shape, float value);

private:
  void fill(const std::string &output, const Shape &shape, float value);
  void bind(const std::string &name, const Shape &shape);

  onnx::TrainingInfoProto &info;
  NodeBuilder nodes;
};

} // namespace moe::models

#endif // MOEC_FRONTEND_MODELS_INITIALIZATION_H
