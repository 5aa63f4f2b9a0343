//===- JsonLines.h - Samples as lines of JSON --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_JSONLINES_H
#define MOEC_RUNTIME_DATA_JSONLINES_H

#include "runtime/data/MappedFile.h"
#include "runtime/data/ModelInputs.h"
#include "runtime/data/Sample.h"

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// Names of columns of a file by the input that they are for; an input that is not listed has a column of its own name.
using ColumnNames = std::map<std::string, std::string>;

/// Fields of one line: lists of integers (a single integer is a list of one).
using JsonFields = std::map<std::string, std::vector<int64_t>, std::less<>>;

/// Parses a line whose fields in `wanted` must be lists of integers; of other fields only the name is kept, with an
/// empty list. Errors say why, without a place: no object, no JSON, a field twice, elements that are no integers of 64
/// bits.
Expected<JsonFields> parseJsonLine(std::string_view line, const std::vector<std::string> &wanted);

struct JsonOptions {
  ColumnNames columns = {};
  bool truncate = false; ///< cut sequences that are longer than the model reads, instead of refusing them
};

/// A file with one object in a line, `{"input_ids": [5, 6], "labels": [6, 2]}`: one sample each. Empty lines are
/// skipped. Lines are parsed again when they are read, so that memory holds nothing but where they begin.
class JsonLines final : public SampleSource {
public:
  /// Parses and completes every line, so that no bad one can end a run hours later. Errors, the first twenty at once: a
  /// line that is no such object, inputs without a column, sequences that do not fit, tokens outside the vocabulary.
  /// `notice` gets the fields that are no input.
  static Expected<std::shared_ptr<const JsonLines>> open(const std::filesystem::path &path, const ModelInputs &inputs,
                                                         const JsonOptions &options, std::string &notice);

  const std::filesystem::path &path() const override { return file.path(); }
  int64_t count() const override { return int64_t(lines.size()); }
  int64_t length() const override { return inputs.length(); }
  Status read(int64_t index, Sample &sample) const override;

  JsonLines(MappedFile file, const ModelInputs &inputs) : file(std::move(file)), inputs(inputs) {}

private:
  struct Line {
    uint64_t begin = 0;
    uint64_t number = 0; ///< from 1, in the file
  };
  std::string_view textAt(uint64_t begin) const;
  Status fill(JsonFields &fields, Sample &sample) const;

  MappedFile file;
  ModelInputs inputs;
  bool truncate = false;
  std::vector<std::string> columns; ///< of each input
  std::vector<Line> lines;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_JSONLINES_H
