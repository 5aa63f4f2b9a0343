//===- Pixels.cpp - What encoders of images do besides convolutions -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Body.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// The size of the blocks of pixels of images [N, C, H, W], of which `extent` dimensions must consist; 0 if they do
/// not.
int64_t blockSize(NodeContext &n, bool ofChannels) {
  // What extents are multiplied with below stays in 64 bits.
  constexpr int64_t kLargest = 1024;
  const int64_t block = n.integer("blocksize", 0);
  if (!n.failed() && n.rank(n.input(0)) != 4)
    n.fail("its operand must be [N, C, H, W]");
  if (n.failed())
    return 0;
  const Shape shape = n.shape(n.input(0));
  if (block < 1 || block > kLargest)
    n.fail("the size of its blocks must be from 1 to " + llvm::Twine(kLargest));
  else if (ofChannels ? shape[1] % (block * block) != 0 : shape[2] % block != 0 || shape[3] % block != 0)
    n.fail("its operand does not consist of blocks of " + llvm::Twine(block));
  return n.failed() ? 0 : block;
}

/// Whether channels are (block, block, channel), else (channel, block, block).
bool hasBlocksFirst(NodeContext &n) {
  const std::string mode = n.text("mode", "DCR");
  if (mode != "DCR" && mode != "CRD")
    n.fail("mode '" + mode + "' is neither DCR nor CRD");
  return mode == "DCR";
}

/// Reshapes `x`, permutes its dimensions, and reshapes the result.
void rearrange(NodeContext &n, llvm::ArrayRef<int64_t> parts, llvm::ArrayRef<int64_t> order,
               llvm::ArrayRef<int64_t> to) {
  Body body(n);
  std::string x = body.node("Reshape", {body.operand(0), body.constant(parts)}, {{"allowzero", int64_t(1)}});
  x = body.node("Transpose", {x}, {{"perm", Shape(order)}});
  body.output(0, body.node("Reshape", {x, body.constant(to)}, {{"allowzero", int64_t(1)}}));
}

/// [N, C b b, H, W] → [N, C, H b, W b]
void depthToSpace(NodeContext &n) {
  const int64_t b = blockSize(n, true);
  const bool blocksFirst = hasBlocksFirst(n);
  if (b == 0 || n.failed())
    return n.output(0, {});
  const Shape s = n.shape(n.input(0));
  const int64_t channels = s[1] / (b * b);
  const Shape to = {s[0], channels, s[2] * b, s[3] * b};
  if (blocksFirst)
    rearrange(n, {s[0], b, b, channels, s[2], s[3]}, {0, 3, 4, 1, 5, 2}, to);
  else
    rearrange(n, {s[0], channels, b, b, s[2], s[3]}, {0, 1, 4, 2, 5, 3}, to);
}

/// [N, C, H b, W b] → [N, C b b, H, W]
void spaceToDepth(NodeContext &n) {
  const int64_t b = blockSize(n, false);
  const bool blocksFirst = hasBlocksFirst(n);
  if (b == 0 || n.failed())
    return n.output(0, {});
  const Shape s = n.shape(n.input(0));
  const Shape parts = {s[0], s[1], s[2] / b, b, s[3] / b, b}, to = {s[0], s[1] * b * b, s[2] / b, s[3] / b};
  if (blocksFirst)
    rearrange(n, parts, {0, 3, 5, 1, 2, 4}, to);
  else
    rearrange(n, parts, {0, 1, 3, 5, 2, 4}, to);
}

/// All dimensions behind [N, C] become one number.
void globalPool(NodeContext &n, const char *reduction) {
  if (Value x = n.input(0); !n.failed() && n.rank(x) < 3)
    n.fail("its operand must be [N, C, …]");
  if (n.failed())
    return n.output(0, {});
  Body body(n);
  const Shape axes = llvm::to_vector(llvm::seq<int64_t>(2, n.rank(n.input(0))));
  body.output(0, body.node(reduction, {body.operand(0), body.constant(axes)}));
}

constexpr OpEntry kOps[] = {
    {"", "DepthToSpace", 1, depthToSpace},
    {"", "SpaceToDepth", 1, spaceToDepth},
    {"", "GlobalAveragePool", 1, [](NodeContext &n) { globalPool(n, "ReduceMean"); }},
    {"", "GlobalMaxPool", 1, [](NodeContext &n) { globalPool(n, "ReduceMax"); }},
};

} // namespace

llvm::ArrayRef<OpEntry> pixelOps() {
  return kOps;
}

} // namespace moe::frontend
