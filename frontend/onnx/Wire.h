//===- Wire.h - Protobuf messages as they lie in a file -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_WIRE_H
#define MOEC_FRONTEND_ONNX_WIRE_H

#include "runtime/core/Diagnostic.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"
#include <string>

namespace moe::frontend {

/// One field of a message. https://protobuf.dev/programming-guides/encoding
struct WireField {
  uint32_t number = 0;
  bool isDelimited = false; ///< has a length, as strings, bytes, messages and packed numbers do
  llvm::StringRef contents; ///< of one that has a length: its bytes, in place
};

/// Calls `visit` for the fields of the message `bytes`, not for those inside of them. False, if they are damaged, or if
/// `visit` returns false, which ends the walk. Groups, which ONNX never had, count as damage.
bool forEachField(llvm::StringRef bytes, llvm::function_ref<bool(const WireField &)> visit);

/// Refuses a file of an ONNX model that parsing would make much more of than it is: messages that are nested without
/// bounds, or so many small ones that they take a gigabyte; and names that are not UTF-8, which no plan can hold.
Status checkWire(llvm::StringRef file, const std::string &path);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_WIRE_H
