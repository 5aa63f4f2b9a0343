//===- Safetensors.h - Named tensors in a file -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// The safetensors format (https://github.com/huggingface/safetensors): u64 header length | JSON header | data. The
// reader trusts nothing: every length is checked against the file before it is used.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_SAFETENSORS_H
#define MOEC_RUNTIME_CHECKPOINT_SAFETENSORS_H

#include "runtime/core/Diagnostic.h"
#include "runtime/data/MappedFile.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// One tensor of a file: row-major, contiguous, little endian.
struct TensorEntry {
  std::string name;
  std::string type; ///< "F32", "I64", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0; ///< bytes, relative to the data section
};

/// A complete safetensors file, memory-mapped.
class SafetensorsFile {
public:
  /// Errors: unreadable; header truncated, not the expected JSON, nested too deep, with duplicate names, unknown types
  /// or shapes that overflow; data that overlap, leave holes or do not fill the file exactly.
  static Expected<SafetensorsFile> open(const std::filesystem::path &path);

  const std::filesystem::path &path() const { return file.path(); }
  /// In order of name.
  const std::vector<TensorEntry> &tensors() const { return entries; }
  /// Null if there is no such tensor.
  const TensorEntry *find(std::string_view name) const;
  std::span<const std::byte> bytes(const TensorEntry &entry) const;
  const std::map<std::string, std::string> &metadata() const { return strings; }

  /// Whether the file carries the digest that `writeSafetensors` was asked to store.
  bool hasDigest() const;
  /// Whether header and data still have that digest.
  bool digestMatches() const;

private:
  explicit SafetensorsFile(MappedFile file) : file(std::move(file)) {}
  Status parse();

  MappedFile file;
  std::string_view header;
  std::span<const std::byte> data;
  std::vector<TensorEntry> entries;
  std::map<std::string, std::string> strings;
};

/// A tensor to be written.
struct TensorView {
  std::string name;
  std::string_view type;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes; ///< empty if they are fetched

  /// Tensors that do not lie in host memory: how many bytes they have, and how to get those from an offset on.
  uint64_t remote = 0;
  std::function<Status(uint64_t offset, std::span<std::byte> target)> fetch = {};

  uint64_t byteCount() const { return fetch ? remote : bytes.size(); }
};

/// Metadata key of the XXH3-64 digest of the header (with this digest as sixteen zeros) and the data, in hexadecimal.
inline constexpr std::string_view kDigestKey = "moe.digest";

/// Writes a complete file or none (see AtomicFile). Tensors are ordered by falling element size, then by name, so that
/// each is aligned; equal contents give equal files. With `digest`, the metadata get the entry kDigestKey.
Status writeSafetensors(const std::filesystem::path &path, std::vector<TensorView> tensors,
                        const std::map<std::string, std::string> &metadata, bool digest = false);

/// What a rank has of a tensor.
struct TensorPart {
  std::string name;
  std::string_view type;
  std::vector<int64_t> shape; ///< of the whole
  uint64_t bytes = 0;         ///< of the whole
  /// Hands out what this rank is to write, in any pieces: where each begins in the whole, and its bytes.
  using Put = std::function<Status(uint64_t offset, std::span<const std::byte> piece)>;
  std::function<Status(const Put &put)> write;
};

/// One file from many ranks, the same as `writeSafetensors` writes it with a digest. Each calls this with the same
/// tensors and metadata, of which it writes its pieces; rank 0 creates the file, adds the digest and gives it its name.
/// `agree` is called by all ranks between these stages: it makes an error of one that of all.
Status writeSafetensorsTogether(const std::filesystem::path &path, std::vector<TensorPart> tensors,
                                const std::map<std::string, std::string> &metadata, bool isFirst,
                                const std::function<Status(Status own)> &agree);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_SAFETENSORS_H
