//===- AttentionMask.cpp - What the masks of an attention mean ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// A mask in a model is a number that is added to a score, or put in its place. moe.attention hides keys instead. Both
// are the same where each query sees a key. Where a query sees none,
//
//   * -inf everywhere gives 0/0 or, behind a guard, zeros: the coarse operation gives zeros for both;
//   * finite numbers give weights over all keys, which only a bias expresses, since it is added too.
//
// So finite masks hide only if they are known and leave every query a key, and nothing unknown can hide that key.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "passes/recompose/Attention.h"

#include <cmath>

using namespace mlir;

namespace moe::ir::recompose {

namespace {

using Mask = Finding<FoundMask>;

/// A known mask: which [queries, keys] it hides, and the term that it is or is a part of.
struct KnownPart {
  std::vector<char> hides;
  bool infinite;
  std::optional<ScoreTerm> term; ///< none: it takes the place of scores
};

class MaskFinder {
public:
  MaskFinder(AxisTable &axes, KnownValues &values, const AttentionAxes &roles)
      : axes(axes), values(values), roles(roles), queries(axes.size(roles.queries)), keys(axes.size(roles.keys)) {}

  Mask find(const FoundScores &scores) {
    for (const ScoreTerm &term : scores.terms)
      takeTerm(term.view, term.factor);
    for (const HiddenKeys &hidden : scores.hidden)
      takeCondition(hidden.condition, hidden.when, hidden.value, {});
    return decide(scores.floored);
  }

private:
  //===--------------------------------------------------------------------------------------------------------------===//
  // Taking apart
  //===--------------------------------------------------------------------------------------------------------------===//

  View with(const View &view, Value value) { return {value, view.dims}; }

  void takeTerm(View view, double factor) {
    view = axes.source(std::move(view));
    // Layers make their own terms of one condition, which is worth evaluating once.
    if (auto select = view.value.getDefiningOp<SelectOp>()) {
      std::optional<double> onTrue = values.scalar(select.getLhs()), onFalse = values.scalar(select.getRhs());
      for (bool when : {true, false}) {
        std::optional<double> hiding = when ? onTrue : onFalse, other = when ? onFalse : onTrue;
        if (hiding && other == 0.0 && *hiding * factor <= kHidden)
          return takeCondition(with(view, select.getCondition()), when, *hiding * factor, ScoreTerm{view, factor});
      }
    }
    if (const HostTensor *known = values.get(view.value))
      return takeKnownTerm(view, factor, *known);
    if (auto add = view.value.getDefiningOp<AddOp>()) {
      takeTerm(with(view, add.getLhs()), factor);
      return takeTerm(with(view, add.getRhs()), factor);
    }
    if (auto mul = view.value.getDefiningOp<MulOp>())
      for (auto [number, rest] : {std::pair(mul.getRhs(), mul.getLhs()), std::pair(mul.getLhs(), mul.getRhs())})
        if (std::optional<double> scale = values.scalar(number))
          return takeTerm(with(view, rest), factor * *scale);
    result.bias.push_back({std::move(view), factor});
    mayHideFinitely = true;
  }

  void takeKnownTerm(const View &view, double factor, const HostTensor &known) {
    bool isMask = true, hides = false, infinite = true;
    std::vector<char> hidden(known.floats.size());
    for (auto [i, value] : llvm::enumerate(known.floats)) {
      double term = value == 0 ? 0 : value * factor;
      hidden[i] = term <= kHidden;
      hides = hides || hidden[i];
      infinite = infinite && (!hidden[i] || std::isinf(term));
      isMask = isMask && (hidden[i] || term == 0);
    }
    if (isMask && !hides)
      return;
    std::optional<std::vector<char>> pattern = isMask ? byPosition(view, hidden) : std::nullopt;
    if (pattern) {
      parts.push_back({std::move(*pattern), infinite, ScoreTerm{view, factor}});
      return;
    }
    result.bias.push_back({view, factor});
    mayHideFinitely = mayHideFinitely || (hides && !infinite);
    mayHide = mayHide || hides;
  }

  /// Keys are hidden where `view` equals `when`. With `term`: by adding it, else by putting `value` in place of a
  /// score.
  void takeCondition(View view, bool when, double value, const std::optional<ScoreTerm> &term) {
    view = axes.source(std::move(view));
    Operation *op = view.value.getDefiningOp();
    if (const HostTensor *known = values.get(view.value)) {
      std::vector<char> hidden(known->ints.size());
      for (auto [i, element] : llvm::enumerate(known->ints))
        hidden[i] = (element != 0) == when;
      if (std::optional<std::vector<char>> pattern = byPosition(view, hidden)) {
        if (llvm::is_contained(*pattern, 1))
          parts.push_back({std::move(*pattern), std::isinf(value), term});
        return;
      }
    } else if (auto inverse = dyn_cast_or_null<NotOp>(op)) {
      return takeCondition(with(view, inverse.getInput()), !when, value, term);
    } else if (isa_and_nonnull<AndOp, OrOp>(op) && isa<OrOp>(op) == when) {
      // Hidden where one of them says so.
      for (Value operand : op->getOperands())
        takeCondition(with(view, operand), when, value, term);
      return;
    }
    mayHide = true;
    if (std::isinf(value))
      (onlyBatchAndKey(view) ? result.padding : result.hidden).push_back({std::move(view), when, value});
    else if (term)
      addFiniteTerm(*term);
    else
      replacesUnknown = true;
  }

  /// Parts of a finite term cannot be told from each other any more: the whole stays, once.
  void addFiniteTerm(const ScoreTerm &term) {
    mayHideFinitely = true;
    if (llvm::none_of(result.bias, [&](const ScoreTerm &other) { return other.view.value == term.view.value; }))
      result.bias.push_back(term);
  }

  bool onlyBatchAndKey(const View &view) {
    return llvm::all_of(axes.flat(view), [&](unsigned axis) {
      return llvm::is_contained(axes.expand(roles.batch), axis) || llvm::is_contained(axes.expand(roles.keys), axis);
    });
  }

  /// `hidden`, elements of `view`, as [queries, keys]; nothing if it also depends on batch or head.
  std::optional<std::vector<char>> byPosition(const View &view, ArrayRef<char> hidden) {
    AxisList all = axes.flat(view), byQuery = axes.expand(roles.queries), byKey = axes.expand(roles.keys);
    std::vector<char> pattern(static_cast<size_t>(queries * keys), 2); // 2: nothing known yet
    // Strides of each axis of the view in the pattern; 0: it must not matter.
    SmallVector<int64_t> sizes, strides;
    for (unsigned axis : all) {
      sizes.push_back(axes.size(axis));
      int64_t stride = 0;
      for (auto [list, unit] : {std::pair(byQuery, keys), std::pair(byKey, int64_t(1))})
        if (const auto *at = llvm::find(list, axis); at != list.end())
          stride = unit * axes.size(ArrayRef<unsigned>(std::next(at), list.end()));
      strides.push_back(stride);
    }
    SmallVector<int64_t> index(all.size(), 0);
    for (char value : hidden) {
      int64_t at = 0;
      for (auto [i, stride] : llvm::zip_equal(index, strides))
        at += i * stride;
      char &entry = pattern[static_cast<size_t>(at)];
      if (entry != 2 && entry != value)
        return std::nullopt;
      entry = value;
      for (size_t d = all.size(); d-- > 0;) {
        if (++index[d] < sizes[d])
          break;
        index[d] = 0;
      }
    }
    return repeated(std::move(pattern), all);
  }

  /// Fills in the rows or columns of a pattern that depends on queries or keys alone.
  std::optional<std::vector<char>> repeated(std::vector<char> pattern, ArrayRef<unsigned> all) {
    auto hasAll = [&](ArrayRef<unsigned> list) {
      return llvm::all_of(axes.expand(list), [&](unsigned axis) { return llvm::is_contained(all, axis); });
    };
    auto hasNone = [&](ArrayRef<unsigned> list) {
      return llvm::none_of(axes.expand(list), [&](unsigned axis) { return llvm::is_contained(all, axis); });
    };
    bool rows = hasAll(roles.queries), columns = hasAll(roles.keys);
    if ((!rows && !hasNone(roles.queries)) || (!columns && !hasNone(roles.keys)))
      return std::nullopt;
    for (int64_t t = 0; t < queries; ++t)
      for (int64_t s = 0; s < keys; ++s)
        pattern[static_cast<size_t>(t * keys + s)] =
            pattern[static_cast<size_t>((rows ? t * keys : 0) + (columns ? s : 0))];
    return pattern;
  }

  //===--------------------------------------------------------------------------------------------------------------===//
  // Deciding
  //===--------------------------------------------------------------------------------------------------------------===//

  Mask decide(bool floored) {
    if (replacesUnknown)
      return Mask::no(
          "its mask puts a finite number in place of scores, and a query that sees no key would then see all");
    if (floored && (mayHide || mayHideFinitely))
      return Mask::no("its scores are raised to a finite number, and a query that sees no key would then see all");
    std::vector<char> hidden(static_cast<size_t>(queries * keys), 0);
    bool finite = floored;
    for (const KnownPart &part : parts) {
      merge(hidden, part.hides);
      finite = finite || !part.infinite;
    }
    if (finite && (mayHide || mayHideFinitely || !everyQuerySees(hidden))) {
      // What is -inf hides all the same; the rest is added as it was.
      std::fill(hidden.begin(), hidden.end(), 0);
      for (const KnownPart &part : parts) {
        if (part.infinite && !floored)
          merge(hidden, part.hides);
        else if (part.term)
          addFiniteTerm(*part.term);
        else
          return Mask::no("a query may see no key, and its mask of a finite number then means other weights than zero");
      }
    }
    if (!describe(hidden))
      result.pattern = std::move(hidden);
    return Mask::yes(std::move(result));
  }

  static void merge(std::vector<char> &into, ArrayRef<char> other) {
    for (auto [a, b] : llvm::zip_equal(into, other))
      a = a || b;
  }

  bool everyQuerySees(ArrayRef<char> hidden) const {
    for (int64_t t = 0; t < queries; ++t)
      if (!llvm::is_contained(hidden.slice(static_cast<size_t>(t * keys), static_cast<size_t>(keys)), 0))
        return false;
    return true;
  }

  /// Whether `hidden` is what `causal` and `window` hide together; sets them.
  bool describe(ArrayRef<char> hidden) {
    ArrayRef<char> last = hidden.take_back(static_cast<size_t>(keys));
    int64_t window = llvm::count(last, 0);
    for (bool causal : {false, true})
      for (int64_t width : {int64_t(0), window}) {
        if (!matches(hidden, causal, width))
          continue;
        result.causal = causal;
        result.window = width;
        return true;
      }
    return false;
  }

  bool matches(ArrayRef<char> hidden, bool causal, int64_t window) const {
    for (int64_t t = 0; t < queries; ++t)
      for (int64_t s = 0; s < keys; ++s) {
        int64_t position = t + keys - queries;
        bool expected = (causal && s > position) || (window > 0 && s <= position - window);
        if (static_cast<bool>(hidden[static_cast<size_t>(t * keys + s)]) != expected)
          return false;
      }
    return true;
  }

  AxisTable &axes;
  KnownValues &values;
  const AttentionAxes &roles;
  int64_t queries, keys;
  SmallVector<KnownPart> parts;
  FoundMask result;
  bool mayHide = false;         ///< something unknown may hide the last key of a query
  bool mayHideFinitely = false; ///< likewise, by a finite number that is added
  bool replacesUnknown = false; ///< a finite number takes the place of scores that are not known
};

} // namespace

Finding<FoundMask> findMask(AxisTable &axes, KnownValues &values, const FoundScores &scores,
                            const AttentionAxes &roles) {
  return MaskFinder(axes, values, roles).find(scores);
}

} // namespace moe::ir::recompose
