//===- Choices.h - Algorithms that were chosen, on record ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CUDA_CHOICES_H
#define MOEC_RUNTIME_CUDA_CHOICES_H

#include "runtime/core/Diagnostic.h"

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace moe::cuda {

/// Which algorithm cuBLASLt was told to use for each kind of product, since its bits depend on that. A JSON file:
///
///   {"library": "cuBLASLt 130000", "device": "NAME", "products": {"KIND": ["WORD", ...8]}}
///
/// Words are hexadecimal. They mean something to one version of the library on one kind of device: a record of others
/// is replaced.
class Choices {
public:
  using Algorithm = std::array<uint64_t, 8>;

  /// Reads `path` if it is there; nothing is recorded if it is empty. Errors: the file is not such a record.
  static Expected<Choices> open(const std::filesystem::path &path, const std::string &library,
                                const std::string &device);

  std::optional<Algorithm> find(const std::string &product) const;
  void add(const std::string &product, const Algorithm &algorithm);

  /// Differs if the products or their algorithms do; the same number in all processes of one build.
  uint64_t digest() const;

  /// Writes the file if something was added. Errors: it can not be written.
  Status save();

private:
  std::filesystem::path path;
  std::string library, device;
  std::map<std::string, Algorithm> products;
  bool changed = false;
};

} // namespace moe::cuda

#endif // MOEC_RUNTIME_CUDA_CHOICES_H
