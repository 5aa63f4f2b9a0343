//===- HostSlice.h - A slice that the host fills ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_HOSTSLICE_H
#define MOEC_RUNTIME_CORE_HOSTSLICE_H

#include "runtime/core/Session.h"

#include <vector>

namespace moe {

/// A slice for the host to fill, wherever it lies: its own bytes if the host can reach them, else a buffer of its size
/// that `commit` sends to the device.
class HostSlice {
public:
  /// The bytes are unspecified until they are filled.
  HostSlice(Session &session, const plan::Slice &slice) : session(session), slice(slice), target(session.bytes(slice)) {
    if (target.size() != slice.bytes()) {
      buffer.resize(slice.bytes());
      target = buffer;
    }
  }
  HostSlice(const HostSlice &) = delete;
  HostSlice &operator=(const HostSlice &) = delete;

  std::span<std::byte> bytes() const { return target; }

  /// To be called once all bytes are filled. Errors: the device fails.
  Status commit() { return buffer.empty() ? Status() : session.write(slice, buffer); }

private:
  Session &session;
  const plan::Slice &slice;
  std::vector<std::byte> buffer;
  std::span<std::byte> target;
};

} // namespace moe

#endif // MOEC_RUNTIME_CORE_HOSTSLICE_H
