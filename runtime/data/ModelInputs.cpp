//===- ModelInputs.cpp - What each input of a model is -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/ModelInputs.h"

#include <algorithm>
#include <string_view>

namespace moe {

static bool isInteger(plan::DType type) {
  return type == plan::I64 || type == plan::I32;
}

/// Words of names and what they mean; the first that occurs decides.
struct Word {
  std::string_view text;
  InputKind kind;
};
static constexpr Word kWords[] = {
    {"mask", InputKind::Mask},        {"position", InputKind::Positions}, {"token_type", InputKind::Segments},
    {"segment", InputKind::Segments}, {"label", InputKind::Labels},       {"input_ids", InputKind::Tokens},
    {"tokens", InputKind::Tokens},
};

/// The kind of an input, and what of its name comes before the word that told it.
static std::pair<InputKind, std::string> classify(const plan::Input &input) {
  std::string_view name = input.name();
  if (input.is_labels())
    return {InputKind::Labels, ""};
  if (input.shape_size() != 2)
    return {InputKind::Other, ""};
  for (const Word &word : kWords) {
    size_t at = name.find(word.text);
    if (at == std::string_view::npos)
      continue;
    std::string_view prefix = name.substr(0, at);
    if (word.kind == InputKind::Mask && prefix.ends_with("attention_"))
      prefix.remove_suffix(10);
    if (word.kind != InputKind::Mask && !isInteger(input.dtype()))
      return {InputKind::Other, ""};
    return {word.kind, std::string(prefix)};
  }
  return {input.vocabulary() > 0 && isInteger(input.dtype()) ? InputKind::Tokens : InputKind::Other, ""};
}

Expected<ModelInputs> ModelInputs::describe(const plan::Plan &plan, const InputOptions &options) {
  ModelInputs result;
  result.options = options;
  if (int64_t pad = plan.training().pad_id(); pad != -1)
    result.ignoredLabel = pad;
  std::vector<std::string> prefixes;
  std::string problems;
  for (const plan::Input &input : plan.inputs()) {
    auto [kind, prefix] = classify(input);
    ModelInput entry{.name = input.name(), .kind = kind, .dtype = input.dtype(), .vocabulary = input.vocabulary()};
    entry.rowElements = 1;
    for (int d = 1; d < input.shape_size(); ++d)
      entry.rowElements *= input.shape(d);
    if (kind == InputKind::Labels && result.labelIndex >= 0)
      entry.kind = InputKind::Other;
    else if (kind == InputKind::Labels)
      result.labelIndex = int(result.inputs.size());
    const int64_t rows = input.shape_size() > 0 ? input.shape(0) : 0;
    if (result.rowCount == 0)
      result.rowCount = rows;
    if (rows < 1 || rows != result.rowCount || entry.rowElements < 1)
      problems += (problems.empty() ? "" : ", ") + input.name();
    result.inputs.push_back(std::move(entry));
    prefixes.push_back(std::move(prefix));
  }
  if (!problems.empty() || result.inputs.empty())
    return error("the inputs of the model do not count the same sequences",
                 problems.empty() ? "the model has no input" : "inputs " + problems,
                 "the first dimension of every input must be the micro-batch of the plan",
                 "feed such a model with `moerun run --inputs`");

  auto tokensLike = [&](int64_t elements, const std::string *prefix, bool last) {
    int found = -1;
    for (size_t i = 0; i < result.inputs.size(); ++i)
      if (result.inputs[i].kind == InputKind::Tokens && result.inputs[i].rowElements == elements &&
          (!prefix || prefixes[i] == *prefix) && (found < 0 || last))
        found = int(i);
    return found;
  };
  for (size_t i = 0; i < result.inputs.size(); ++i) {
    ModelInput &input = result.inputs[i];
    if (input.kind == InputKind::Labels) {
      // A decoder reads the tokens whose successors are the labels; it comes after the encoder.
      input.partner = tokensLike(input.rowElements, nullptr, /*last=*/true);
      for (size_t k = 0; k < result.inputs.size(); ++k)
        if (result.inputs[k].kind == InputKind::Tokens && prefixes[k].find("decoder") != std::string::npos &&
            result.inputs[k].rowElements == input.rowElements)
          input.partner = int(k);
      continue;
    }
    if (input.kind == InputKind::Tokens || input.kind == InputKind::Other)
      continue;
    input.partner = tokensLike(input.rowElements, &prefixes[i], /*last=*/false);
    if (input.partner < 0 && prefixes[i].empty())
      input.partner = tokensLike(input.rowElements, nullptr, /*last=*/false);
    if (input.partner < 0)
      input.kind = InputKind::Other;
  }
  for (auto [flag, value] :
       {std::pair{"--pad-token", &options.padToken}, std::pair{"--decoder-start", &options.decoderStart}})
    for (const ModelInput &input : result.inputs)
      if (*value && input.kind == InputKind::Tokens && input.vocabulary > 0 &&
          (**value < 0 || **value >= input.vocabulary))
        return error("token outside the vocabulary", flag,
                     "the token is " + std::to_string(**value) + ", the vocabulary of " + input.name + " has " +
                         std::to_string(input.vocabulary) + " entries",
                     {}, ExitCode::Usage);
  return result;
}

int64_t ModelInputs::length() const {
  if (labelIndex >= 0)
    return inputs[size_t(labelIndex)].rowElements;
  for (const ModelInput &input : inputs)
    if (input.kind == InputKind::Tokens)
      return input.rowElements;
  return inputs.front().rowElements;
}

bool ModelInputs::hasEncoder() const {
  const int source = labelSource();
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].kind == InputKind::Tokens && int(i) != source)
      return source >= 0;
  return false;
}

int64_t ModelInputs::padToken(const ModelInput &input) const {
  if (options.padToken)
    return *options.padToken;
  const bool isToken =
      ignoredLabel && *ignoredLabel >= 0 && (input.vocabulary == 0 || *ignoredLabel < input.vocabulary);
  return isToken ? *ignoredLabel : 0;
}

bool ModelInputs::isDerivable(int index) const {
  const ModelInput &input = inputs[size_t(index)];
  if (index == labelSource())
    return hasEncoder() && options.decoderStart.has_value();
  return input.partner >= 0;
}

} // namespace moe
