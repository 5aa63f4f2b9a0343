//===- ModelData.cpp - Reading the elements of initializers -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Model.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Path.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace moe::frontend {
namespace {

class OpenFile {
public:
  explicit OpenFile(const char *path) : fd(::open(path, O_RDONLY | O_CLOEXEC)) {}
  OpenFile(const OpenFile &) = delete;
  OpenFile &operator=(const OpenFile &) = delete;
  ~OpenFile() {
    if (fd >= 0)
      ::close(fd);
  }
  bool read(char *data, uint64_t size, uint64_t offset) const {
    while (size > 0) {
      ssize_t count = ::pread(fd, data, size, static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR)
        continue;
      if (count <= 0)
        return false;
      data += count;
      offset += static_cast<uint64_t>(count);
      size -= static_cast<uint64_t>(count);
    }
    return true;
  }
  const int fd;
};

bool allZero(const char *data, size_t size) {
  return std::all_of(data, data + size, [](char byte) { return byte == 0; });
}

template <typename Stored, typename Field> void append(std::string &elements, const Field &field) {
  for (auto item : field) {
    Stored value = static_cast<Stored>(item);
    elements.append(reinterpret_cast<const char *>(&value), sizeof(value));
  }
}

} // namespace

bool Model::readElements(const onnx::TensorProto &tensor, std::string &elements) const {
  std::optional<int64_t> count = elementCount(tensor);
  if (!count)
    return false;
  uint64_t bytes = static_cast<uint64_t>(*count) * onnxElementBytes(tensor.data_type());
  elements.clear();
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
    return readElements(tensor, 0, bytes, elements);
  if (tensor.has_raw_data()) {
    elements = tensor.raw_data();
    return elements.size() == bytes;
  }
  switch (tensor.data_type()) {
  case onnx::TensorProto::FLOAT:
    append<float>(elements, tensor.float_data());
    break;
  case onnx::TensorProto::DOUBLE:
    append<double>(elements, tensor.double_data());
    break;
  case onnx::TensorProto::INT64:
    append<int64_t>(elements, tensor.int64_data());
    break;
  case onnx::TensorProto::INT32:
    append<int32_t>(elements, tensor.int32_data());
    break;
  case onnx::TensorProto::UINT32:
    append<uint32_t>(elements, tensor.uint64_data());
    break;
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::UINT16:
    append<uint16_t>(elements, tensor.int32_data());
    break;
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::UINT8:
  case onnx::TensorProto::BOOL:
    append<uint8_t>(elements, tensor.int32_data());
    break;
  default:
    return false;
  }
  return elements.size() == bytes;
}

bool Model::readElements(const onnx::TensorProto &tensor, uint64_t offset, uint64_t bytes,
                         std::string &elements) const {
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
    std::optional<Storage> place = storage(tensor);
    llvm::SmallString<256> name(folder());
    llvm::sys::path::append(name, place->location);
    OpenFile data(name.c_str());
    elements.resize(bytes);
    return data.fd >= 0 && data.read(elements.data(), bytes, place->offset + offset);
  }
  if (tensor.has_raw_data()) {
    elements = tensor.raw_data().substr(offset, bytes);
    return elements.size() == bytes;
  }
  std::string all;
  if (!readElements(tensor, all))
    return false;
  elements = all.substr(offset, bytes);
  return true;
}

bool Model::isZero(const onnx::TensorProto &tensor) const {
  if (tensor.data_location() != onnx::TensorProto::EXTERNAL) {
    std::string elements;
    return readElements(tensor, elements) && allZero(elements.data(), elements.size());
  }
  std::optional<Storage> place = storage(tensor);
  llvm::SmallString<256> name(folder());
  llvm::sys::path::append(name, place->location);
  OpenFile data(name.c_str());
  if (data.fd < 0)
    return false;
  const uint64_t end = place->offset + place->bytes;
  std::string chunk;
  for (uint64_t position = place->offset; position < end;) {
    // A file system without holes reports everything as data; then everything is read.
    off_t found = ::lseek(data.fd, static_cast<off_t>(position), SEEK_DATA);
    if (found < 0)
      return errno == ENXIO;
    position = std::max(position, static_cast<uint64_t>(found));
    if (position >= end)
      return true;
    chunk.resize(std::min<uint64_t>(end - position, 1 << 20));
    if (!data.read(chunk.data(), chunk.size(), position) || !allZero(chunk.data(), chunk.size()))
      return false;
    position += chunk.size();
  }
  return true;
}

} // namespace moe::frontend
