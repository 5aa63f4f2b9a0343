//===- Undefined.h - Device memory that holds nothing in particular -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_UNDEFINED_H
#define MOEC_TEST_GPU_SIM_UNDEFINED_H

#include <cstddef>
#include <map>
#include <vector>

namespace moe::sim {

/// Bytes of device memory that nothing has written: fresh ones, scratch of steps that have ended, and what a step
/// declares to write and leaves. They may be there, but no result may depend on them.
class Undefined {
public:
  struct Bytes {
    std::byte *begin, *end;
  };

  void add(Bytes bytes);
  void remove(Bytes bytes);
  /// The undefined ones of `bytes`, in order of address.
  std::vector<Bytes> within(Bytes bytes) const;

private:
  std::map<std::byte *, std::byte *> ranges; ///< begin to end, disjoint
};

/// That of the device that this thread uses.
Undefined &undefinedMemory();

} // namespace moe::sim

#endif // MOEC_TEST_GPU_SIM_UNDEFINED_H
