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
#include <nlohmann/json.hpp>

namespace moe {

/// The JSON header, padded with spaces so that the data start at a multiple of 8.
static std::string headerText(const std::vector<TensorView> &tensors,
                              const std::map<std::string, std::string> &metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty())
    header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const TensorView &tensor : tensors) {
    header[tensor.name] = {
        {"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.byteCount()}}};
    offset += tensor.byteCount();
  }
  // Names come from model files: bytes that are not UTF-8 must not throw.
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

/// Fetched bytes go through a buffer of this size: large enough to hide what starting a copy costs.
static constexpr uint64_t kPiece = uint64_t{32} << 20;

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
  std::ranges::sort(tensors, [](const TensorView &a, const TensorView &b) {
    size_t sizeA = elementSize(a.type), sizeB = elementSize(b.type);
    return sizeA != sizeB ? sizeA > sizeB : a.name < b.name;
  });
  auto file = AtomicFile::create(path);
  if (!file)
    return tl::unexpected(file.error());

  std::map<std::string, std::string> strings = metadata;
  if (digest)
    strings[std::string(kDigestKey)] = std::string(16, '0');
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
    std::string field = "\"" + std::string(kDigestKey) + "\":\"";
    header.replace(header.find(field) + field.size(), 16, hexText(sum.value()));
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

} // namespace moe
