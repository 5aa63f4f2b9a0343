//===- BatchSamples.h - Training samples from safetensors --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TOOLS_MOERUN_BATCHSAMPLES_H
#define MOEC_TOOLS_MOERUN_BATCHSAMPLES_H

#include "runtime/checkpoint/Safetensors.h"
#include "runtime/data/JsonLines.h"

#include <memory>
#include <vector>

namespace moe {

/// A file with a tensor for each input of a model: [batches, micro-batch, ...], as `moerun run` takes it, or
/// [samples, ...]. Each row is a sample.
class BatchSamples final : public SampleSource {
public:
  /// Reads and completes every sample, as JsonLines does. Errors, all at once: inputs without a tensor, tensors of the
  /// wrong shape, different numbers of samples, types that do not convert, tokens outside the vocabulary (the first
  /// twenty samples). `notice` gets the tensors that are no input.
  static Expected<std::shared_ptr<const BatchSamples>> open(const std::filesystem::path &path, const plan::Plan &plan,
                                                            const ModelInputs &inputs, const ColumnNames &columns,
                                                            std::string &notice);

  const std::filesystem::path &path() const override { return file.path(); }
  int64_t count() const override { return samples; }
  int64_t length() const override { return inputs.length(); }
  Status read(int64_t index, Sample &sample) const override;

  BatchSamples(SafetensorsFile file, const ModelInputs &inputs) : file(std::move(file)), inputs(inputs) {}

private:
  SafetensorsFile file;
  ModelInputs inputs;
  std::vector<const TensorEntry *> tensors; ///< of each input; null: it follows from others
  int64_t samples = 0;
};

} // namespace moe

#endif // MOEC_TOOLS_MOERUN_BATCHSAMPLES_H
