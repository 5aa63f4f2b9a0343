//===- CheckpointFolder.cpp - The checkpoints of a run -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/CheckpointFolder.h"

#include "runtime/checkpoint/AtomicFile.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace moe {

static constexpr std::string_view prefix = "checkpoint_", suffix = ".safetensors";

/// The number in `checkpoint_NNNN.safetensors`; -1 for other names.
static int64_t updatesOf(std::string_view name) {
  if (!name.starts_with(prefix) || !name.ends_with(suffix) || name.size() <= prefix.size() + suffix.size())
    return -1;
  std::string_view digits = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
  int64_t updates = -1;
  auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), updates);
  return failure == std::errc() && end == digits.data() + digits.size() ? updates : -1;
}

/// A killed save leaves `.checkpoint_NNNN.safetensors.tmp`.
static bool isLeftover(std::string_view name) {
  return name.starts_with('.') && name.ends_with(".tmp") && updatesOf(name.substr(1, name.size() - 5)) >= 0;
}

Expected<CheckpointFolder> CheckpointFolder::open(const std::filesystem::path &folder) {
  CheckpointFolder result;
  result.folder = folder;
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return error("cannot use the checkpoint folder", folder.string(),
                 failure ? failure.message() : std::strerror(errno), "give another folder with --save-dir");
  result.lock = fd;
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return error("another run is saving to this folder", folder.string(), {},
                 "wait for it to end, or give another --save-dir");
  std::vector<std::filesystem::path> leftovers;
  for (const auto &entry : std::filesystem::directory_iterator(folder, failure))
    if (isLeftover(entry.path().filename().string()))
      leftovers.push_back(entry.path());
  for (const auto &path : leftovers)
    std::filesystem::remove(path, failure);
  if (Status status = checkWritable(result.fileOf(0)); !status) {
    Diagnostic problem = status.error();
    problem.what = "cannot write to the checkpoint folder";
    problem.where = folder.string();
    return tl::unexpected(std::move(problem));
  }
  return result;
}

CheckpointFolder CheckpointFolder::follow(const std::filesystem::path &folder) {
  CheckpointFolder result;
  result.folder = folder;
  return result;
}

CheckpointFolder::CheckpointFolder(CheckpointFolder &&other) noexcept
    : folder(std::move(other.folder)), lock(std::exchange(other.lock, -1)) {}

CheckpointFolder::~CheckpointFolder() {
  if (lock >= 0)
    ::close(lock);
}

std::filesystem::path CheckpointFolder::fileOf(int64_t updates) const {
  char name[64];
  std::snprintf(name, sizeof(name), "checkpoint_%08lld.safetensors", static_cast<long long>(updates));
  return folder / name;
}

std::vector<std::filesystem::path> CheckpointFolder::listCheckpoints(const std::filesystem::path &folder) {
  std::vector<std::pair<int64_t, std::filesystem::path>> found;
  std::error_code failure;
  for (const auto &entry : std::filesystem::directory_iterator(folder, failure))
    if (int64_t updates = updatesOf(entry.path().filename().string()); updates >= 0)
      found.emplace_back(updates, entry.path());
  std::ranges::sort(found, std::greater<>());
  std::vector<std::filesystem::path> paths;
  for (auto &[updates, path] : found)
    paths.push_back(std::move(path));
  return paths;
}

Status CheckpointFolder::save(Session &session, const CheckpointInfo &info, int64_t keepLast) {
  if (Status status = saveCheckpoint(fileOf(info.updates), session, info); !status)
    return status;
  if (keepLast <= 0 || session.rank() != 0)
    return {};
  // Files with a higher number are none of this run's making (a damaged one that --resume has passed over): neither
  // counted, or the one just saved could be deleted, nor deleted.
  std::vector<std::filesystem::path> files = list();
  std::erase_if(files, [&](const auto &path) { return updatesOf(path.filename().string()) > info.updates; });
  std::error_code ignored; // An old file that cannot be deleted is no reason to lose a run.
  for (size_t i = size_t(keepLast); i < files.size(); ++i)
    std::filesystem::remove(files[i], ignored);
  return {};
}

Expected<std::optional<CheckpointFile>>
CheckpointFolder::newest(const std::filesystem::path &folder, const std::function<void(const std::string &)> &notice) {
  std::vector<std::filesystem::path> files = listCheckpoints(folder);
  for (const auto &path : files) {
    auto file = CheckpointFile::open(path);
    if (file)
      return std::optional<CheckpointFile>(std::move(*file));
    notice(file.error().str());
  }
  if (!files.empty())
    return error("no checkpoint can be read", folder.string(),
                 "all " + std::to_string(files.size()) + " are damaged or of another format (see above)",
                 "restore one, or start anew in another --save-dir");
  return std::optional<CheckpointFile>();
}

} // namespace moe
