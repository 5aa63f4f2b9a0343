//===- ModelFile.cpp ----------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/ModelFile.h"
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace moe::models {
namespace {

/// A file under a temporary name, which is removed again unless `commit` succeeds.
class TemporaryFile {
public:
  explicit TemporaryFile(std::string target)
      : target(std::move(target)), name(this->target + ".tmp-" + std::to_string(getpid())) {}
  TemporaryFile(const TemporaryFile &) = delete;
  TemporaryFile &operator=(const TemporaryFile &) = delete;
  ~TemporaryFile() {
    if (fd >= 0)
      close(fd);
    if (!name.empty())
      unlink(name.c_str());
  }

  Status create() {
    fd = open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
      return failure();
    return {};
  }

  Status resize(uint64_t size) {
    if (ftruncate(fd, static_cast<off_t>(size)) != 0)
      return failure();
    return {};
  }

  Status write(uint64_t offset, const char *data, uint64_t size) {
    while (size > 0) {
      ssize_t count = pwrite(fd, data, size, static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR)
        continue;
      if (count <= 0)
        return failure();
      data += count;
      offset += static_cast<uint64_t>(count);
      size -= static_cast<uint64_t>(count);
    }
    return {};
  }

  /// Everything is on the disk when this returns.
  Status flush() {
    if (fsync(fd) != 0)
      return failure();
    int closing = fd;
    fd = -1;
    if (close(closing) != 0)
      return failure();
    return {};
  }

  Status commit() {
    if (rename(name.c_str(), target.c_str()) != 0)
      return failure();
    name.clear();
    return {};
  }

private:
  Status failure() const {
    return error("cannot write the model file", target, std::strerror(errno),
                 "choose another place with -o, or free some space there");
  }

  std::string target, name;
  int fd = -1;
};

onnx::TensorProto &addInitializer(ModelFile &file, const std::string &name, const std::vector<int64_t> &shape,
                                  uint64_t &offset) {
  onnx::TensorProto &tensor = *file.proto.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  uint64_t bytes = sizeof(float);
  for (int64_t extent : shape) {
    tensor.add_dims(extent);
    bytes *= static_cast<uint64_t>(extent);
  }
  offset = (file.dataSize + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  file.dataSize = offset + bytes;
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  auto entry = [&](const char *key, std::string value) {
    onnx::StringStringEntryProto &pair = *tensor.add_external_data();
    pair.set_key(key);
    pair.set_value(std::move(value));
  };
  entry("location", "");
  entry("offset", std::to_string(offset));
  entry("length", std::to_string(bytes));
  return tensor;
}

} // namespace

void ModelFile::addWeight(const std::string &name, const std::vector<int64_t> &shape) {
  uint64_t offset;
  addInitializer(*this, name, shape, offset);
}

void ModelFile::addTable(const std::string &name, const std::vector<int64_t> &shape, std::vector<float> values) {
  uint64_t offset;
  addInitializer(*this, name, shape, offset);
  blocks.push_back({offset, std::move(values)});
}

Status writeModel(ModelFile &file, const std::string &path) {
  if (std::filesystem::path(path).filename().empty() || std::filesystem::is_directory(path))
    return error("cannot write the model file", path, "it is a directory", "add a file name to -o");
  const std::string dataPath = path + ".data";
  const std::string location = std::filesystem::path(dataPath).filename();
  for (onnx::TensorProto &tensor : *file.proto.mutable_graph()->mutable_initializer())
    for (onnx::StringStringEntryProto &entry : *tensor.mutable_external_data())
      if (entry.key() == "location")
        entry.set_value(location);

  TemporaryFile data(dataPath), model(path);
  std::string message = file.proto.SerializeAsString();
  Status status = data.create().and_then([&] { return data.resize(file.dataSize); });
  for (const ModelFile::Block &block : file.blocks)
    status = status.and_then([&] {
      return data.write(block.offset, reinterpret_cast<const char *>(block.values.data()),
                        block.values.size() * sizeof(float));
    });
  return status.and_then([&] { return data.flush(); })
      .and_then([&] { return model.create(); })
      .and_then([&] { return model.write(0, message.data(), message.size()); })
      .and_then([&] { return model.flush(); })
      .and_then([&] { return data.commit(); })
      .and_then([&] { return model.commit(); });
}

} // namespace moe::models
