//===- OpTable.cpp ------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTables.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/Twine.h"
#include <algorithm>

namespace moe::frontend {
namespace {

using Index = llvm::StringMap<std::vector<const OpEntry *>>;

std::string key(llvm::StringRef domain, llvm::StringRef name) {
  return (llvm::Twine(domain) + ":" + name).str();
}

Index buildIndex() {
  Index index;
  for (llvm::ArrayRef<OpEntry> table : opTables())
    for (const OpEntry &entry : table)
      index[key(entry.domain, entry.name)].push_back(&entry);
  for (auto &entry : index)
    llvm::sort(entry.second, [](const OpEntry *a, const OpEntry *b) { return a->since < b->since; });
  return index;
}

const std::vector<const OpEntry *> &entries(llvm::StringRef domain, llvm::StringRef name) {
  static const Index index = buildIndex();
  static const std::vector<const OpEntry *> none;
  auto found = index.find(key(domain == "ai.onnx" ? "" : domain, name));
  return found == index.end() ? none : found->second;
}

} // namespace

std::vector<llvm::ArrayRef<OpEntry>> opTables() {
  return {elementwiseOps(),      constantOps(),      shapeOps(),         indexOps(),     reductionOps(), matrixOps(),
          networkOps(),          gatherScatterOps(), orderOps(),         einsumOps(),    sequenceOps(),  controlOps(),
          roundingOps(),         activationOps(),    normalizationOps(), attentionOps(), padOps(),       pixelOps(),
          convolutionOps(),      poolOps(),          trigonometricOps(), lossOps(),      moecOps(),      contribOps(),
          contribAttentionOps(), contribMoeOps()};
}

const OpEntry *findOp(llvm::StringRef domain, llvm::StringRef name, int64_t opset) {
  const OpEntry *best = nullptr;
  for (const OpEntry *entry : entries(domain, name))
    if (entry->since <= opset)
      best = entry;
  return best;
}

int64_t firstOpset(llvm::StringRef domain, llvm::StringRef name) {
  const std::vector<const OpEntry *> &known = entries(domain, name);
  return known.empty() ? 0 : known.front()->since;
}

} // namespace moe::frontend
