//===- TokenFile.cpp - Text or token ids as one long stream ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/TokenFile.h"

#include "runtime/data/NpyHeader.h"
#include "runtime/data/TokenIndex.h"

#include <cstring>
#include <limits>

namespace moe {

template <typename T> static T load(const std::byte *data, int64_t index) {
  T value; // The array need not be aligned in the file.
  std::memcpy(&value, data + index * int64_t(sizeof(T)), sizeof(T));
  return value;
}

int64_t TokenFile::tokenAt(int64_t index) const {
  switch (width) {
  case 1:
    return isSigned ? int64_t(load<int8_t>(data, index))
                    : int64_t(load<uint8_t>(data, index)) + (bytesAsTokens ? firstByteToken : 0);
  case 2:
    return isSigned ? int64_t(load<int16_t>(data, index)) : int64_t(load<uint16_t>(data, index));
  case 4:
    return isSigned ? int64_t(load<int32_t>(data, index)) : int64_t(load<uint32_t>(data, index));
  default:
    return load<int64_t>(data, index); // A uint64 of 2^63 or more becomes negative, hence invalid.
  }
}

/// Position of the first token of [begin, end) outside the vocabulary, or `end`. Unsigned comparison catches negatives.
template <typename T> int64_t TokenFile::firstInvalid(int64_t begin, int64_t end) const {
  const uint64_t limit = uint64_t(vocabulary);
  constexpr int64_t block = 4096;
  for (int64_t start = begin; start < end; start += block) {
    int64_t stop = std::min(start + block, end);
    bool bad = false;
    for (int64_t i = start; i < stop; ++i)
      bad |= uint64_t(int64_t(load<T>(data, i))) >= limit;
    for (int64_t i = start; bad && i < stop; ++i)
      if (uint64_t(int64_t(load<T>(data, i))) >= limit)
        return i;
  }
  return end;
}

int64_t TokenFile::firstInvalid(int64_t begin, int64_t end) const {
  if (bytesAsTokens)
    return end;
  switch (width) {
  case 1:
    return isSigned ? firstInvalid<int8_t>(begin, end) : firstInvalid<uint8_t>(begin, end);
  case 2:
    return isSigned ? firstInvalid<int16_t>(begin, end) : firstInvalid<uint16_t>(begin, end);
  case 4:
    return isSigned ? firstInvalid<int32_t>(begin, end) : firstInvalid<uint32_t>(begin, end);
  default:
    return firstInvalid<int64_t>(begin, end);
  }
}

Status TokenFile::invalidToken(int64_t index) const {
  int64_t token = tokenAt(index);
  std::string value = std::to_string(token);
  if (width == 8 && !isSigned)
    value = std::to_string(static_cast<uint64_t>(token));
  return error("token outside the vocabulary", path().string() + ", position " + std::to_string(index),
               "the token is " + value + ", the model's vocabulary has " + std::to_string(vocabulary) + " entries",
               "use the vocabulary that the model was made for, or make the model with a larger --vocab-size");
}

Status TokenFile::readIndex(const std::filesystem::path &path) {
  auto mapped = MappedFile::open(path);
  if (!mapped)
    return tl::unexpected(mapped.error());
  auto index = parseTokenIndex(mapped->bytes(), file.bytes().size(), path.string());
  if (!index)
    return tl::unexpected(index.error());
  width = index->width;
  isSigned = index->isSigned;
  elements = int64_t(file.bytes().size()) / width;
  begins = std::move(index->begins);
  return {};
}

Status TokenFile::readFormat() {
  std::span<const std::byte> bytes = file.bytes();
  if (isNpy(bytes) || path().extension() == ".npy") {
    auto header = parseNpyHeader(bytes, path().string());
    if (!header)
      return tl::unexpected(header.error());
    data += header->dataOffset;
    width = header->width;
    isSigned = header->isSigned;
    elements = header->elements;
    return elements == 0 ? error("the data file is empty", path().string(), "its array has no elements") : Status();
  }
  bytesAsTokens = true;
  elements = static_cast<int64_t>(bytes.size());
  if (vocabulary < byteVocabulary)
    return error("the model cannot read raw text", path().string(),
                 "bytes become the tokens 4 to 259, the model's vocabulary has " + std::to_string(vocabulary) +
                     " entries",
                 "give token ids (.npy, or .bin with .idx), or make the model with --vocab-size 260 or more");
  return {};
}

Expected<TokenFile> TokenFile::open(const std::filesystem::path &given, int64_t vocabulary) {
  std::error_code ignored;
  std::filesystem::path path = given, index = given;
  index.replace_extension(".idx");
  if (!std::filesystem::exists(path, ignored) || path.extension() == ".idx") {
    // A prefix may hold dots itself.
    if (path.extension() != ".idx" && path.extension() != ".bin")
      index = path.string() + ".idx";
    if (std::filesystem::exists(index, ignored))
      path = std::filesystem::path(index).replace_extension(".bin");
  }
  auto mapped = MappedFile::open(path);
  if (!mapped)
    return tl::unexpected(mapped.error());
  TokenFile tokens(std::move(*mapped));
  tokens.vocabulary = vocabulary;
  tokens.data = tokens.file.bytes().data();
  if (tokens.file.bytes().empty())
    return error("the data file is empty", path.string(), "there is nothing to train or evaluate on");
  const bool indexed = path.extension() == ".bin" && std::filesystem::exists(index, ignored);
  if (path.extension() == ".bin" && !indexed)
    return error("there is no index of the tokens", index.string(),
                 "a .bin file is read by the .idx file of Megatron-LM or fairseq beside it",
                 "put it there, or give text another extension");
  if (Status status = indexed ? tokens.readIndex(index) : tokens.readFormat(); !status)
    return tl::unexpected(status.error());
  int64_t bad = tokens.firstInvalid(0, tokens.elements);
  if (bad < tokens.elements)
    return tl::unexpected(tokens.invalidToken(bad).error());
  return tokens;
}

Status TokenFile::read(int64_t begin, std::span<int64_t> out) const {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = tokenAt(begin + int64_t(i));
    if (uint64_t(out[i]) >= uint64_t(vocabulary))
      return invalidToken(begin + int64_t(i));
  }
  return {};
}

} // namespace moe
