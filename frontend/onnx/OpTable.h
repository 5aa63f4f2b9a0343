//===- OpTable.h - Which handler translates which ONNX operator ---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_OPTABLE_H
#define MOEC_FRONTEND_ONNX_OPTABLE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <cstdint>
#include <vector>

namespace moe::frontend {

class NodeContext;

struct OpEntry {
  const char *domain; ///< "" is the standard domain
  const char *name;
  int64_t since; ///< the first opset that this handler translates
  void (*handler)(NodeContext &);
};

/// One table for each file of ops/.
llvm::ArrayRef<OpEntry> elementwiseOps();
llvm::ArrayRef<OpEntry> constantOps();
llvm::ArrayRef<OpEntry> shapeOps();
llvm::ArrayRef<OpEntry> indexOps();
llvm::ArrayRef<OpEntry> reductionOps();
llvm::ArrayRef<OpEntry> matrixOps();
llvm::ArrayRef<OpEntry> networkOps();
llvm::ArrayRef<OpEntry> gatherScatterOps();
llvm::ArrayRef<OpEntry> orderOps();
llvm::ArrayRef<OpEntry> einsumOps();
llvm::ArrayRef<OpEntry> sequenceOps();
llvm::ArrayRef<OpEntry> controlOps();
llvm::ArrayRef<OpEntry> roundingOps();
llvm::ArrayRef<OpEntry> activationOps();
llvm::ArrayRef<OpEntry> normalizationOps();
llvm::ArrayRef<OpEntry> attentionOps();
llvm::ArrayRef<OpEntry> padOps();
llvm::ArrayRef<OpEntry> pixelOps();
llvm::ArrayRef<OpEntry> trigonometricOps();
llvm::ArrayRef<OpEntry> convolutionOps();
llvm::ArrayRef<OpEntry> poolOps();
llvm::ArrayRef<OpEntry> lossOps();
llvm::ArrayRef<OpEntry> moecOps();
llvm::ArrayRef<OpEntry> contribOps();
llvm::ArrayRef<OpEntry> contribAttentionOps();
llvm::ArrayRef<OpEntry> contribMoeOps();

/// The entry of the newest version that is not above `opset`; null if the operator is unknown or older than all
/// entries.
const OpEntry *findOp(llvm::StringRef domain, llvm::StringRef name, int64_t opset);

/// The known operator name nearest to `name` and its first opset, for messages; empty if `name` is not known at all.
int64_t firstOpset(llvm::StringRef domain, llvm::StringRef name);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_OPTABLE_H
