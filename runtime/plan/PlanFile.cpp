//===- PlanFile.cpp - Reading and writing plan files --------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/plan/PlanFile.h"
#include "runtime/plan/ProtobufLog.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <limits>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>
#include <xxhash.h>

namespace moe {
namespace {

static_assert(std::endian::native == std::endian::little, "plan files are little endian and read without swapping");

constexpr char kMagic[8] = {'M', 'O', 'E', 'P', 'L', 'A', 'N', '\0'};
constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kMaxMessageBytes = std::numeric_limits<int32_t>::max(); // protobuf's own limit
constexpr char kCompileAgain[] = "compile the model again, or copy the plan again from where it was compiled";

/// The fixed part in front of the message.
struct FilePrefix {
  char magic[8];
  uint32_t version;
  uint32_t zero;
  uint64_t messageBytes;
  uint64_t messageDigest;
};
static_assert(sizeof(FilePrefix) == 32);

uint64_t roundUp(uint64_t value) {
  return (value + kAlignment - 1) / kAlignment * kAlignment;
}

std::string systemError(int code) {
  return std::strerror(code);
}

/// A file descriptor that closes itself.
class Descriptor {
public:
  explicit Descriptor(int fd) : fd(fd) {}
  ~Descriptor() {
    if (fd >= 0)
      ::close(fd);
  }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;

  int get() const { return fd; }
  /// Closes and reports what close reports (a delayed write error on network file systems).
  bool close() { return ::close(std::exchange(fd, -1)) == 0; }

private:
  int fd;
};

/// False on an error (errno set) or an early end of the file (errno 0).
bool readExactly(int fd, uint64_t offset, void *data, uint64_t bytes) {
  char *out = static_cast<char *>(data);
  while (bytes > 0) {
    ssize_t got = ::pread(fd, out, std::min<uint64_t>(bytes, 1u << 30), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      errno = got == 0 ? 0 : errno;
      return false;
    }
    out += got;
    offset += got;
    bytes -= got;
  }
  return true;
}

bool writeExactly(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t put = ::write(fd, data.data(), std::min<size_t>(data.size(), 1u << 30));
    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0) {
      errno = put == 0 ? ENOSPC : errno;
      return false;
    }
    data.remove_prefix(put);
  }
  return true;
}

tl::unexpected<Diagnostic> damaged(const std::filesystem::path &path, std::string why) {
  return error("the plan file is damaged", path.string(), std::move(why), kCompileAgain);
}

/// Looks without touching: DiscardUnknownFields would leave an allocated set of none in every message, which each copy
/// of a slice during training would then allocate again.
bool hasUnknownFields(const google::protobuf::Message &message) {
  const google::protobuf::Reflection &reflection = *message.GetReflection();
  if (!reflection.GetUnknownFields(message).empty())
    return true;
  std::vector<const google::protobuf::FieldDescriptor *> fields;
  reflection.ListFields(message, &fields);
  for (const google::protobuf::FieldDescriptor *field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE)
      continue;
    if (!field->is_repeated()) {
      if (hasUnknownFields(reflection.GetMessage(message, field)))
        return true;
      continue;
    }
    for (int i = 0, n = reflection.FieldSize(message, field); i < n; ++i)
      if (hasUnknownFields(reflection.GetRepeatedMessage(message, field, i)))
        return true;
  }
  return false;
}

/// Reads [begin, end) and checks that every byte is zero: padding is part of what must not be altered.
Expected<bool> isZero(int fd, uint64_t begin, uint64_t end, const std::filesystem::path &path) {
  std::string padding(end - begin, '\0');
  if (!readExactly(fd, begin, padding.data(), padding.size()))
    return error("cannot read the plan file", path.string(), systemError(errno));
  return std::all_of(padding.begin(), padding.end(), [](char c) { return c == 0; });
}

/// Reads the blobs that `plan.images` describe. `begin` is where the blob section starts.
Status readBlobs(int fd, uint64_t begin, uint64_t fileBytes, const std::filesystem::path &path, PlanFile &file) {
  // Blobs lie in the order of the images without gaps beyond the alignment, so that each byte of the file is accounted
  // for by one digest or by the check for zero padding.
  uint64_t end = begin;
  for (int i = 0; i < file.plan.images_size(); ++i) {
    const plan::Image &image = file.plan.images(i);
    uint64_t start = roundUp(end);
    if (start > fileBytes || image.bytes() > fileBytes - start)
      return damaged(path, "image " + std::to_string(i) + " ends beyond the end of the file");
    if (image.blob_offset() != start - begin)
      return damaged(path, "image " + std::to_string(i) + " does not lie where its place in the file is");
    Expected<bool> zero = isZero(fd, end, start, path);
    if (!zero)
      return tl::unexpected(std::move(zero.error()));
    if (!*zero)
      return damaged(path, "the padding before image " + std::to_string(i) + " has been altered");
    std::string blob(image.bytes(), '\0');
    if (!readExactly(fd, start, blob.data(), blob.size()))
      return error("cannot read the plan file", path.string(), systemError(errno));
    if (XXH3_64bits(blob.data(), blob.size()) != image.digest())
      return damaged(path, "image " + std::to_string(i) + " does not match its digest");
    file.blobs.push_back(std::move(blob));
    end = start + image.bytes();
  }
  if (end != fileBytes)
    return damaged(path, std::to_string(fileBytes - end) + " bytes follow the last image");
  return {};
}

} // namespace

Expected<PlanFile> PlanFile::read(const std::filesystem::path &path) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0)
    return error("cannot open the plan file", path.string(), systemError(errno));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0)
    return error("cannot read the plan file", path.string(), systemError(errno));
  if (!S_ISREG(status.st_mode))
    return error("the plan is not a file", path.string(), "a plan is a regular file written by `moec compile`");

  uint64_t fileBytes = status.st_size;
  FilePrefix prefix{};
  uint64_t available = std::min<uint64_t>(fileBytes, sizeof(prefix));
  if (!readExactly(fd.get(), 0, &prefix, available))
    return error("cannot read the plan file", path.string(), systemError(errno));
  if (available < sizeof(kMagic) || std::memcmp(prefix.magic, kMagic, sizeof(kMagic)) != 0)
    return error("not a plan file", path.string(), "it does not start with the mark of a moec plan",
                 "give a file that `moec compile` has written");
  if (available < sizeof(prefix))
    return damaged(path, "it ends within its first 32 bytes");
  // The version comes before any other check: all that follows may differ in another version.
  if (prefix.version != kPlanFormatVersion)
    return error("the plan has another format version", path.string(),
                 "it has version " + std::to_string(prefix.version) + ", this program reads version " +
                     std::to_string(kPlanFormatVersion),
                 "compile the model again with the moec of this release");
  if (prefix.zero != 0)
    return damaged(path, "a reserved field is not zero");
  if (prefix.messageBytes > fileBytes - sizeof(prefix))
    return damaged(path, "it is " + std::to_string(fileBytes) + " bytes long, but its message alone has " +
                             std::to_string(prefix.messageBytes));
  if (prefix.messageBytes > kMaxMessageBytes)
    return damaged(path, "its message is larger than 2 GiB");

  PlanFile file;
  {
    std::string message(prefix.messageBytes, '\0');
    if (!readExactly(fd.get(), sizeof(prefix), message.data(), message.size()))
      return error("cannot read the plan file", path.string(), systemError(errno));
    if (XXH3_64bits(message.data(), message.size()) != prefix.messageDigest)
      return damaged(path, "the message does not match its digest");
    ProtobufSilence silence;
    if (!file.plan.ParseFromArray(message.data(), static_cast<int>(message.size())))
      return damaged(path, "the message is not a plan");
    // A field that this program does not know may say what must not be left out.
    if (hasUnknownFields(file.plan))
      return error("the plan says things that this program does not know", path.string(),
                   "it was written by another release", "use the moerun of the moec that compiled it");
  }

  uint64_t messageEnd = sizeof(prefix) + prefix.messageBytes;
  uint64_t blobs = roundUp(messageEnd);
  if (blobs > fileBytes)
    return damaged(path, "it ends within the padding after the message");
  Expected<bool> zero = isZero(fd.get(), messageEnd, blobs, path);
  if (!zero)
    return tl::unexpected(std::move(zero.error()));
  if (!*zero)
    return damaged(path, "the padding after the message has been altered");
  if (Status status = readBlobs(fd.get(), blobs, fileBytes, path, file); !status)
    return tl::unexpected(std::move(status.error()));
  return file;
}

Status PlanFile::write(const std::filesystem::path &path) {
  if (static_cast<size_t>(plan.images_size()) != blobs.size())
    return error("cannot write the plan file", path.string(),
                 "it has " + std::to_string(plan.images_size()) + " images but " + std::to_string(blobs.size()) +
                     " blobs",
                 {}, ExitCode::Internal);
  uint64_t offset = 0;
  for (int i = 0; i < plan.images_size(); ++i) {
    plan::Image &image = *plan.mutable_images(i);
    offset = roundUp(offset);
    image.set_blob_offset(offset);
    image.set_bytes(blobs[i].size());
    image.set_digest(XXH3_64bits(blobs[i].data(), blobs[i].size()));
    offset += blobs[i].size();
  }
  if (plan.ByteSizeLong() > kMaxMessageBytes)
    return error("cannot write the plan file", path.string(), "the plan is larger than 2 GiB");
  std::string message = plan.SerializeAsString();

  FilePrefix prefix{};
  std::memcpy(prefix.magic, kMagic, sizeof(kMagic));
  prefix.version = kPlanFormatVersion;
  prefix.messageBytes = message.size();
  prefix.messageDigest = XXH3_64bits(message.data(), message.size());

  std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  std::filesystem::path temporary =
      folder / ("." + path.filename().string() + ".tmp." + std::to_string(static_cast<long>(::getpid())));
  auto failed = [&](std::string what) {
    std::string why = systemError(errno);
    ::unlink(temporary.c_str());
    return error(std::move(what), path.string(), why, "write to a folder that exists, is writable and has space");
  };

  Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (fd.get() < 0)
    return failed("cannot create the plan file");
  uint64_t written = 0;
  auto put = [&](std::string_view data) {
    written += data.size();
    return writeExactly(fd.get(), data);
  };
  auto pad = [&] { return put(std::string(roundUp(written) - written, '\0')); };
  bool ok = put({reinterpret_cast<const char *>(&prefix), sizeof(prefix)}) && put(message) && pad();
  for (size_t i = 0; ok && i < blobs.size(); ++i)
    ok = pad() && put(blobs[i]);
  if (!ok || ::fsync(fd.get()) != 0 || !fd.close())
    return failed("cannot write the plan file");
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return failed("cannot write the plan file");
  // The new name itself must survive a power failure. Some file systems refuse to sync a folder; the plan is there.
  Descriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0)
    ::fsync(directory.get());
  return {};
}

} // namespace moe
