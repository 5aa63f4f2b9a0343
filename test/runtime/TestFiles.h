//===- TestFiles.h - Files for tests -----------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_RUNTIME_TESTFILES_H
#define MOEC_TEST_RUNTIME_TESTFILES_H

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <unistd.h>

namespace moe::test {

/// A folder that is removed with everything in it.
class TemporaryFolder {
public:
  explicit TemporaryFolder(const std::filesystem::path &parent = std::filesystem::temp_directory_path()) {
    std::string pattern = (parent / "moec-test-XXXXXX").string();
    root = ::mkdtemp(pattern.data());
  }
  TemporaryFolder(const TemporaryFolder &) = delete;
  TemporaryFolder &operator=(const TemporaryFolder &) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(root, ignored);
  }

  const std::filesystem::path &path() const { return root; }

  std::filesystem::path write(const std::string &name, std::string_view contents) const {
    std::ofstream(root / name, std::ios::binary) << contents;
    return root / name;
  }

private:
  std::filesystem::path root;
};

inline std::string readFile(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

} // namespace moe::test

#endif // MOEC_TEST_RUNTIME_TESTFILES_H
