//===- ModelInputs.h - What each input of a model is -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_MODELINPUTS_H
#define MOEC_RUNTIME_DATA_MODELINPUTS_H

#include "runtime/core/Diagnostic.h"
#include "runtime/plan/plan.pb.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moe {

enum class InputKind {
  Tokens,    ///< ids that are looked up in a table: [rows, length]
  Labels,    ///< ids that the loss compares with; one value is ignored
  Mask,      ///< 1 where `partner` holds a token, 0 where it is padded
  Positions, ///< 0, 1, 2, … along `partner`
  Segments,  ///< zeros along `partner`
  Other,     ///< whatever a file says, every element of it
};

/// One input of a plan. Its first dimension counts rows (sequences of a micro-batch).
struct ModelInput {
  std::string name;
  InputKind kind = InputKind::Other;
  plan::DType dtype = plan::I64;
  int64_t rowElements = 0; ///< of one row: the product of all other dimensions
  int64_t vocabulary = 0;  ///< ids must be below it; 0: unknown
  /// Index of the input of tokens from which this one can be derived: a mask, positions and segments along it; labels
  /// are its tokens from the second on. -1: it cannot.
  int partner = -1;
};

/// What a user says about data beside the files.
struct InputOptions {
  std::optional<int64_t> padToken = std::nullopt; ///< fills rows that are too short
  std::optional<int64_t> decoderStart =
      std::nullopt; ///< goes before the labels where these give the tokens of a decoder
};

/// The inputs of a plan by their meaning, which follows from what the compiler found out (labels and vocabularies) and
/// from the names that `transformers` gives them: "attention_mask", "position_ids", "token_type_ids", with prefixes
/// such as "decoder_" that say to which input of tokens they belong.
class ModelInputs {
public:
  /// Errors: inputs that do not share their first dimension, which is then no micro-batch; options out of range.
  static Expected<ModelInputs> describe(const plan::Plan &plan, const InputOptions &options = {});

  const std::vector<ModelInput> &list() const { return inputs; }
  /// Sequences of a micro-batch.
  int64_t rows() const { return rowCount; }
  /// Elements of a row of the labels, or of the tokens if there are none: what counts as a sample's length.
  int64_t length() const;
  /// Index of the labels, and of the tokens whose successors they are; -1 if there are none.
  int labels() const { return labelIndex; }
  int labelSource() const { return labelIndex < 0 ? -1 : inputs[size_t(labelIndex)].partner; }
  /// Whether the model has an encoder and a decoder: tokens that the labels do not follow from.
  bool hasEncoder() const;
  /// The label that is not counted; none if the model counts all of them.
  const std::optional<int64_t> &ignored() const { return ignoredLabel; }
  /// What fills rows of tokens: as the user says, else the ignored label if it is a token, else 0.
  int64_t padToken(const ModelInput &input) const;
  const std::optional<int64_t> &givenPadToken() const { return options.padToken; }
  const std::optional<int64_t> &decoderStart() const { return options.decoderStart; }

  /// Whether a sample may lack this input since it follows from others.
  bool isDerivable(int index) const;

private:
  std::vector<ModelInput> inputs;
  InputOptions options;
  int64_t rowCount = 0;
  int labelIndex = -1;
  std::optional<int64_t> ignoredLabel;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_MODELINPUTS_H
