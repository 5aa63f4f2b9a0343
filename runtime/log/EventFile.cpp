//===- EventFile.cpp - Curves for TensorBoard --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/log/EventFile.h"

#include "runtime/log/event.pb.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <unistd.h>

namespace moe {

uint32_t crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> entries{};
    for (uint32_t i = 0; i < 256; ++i) {
      entries[i] = i;
      for (int bit = 0; bit < 8; ++bit)
        entries[i] = (entries[i] >> 1) ^ (entries[i] & 1 ? 0x82F63B78u : 0u);
    }
    return entries;
  }();
  uint32_t crc = ~uint32_t(0);
  for (char c : bytes)
    crc = (crc >> 8) ^ table[(crc ^ uint8_t(c)) & 0xFF];
  return ~crc;
}

template <typename T> static void append(std::string &record, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T)); // All targets are little endian, like the plan.
  record.append(bytes, sizeof(T));
}

static uint32_t masked(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

static double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

static tl::unexpected<Diagnostic> failure(const std::filesystem::path &path, int problem) {
  return error("cannot write events for TensorBoard", path.string(), std::strerror(problem),
               "make room or give another --tensorboard");
}

Expected<EventFile> EventFile::create(const std::filesystem::path &folder) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem)
    return failure(folder, problem.value());
  const std::string stem = "events.out.tfevents." + std::to_string(int64_t(now())) + "." + std::to_string(::getpid());
  std::filesystem::path path = folder / stem;
  int fd = -1;
  for (int other = 0; fd < 0; ++other) {
    fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST)
      return failure(path, errno);
    if (fd < 0)
      path = folder / (stem + "." + std::to_string(other));
  }
  EventFile file(path, fd);
  tensorboard::Event first;
  first.set_wall_time(now());
  first.set_file_version("brain.Event:2");
  if (Status status = file.write(first.SerializeAsString()); !status)
    return tl::unexpected(status.error());
  return file;
}

EventFile::~EventFile() {
  if (fd >= 0)
    ::close(fd);
}

Status EventFile::add(int64_t step, const LogRecord &fields) {
  tensorboard::Event event;
  event.set_wall_time(now());
  event.set_step(step);
  for (const auto &[key, value] : fields.items())
    if (value.is_number()) {
      tensorboard::Summary::Value &scalar = *event.mutable_summary()->add_value();
      scalar.set_tag(key);
      scalar.set_simple_value(value.get<float>());
    }
  return write(event.SerializeAsString());
}

Status EventFile::write(std::string_view message) {
  std::string record;
  append(record, uint64_t(message.size()));
  append(record, masked(record));
  record += message;
  append(record, masked(message));
  for (std::string_view left = record; !left.empty();) {
    const ssize_t written = ::write(fd, left.data(), left.size());
    if (written < 0 && errno != EINTR)
      return failure(path, errno);
    left.remove_prefix(size_t(std::max<ssize_t>(written, 0)));
  }
  return {};
}

} // namespace moe
