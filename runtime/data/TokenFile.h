//===- TokenFile.h - Text or token ids as one long stream --------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_TOKENFILE_H
#define MOEC_RUNTIME_DATA_TOKENFILE_H

#include "runtime/core/Diagnostic.h"
#include "runtime/data/MappedFile.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace moe {

/// A stream of tokens in a memory-mapped file:
///   - a `.npy` array of integers of any width, one- or two-dimensional (its rows one after the other),
///   - a `.bin` file with its `.idx` (TokenIndex.h), given as either of them or as what their names have in common, or
///   - any other file as bytes: token = byte + 4, since ids 0 to 3 are fairseq's <s>, <pad>, </s>, <unk>.
class TokenFile {
public:
  static constexpr int64_t firstByteToken = 4;
  static constexpr int64_t byteVocabulary = 256 + firstByteToken;

  /// Opens the file and looks at every token, so that no bad one can end a run hours later. Errors: unreadable, empty,
  /// a token outside [0, vocabulary) with its position and value, raw bytes for a vocabulary below 260.
  static Expected<TokenFile> open(const std::filesystem::path &path, int64_t vocabulary);

  /// Tokens in the stream.
  int64_t size() const { return elements; }
  bool isBytes() const { return bytesAsTokens; }
  const std::filesystem::path &path() const { return file.path(); }
  /// Where documents begin, and the end of the last one; empty if the file does not say it.
  const std::vector<int64_t> &documents() const { return begins; }

  /// Tokens [begin, begin + out.size()), which must lie inside the stream. Fails if the file has been altered since
  /// `open` so that a token has left the vocabulary.
  Status read(int64_t begin, std::span<int64_t> out) const;

private:
  explicit TokenFile(MappedFile file) : file(std::move(file)) {}
  Status readIndex(const std::filesystem::path &path);
  Status readFormat();

  template <typename T> int64_t firstInvalid(int64_t begin, int64_t end) const;
  int64_t firstInvalid(int64_t begin, int64_t end) const;
  int64_t tokenAt(int64_t index) const;
  Status invalidToken(int64_t index) const;

  MappedFile file;
  const std::byte *data = nullptr;
  int width = 1;
  bool isSigned = false;
  bool bytesAsTokens = false;
  int64_t elements = 0;
  int64_t vocabulary = 0;
  std::vector<int64_t> begins;
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_TOKENFILE_H
