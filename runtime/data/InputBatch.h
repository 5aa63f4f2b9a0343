//===- InputBatch.h - Writes samples where the plan wants them ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_INPUTBATCH_H
#define MOEC_RUNTIME_DATA_INPUTBATCH_H

#include "runtime/core/Session.h"
#include "runtime/data/ModelInputs.h"
#include "runtime/data/Sample.h"

#include <span>

namespace moe {

/// Completes the columns that `sample` lacks, so that each holds a whole row (`Raw` ones are left as they are):
///   - labels are the tokens of their partner from the second on, which lose the last one then;
///   - the tokens of a decoder are ModelInputs::decoderStart() and the labels but the last one;
///   - masks are 1 where the partner has a token (before a tail of the padding token, if the user has named one),
///   positions count from 0, segments are 0;
///   - rows too short are filled with the padding token, the ignored label, and zeros.
/// Errors, which name the input: a column that cannot be derived, too many or too few elements, an element outside the
/// vocabulary, padding of labels of which none is ignored.
Status completeSample(const ModelInputs &inputs, Sample &sample);

/// Rows of a micro-batch.
struct RowRange {
  int64_t first = 0;
  int64_t count = 0;

  bool contains(int64_t row) const { return row >= first && row < first + count; }
};

/// The rows of an input that are staged on a rank: those of its number in the group that splits them.
RowRange rowsOf(const plan::Plan &plan, const plan::Input &input, int64_t rank);

/// The staged inputs of a session.
class InputBatch {
public:
  InputBatch(Session &session, ModelInputs inputs);

  const ModelInputs &inputs() const { return model; }
  /// Rows of a micro-batch, over all ranks.
  int64_t rows() const { return model.rows(); }
  /// Whether this rank has the row, of some input at least. Rows that it has not need not be written.
  bool holds(int64_t row) const;

  /// Completes `sample` and writes it as row `row` of micro-batch `micro`.
  Status write(int64_t micro, int64_t row, Sample &sample);
  /// Fills a row with padding tokens under a mask of ones (attention to nothing is not a number), whose labels are not
  /// counted. The model must ignore a label.
  void pad(int64_t micro, int64_t row);

private:
  void store(size_t input, int64_t micro, int64_t row, const Sample::Column &column);

  ModelInputs model;
  std::vector<std::span<std::byte>> staging; ///< of each input, all micro-batches
  std::vector<RowRange> ranges;              ///< of each input, what this rank has of a micro-batch
  Sample padding;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_INPUTBATCH_H
