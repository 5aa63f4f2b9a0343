//===- Limits.h - Bounds of tensors, messages and work ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_LIMITS_H
#define MOEC_FRONTEND_ONNX_LIMITS_H

#include <cstddef>

namespace moe::frontend {

/// Dimensions of a tensor. Types are compared dimension by dimension, and nobody exports more than this.
inline constexpr int kMaxRank = 64;

/// What breaks this bound, or that of `kMaxElements`, in messages.
inline constexpr const char *kTooLarge = "more than 2^40 elements or 64 dimensions";

/// A file that is wrong in more places than these is wrong as a whole.
inline constexpr size_t kMaxMessages = 100;

/// What the import of a program may cost: its nodes with all calls and loops unrolled, what they copy and what they
/// compute at compile time. A unit is some 10 ns or a byte of memory.
struct Work {
  static constexpr double kLimit = 1 << 27;
  static constexpr double kNode = 256;
  static constexpr double kOperation = 512;
  /// One run of the body of a function, branch or loop, and each value that goes in or out.
  static constexpr double kRun = 256, kValue = 64;
  /// Elements of sequences that are copied, and of tensors that are computed.
  static constexpr double kElement = 16;
  /// Bytes of constants, of messages of a function's nodes, and of names.
  static constexpr double kConstantByte = 0.125, kMessageByte = 0.25, kNameByte = 0.5;
};

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_LIMITS_H
