//===- Protection.h - Memory that a step may not touch ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_PROTECTION_H
#define MOEC_TEST_GPU_SIM_PROTECTION_H

#include "runtime/cuda/Simulated.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace moe::sim {

/// Bytes of device memory that a step declares.
struct Range {
  std::byte *begin = nullptr, *end = nullptr;
  bool written = false;
};

/// Bytes on accessible pages that no page protects.
struct Exposed {
  std::byte *begin = nullptr, *end = nullptr;
  bool read = false; ///< part of a range that is only read; else of none
};

/// Once armed, pages of device memory outside all ranges can not be touched and pages of ranges that are only read can
/// not be written. The first access that breaks this is remembered, and then let through: what runs goes on.
class Protection {
public:
  explicit Protection(std::span<const Range> ranges);
  ~Protection() { disarm(); }
  Protection(const Protection &) = delete;
  Protection &operator=(const Protection &) = delete;

  std::span<const Exposed> exposed() const { return bytes; }

  void arm();
  void disarm();

  /// What was touched since `arm` that should not have been; empty if nothing was.
  std::string violation() const;

private:
  struct Pages {
    std::byte *begin, *end;
    bool written;
  };
  std::vector<Pages> pages;
  std::vector<Exposed> bytes;
};

} // namespace moe::sim

#endif // MOEC_TEST_GPU_SIM_PROTECTION_H
