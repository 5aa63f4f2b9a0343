//===- Einsum.cpp - Sums of products in index notation ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// One label per dimension: the letter, or 256 + i for the i-th dimension from the end of an ellipsis.
using Labels = llvm::SmallVector<int>;

/// A factor of the product and what its dimensions are called.
struct Factor {
  Value value;
  Labels labels;
};

struct Equation {
  std::vector<std::string> terms;
  std::optional<std::string> result;
};

std::optional<Equation> parse(const std::string &text) {
  std::string dense;
  llvm::copy_if(text, std::back_inserter(dense), [](char c) { return c != ' '; });
  auto [left, right] = llvm::StringRef(dense).split("->");
  Equation equation;
  llvm::SmallVector<llvm::StringRef> terms;
  left.split(terms, ',');
  for (llvm::StringRef term : terms)
    equation.terms.push_back(term.str());
  if (llvm::StringRef(dense).contains("->"))
    equation.result = right.str();
  auto isLetter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  auto wellFormed = [&](llvm::StringRef term) {
    auto [front, back] = term.split("...");
    return llvm::all_of(front, isLetter) && llvm::all_of(back, isLetter);
  };
  if (!llvm::all_of(equation.terms, wellFormed) || (equation.result && !wellFormed(*equation.result)))
    return std::nullopt;
  return equation;
}

/// The labels of a term; the ellipsis stands for `hidden` dimensions.
Labels labelsOf(llvm::StringRef term, int64_t hidden) {
  Labels labels;
  while (!term.empty()) {
    if (term.consume_front("...")) {
      for (int64_t i = hidden; i-- > 0;)
        labels.push_back(256 + static_cast<int>(i));
      continue;
    }
    labels.push_back(term.front());
    term = term.drop_front();
  }
  return labels;
}

int64_t position(const Labels &labels, int label) {
  return llvm::find(labels, label) - labels.begin();
}

/// Sums over the dimensions whose labels `keep` does not name.
Factor reduced(NodeContext &n, const Factor &factor, const llvm::SmallDenseSet<int> &keep) {
  Shape dims;
  Labels left;
  for (auto [i, label] : llvm::enumerate(factor.labels)) {
    if (keep.contains(label))
      left.push_back(label);
    else
      dims.push_back(static_cast<int64_t>(i));
  }
  return {n.reduce(factor.value, ir::ReduceKind::Sum, dims, /*keepDims=*/false), left};
}

/// A label that a term names twice means the diagonal: the other elements are left out of a sum.
Factor diagonal(NodeContext &n, Factor factor) {
  for (size_t i = 0; i < factor.labels.size() && !n.failed(); ++i)
    for (size_t j = i + 1; j < factor.labels.size() && !n.failed();) {
      if (factor.labels[i] != factor.labels[j]) {
        ++j;
        continue;
      }
      Shape shape = n.shape(factor.value);
      if (shape[i] != shape[j]) {
        n.fail("a term repeats a label for dimensions of " + llvm::Twine(shape[i]) + " and " + llvm::Twine(shape[j]));
        break;
      }
      Type index = n.builder.getI64Type();
      Value here = compare(n, ir::ComparePredicate::EQ, iota(n, shape, index, static_cast<int64_t>(i)),
                           iota(n, shape, index, static_cast<int64_t>(j)));
      Value chosen = n.make<ir::SelectOp>(here, factor.value, n.splatLike(factor.value, 0.0));
      factor.value = n.reduce(chosen, ir::ReduceKind::Sum, {static_cast<int64_t>(j)}, /*keepDims=*/false);
      factor.labels.erase(factor.labels.begin() + j);
    }
  return factor;
}

/// The product of two factors, summed over labels that nothing else needs.
Factor multiplied(NodeContext &n, const Factor &a, const Factor &b, const llvm::SmallDenseSet<int> &keep) {
  Labels batch, contracted, left;
  for (int label : a.labels) {
    if (!llvm::is_contained(b.labels, label))
      left.push_back(label);
    else
      (keep.contains(label) ? batch : contracted).push_back(label);
  }
  Labels labels = batch;
  labels.append(left);
  for (int label : b.labels)
    if (!llvm::is_contained(a.labels, label))
      labels.push_back(label);
  auto dims = [](const Factor &factor, const Labels &names) {
    Shape result;
    for (int label : names)
      result.push_back(position(factor.labels, label));
    return result;
  };
  if (!contracted.empty() && isa<FloatType>(n.element(a.value)))
    return {n.dot(a.value, b.value, dims(a, batch), dims(b, batch), dims(a, contracted), dims(b, contracted)), labels};
  // Nothing to sum, or integers: elementwise in all dimensions.
  labels.append(contracted);
  llvm::SmallDenseMap<int, int64_t> extents;
  for (const Factor *factor : {&a, &b})
    for (auto [label, extent] : llvm::zip_equal(factor->labels, n.shape(factor->value)))
      extents[label] = extent;
  Shape shape;
  for (int label : labels)
    shape.push_back(extents[label]);
  auto spread = [&](const Factor &factor) {
    Shape permutation, to;
    for (auto [i, label] : llvm::enumerate(labels))
      if (llvm::is_contained(factor.labels, label)) {
        permutation.push_back(position(factor.labels, label));
        to.push_back(static_cast<int64_t>(i));
      }
    return n.broadcast(n.transpose(factor.value, permutation), shape, to);
  };
  return reduced(n, {n.make<ir::MulOp>(spread(a), spread(b)), labels}, keep);
}

void einsum(NodeContext &n) {
  std::optional<Equation> equation = parse(n.text("equation", ""));
  if (!equation || equation->terms.size() != static_cast<size_t>(n.node.input_size())) {
    n.fail("its equation '" + n.text("equation", "") + "' does not fit its operands");
    return n.output(0, {});
  }
  std::vector<Factor> factors;
  llvm::SmallDenseMap<int, int64_t> extents;
  int64_t widest = 0;
  for (auto [i, term] : llvm::enumerate(equation->terms)) {
    Value x = n.input(static_cast<int>(i));
    if (n.failed())
      return n.output(0, {});
    const bool dots = llvm::StringRef(term).contains("...");
    const int64_t hidden = n.rank(x) - static_cast<int64_t>(term.size()) + (dots ? 3 : 0);
    if (hidden < 0 || (!dots && hidden != 0)) {
      n.fail("term '" + term + "' does not have as many labels as operand " + llvm::Twine(i) + " has dimensions");
      return n.output(0, {});
    }
    widest = std::max(widest, hidden);
    factors.push_back(diagonal(n, {x, labelsOf(term, hidden)}));
    if (n.failed())
      return n.output(0, {});
    for (auto [label, extent] : llvm::zip_equal(factors.back().labels, n.shape(factors.back().value))) {
      int64_t &common = extents.try_emplace(label, extent).first->second;
      if (common != extent && common != 1 && extent != 1) {
        n.fail("a label stands for different extents");
        return n.output(0, {});
      }
      common = std::max(common, extent);
    }
  }
  Labels result;
  if (equation->result) {
    result = labelsOf(*equation->result, widest);
  } else {
    // The hidden dimensions, then the labels that occur once, in order of the alphabet.
    llvm::SmallDenseMap<int, int> uses;
    for (const std::string &term : equation->terms)
      for (int label : labelsOf(term, 0))
        ++uses[label];
    result = labelsOf("...", widest);
    for (int label = 0; label < 256; ++label)
      if (uses.lookup(label) == 1)
        result.push_back(label);
  }
  for (int label : result)
    if (!extents.contains(label) || llvm::count(result, label) != 1) {
      n.fail("the result names a dimension that no operand has, or one twice");
      return n.output(0, {});
    }
  // Dimensions of extent 1 that stand for more are repeated: they need no dimension of their own.
  for (Factor &factor : factors) {
    Shape kept;
    Labels labels;
    for (auto [label, extent] : llvm::zip_equal(factor.labels, n.shape(factor.value)))
      if (extent == extents[label]) {
        kept.push_back(extent);
        labels.push_back(label);
      }
    factor = {n.reshape(factor.value, kept), labels};
  }
  // From left to right; labels are summed as soon as no later factor and not the result has them.
  Factor product = factors.front();
  for (size_t i = 0; i < factors.size() && !n.failed(); ++i) {
    llvm::SmallDenseSet<int> later(result.begin(), result.end());
    for (const Factor &factor : llvm::drop_begin(factors, i + 1))
      later.insert(factor.labels.begin(), factor.labels.end());
    if (i > 0) {
      llvm::SmallDenseSet<int> ownNeeds = later;
      ownNeeds.insert(product.labels.begin(), product.labels.end());
      product = multiplied(n, product, reduced(n, factors[i], ownNeeds), later);
    } else {
      product = reduced(n, product, later);
    }
  }
  Shape permutation;
  for (int label : result) {
    if (n.failed() || !llvm::is_contained(product.labels, label)) {
      n.fail("a dimension of the result is one of no operand");
      return n.output(0, {});
    }
    permutation.push_back(position(product.labels, label));
  }
  n.output(0, n.transpose(product.value, permutation));
}

constexpr OpEntry kOps[] = {
    {"", "Einsum", 12, einsum},
};

} // namespace

llvm::ArrayRef<OpEntry> einsumOps() {
  return kOps;
}

} // namespace moe::frontend
