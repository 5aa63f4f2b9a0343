//===- SafetensorsWriter.cpp - Writes safetensors files ----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/AtomicFile.h"
#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/Safetensors.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

namespace moe {

static uint64_t bytesOf(const TensorView &tensor) {
  return tensor.byteCount();
}
static uint64_t bytesOf(const TensorPart &tensor) {
  return tensor.bytes;
}

/// Larger elements first, so that all are aligned; then by name.
template <typename Tensor> static void sortForFile(std::vector<Tensor> &tensors) {
  std::ranges::sort(tensors, [](const Tensor &a, const Tensor &b) {
    size_t sizeA = elementSize(a.type), sizeB = elementSize(b.type);
    return sizeA != sizeB ? sizeA > sizeB : a.name < b.name;
  });
}

/// Where the digest stands in a header.
static size_t digestPlace(const std::string &header) {
  std::string field = "\"" + std::string(kDigestKey) + "\":\"";
  return header.find(field) + field.size();
}

static constexpr std::string_view kNoDigest = "0000000000000000";

/// The JSON header, padded with spaces so that the data start at a multiple of 8.
template <typename Tensor>
static std::string headerText(const std::vector<Tensor> &tensors, const std::map<std::string, std::string> &metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty())
    header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const Tensor &tensor : tensors) {
    const uint64_t bytes = bytesOf(tensor);
    header[tensor.name] = {{"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  // Names come from model files: bytes that are not UTF-8 must not throw.
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

/// Fetched bytes go through a buffer of this size: large enough to hide what starting a copy costs.
static constexpr uint64_t kPiece = uint64_t{32} << 20;

/// What was written is read again through one of this size: small beside what the certificate of a rank promises.
static constexpr uint64_t kReadAgain = uint64_t{1} << 20;

/// Calls `take` with the tensor's bytes, in one or several pieces.
static Status forEachPiece(const TensorView &tensor, std::vector<std::byte> &buffer,
                           const std::function<Status(std::span<const std::byte>)> &take) {
  if (!tensor.fetch)
    return take(tensor.bytes);
  buffer.resize(std::min(tensor.remote, kPiece));
  for (uint64_t offset = 0; offset < tensor.remote; offset += kPiece) {
    std::span<std::byte> piece = std::span(buffer).first(std::min(tensor.remote - offset, kPiece));
    if (Status status = tensor.fetch(offset, piece); !status)
      return status;
    if (Status status = take(piece); !status)
      return status;
  }
  return {};
}

Status writeSafetensors(const std::filesystem::path &path, std::vector<TensorView> tensors,
                        const std::map<std::string, std::string> &metadata, bool digest) {
  sortForFile(tensors);
  auto file = AtomicFile::create(path);
  if (!file)
    return tl::unexpected(file.error());

  std::map<std::string, std::string> strings = metadata;
  if (digest)
    strings[std::string(kDigestKey)] = kNoDigest;
  std::string header = headerText(tensors, strings);
  std::vector<std::byte> buffer;
  if (digest) {
    Digest sum;
    sum.add(header);
    for (const TensorView &tensor : tensors) {
      Status status = forEachPiece(tensor, buffer, [&](std::span<const std::byte> piece) {
        sum.add(piece);
        return Status();
      });
      if (!status)
        return status;
    }
    header.replace(digestPlace(header), kNoDigest.size(), hexText(sum.value()));
  }

  uint64_t length = header.size();
  for (std::span<const std::byte> part : {std::as_bytes(std::span(&length, 1)), std::as_bytes(std::span(header))})
    if (Status status = file->write(part); !status)
      return status;
  auto append = [&](std::span<const std::byte> piece) { return file->write(piece); };
  for (const TensorView &tensor : tensors)
    if (Status status = forEachPiece(tensor, buffer, append); !status)
      return status;
  return file->commit();
}

/// Adds the digest of what all ranks have written and gives the file its name.
static Status finishFile(AtomicFile &file, const std::string &header, uint64_t dataBytes) {
  Digest sum;
  sum.add(header);
  std::vector<std::byte> buffer(std::min(dataBytes, kReadAgain));
  const uint64_t data = sizeof(uint64_t) + header.size();
  for (uint64_t offset = 0; offset < dataBytes; offset += kReadAgain) {
    std::span<std::byte> piece = std::span(buffer).first(std::min(dataBytes - offset, kReadAgain));
    if (Status status = file.readAt(data + offset, piece); !status)
      return status;
    sum.add(piece);
  }
  const std::string digest = hexText(sum.value());
  if (Status status = file.writeAt(sizeof(uint64_t) + digestPlace(header), std::as_bytes(std::span(digest))); !status)
    return status;
  return file.commit();
}

Status writeSafetensorsTogether(const std::filesystem::path &path, std::vector<TensorPart> tensors,
                                const std::map<std::string, std::string> &metadata, bool isFirst,
                                const std::function<Status(Status own)> &agree) {
  sortForFile(tensors);
  std::map<std::string, std::string> strings = metadata;
  strings[std::string(kDigestKey)] = kNoDigest;
  const std::string header = headerText(tensors, strings);
  const uint64_t length = header.size();

  std::unique_ptr<AtomicFile> file;
  Status own;
  auto open = [&](Expected<AtomicFile> opened) {
    if (opened)
      file = std::make_unique<AtomicFile>(std::move(*opened));
    else
      own = tl::unexpected(std::move(opened.error()));
  };
  if (isFirst) {
    open(AtomicFile::create(path));
    if (own)
      own = file->write(std::as_bytes(std::span(&length, 1)));
    if (own)
      own = file->write(std::as_bytes(std::span(header)));
  }
  if (Status status = agree(own); !status)
    return status;

  if (!isFirst)
    open(AtomicFile::join(path));
  uint64_t begin = sizeof(length) + length;
  for (const TensorPart &tensor : tensors) {
    if (own)
      own = tensor.write(
          [&](uint64_t offset, std::span<const std::byte> piece) { return file->writeAt(begin + offset, piece); });
    begin += tensor.bytes;
  }
  if (own && !isFirst)
    own = file->sync();
  if (Status status = agree(own); !status)
    return status;
  return agree(isFirst ? finishFile(*file, header, begin - sizeof(length) - length) : Status());
}

} // namespace moe
