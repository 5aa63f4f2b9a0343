//===- Sample.h - One row of a batch, and where rows come from ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_SAMPLE_H
#define MOEC_RUNTIME_DATA_SAMPLE_H

#include "runtime/core/Diagnostic.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

namespace moe {

/// What a file says of one sequence: a column for each input of the model, in the order of the plan.
struct Sample {
  struct Column {
    enum class Kind {
      Absent, ///< follows from other columns (ModelInputs::isDerivable)
      Tokens, ///< `tokens`, at most as many as a row has elements
      Raw,    ///< `bytes`: the whole row in the type of the input
    };
    Kind kind = Kind::Absent;
    std::vector<int64_t> tokens;
    std::vector<std::byte> bytes;

    void set(std::vector<int64_t> values) {
      kind = Kind::Tokens;
      tokens = std::move(values);
    }
  };
  std::vector<Column> columns;
  std::vector<int64_t> lengths; ///< of each column before it is padded; completeSample finds them out
};

/// Samples in a fixed order.
class SampleSource {
public:
  virtual ~SampleSource() = default;

  virtual const std::filesystem::path &path() const = 0;
  virtual int64_t count() const = 0;
  /// Elements of a row of labels.
  virtual int64_t length() const = 0;
  /// Whether tokens are bytes of text, so that a loss can be told in bits per byte.
  virtual bool isBytes() const { return false; }
  /// Reads sample `index` in [0, count()). Columns keep their memory from call to call. Fails if the file has been
  /// altered since it was opened.
  virtual Status read(int64_t index, Sample &sample) const = 0;
};

/// Samples [begin, end) of another source.
class SampleRange final : public SampleSource {
public:
  SampleRange(std::shared_ptr<const SampleSource> source, int64_t begin, int64_t end)
      : source(std::move(source)), begin(begin), end(end) {}

  const std::filesystem::path &path() const override { return source->path(); }
  int64_t count() const override { return end - begin; }
  int64_t length() const override { return source->length(); }
  bool isBytes() const override { return source->isBytes(); }
  Status read(int64_t index, Sample &sample) const override { return source->read(begin + index, sample); }

private:
  std::shared_ptr<const SampleSource> source;
  int64_t begin, end;
};

/// Training and held-out samples; null: none.
struct DataSplit {
  std::shared_ptr<const SampleSource> train, valid;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_SAMPLE_H
