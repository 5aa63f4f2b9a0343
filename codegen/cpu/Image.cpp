//===- Image.cpp - Linking kernels into a shared object -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===------------------------------------------------------------------------------------------------------------===//

#include "codegen/cpu/ObjectCode.h"

#include "lld/Common/Driver.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace mlir;

namespace moe::codegen {

namespace {

/// A folder that vanishes with its contents.
struct TemporaryFolder {
  SmallString<128> path;
  ~TemporaryFolder() {
    if (!path.empty())
      llvm::sys::fs::remove_directories(path);
  }
  std::string file(const Twine &name) const {
    SmallString<128> result = path;
    llvm::sys::path::append(result, name);
    return result.str().str();
  }
};

/// A call of a library function is an error here, not when the plan is loaded.
LogicalResult checkImports(Location location, llvm::MemoryBufferRef image, ArrayRef<StringRef> imports) {
  auto object = llvm::object::ELFObjectFile<llvm::object::ELF64LE>::create(image);
  if (!object)
    return emitError(location) << "cannot read the linked kernels: " << llvm::toString(object.takeError());
  for (llvm::object::ELFSymbolRef symbol : object->getDynamicSymbolIterators()) {
    llvm::Expected<uint32_t> flags = symbol.getFlags();
    llvm::Expected<StringRef> name = symbol.getName();
    if (!flags || !name)
      return emitError(location) << "the linked kernels have a broken symbol table";
    if (*flags & llvm::object::SymbolRef::SF_Undefined && !name->empty() && !llvm::is_contained(imports, *name))
      return emitError(location) << "kernels call '" << *name << "', which they may not";
  }
  return success();
}

} // namespace

FailureOr<std::string> linkSharedObject(Location location, ArrayRef<const std::string *> objects,
                                        ArrayRef<StringRef> imports) {
  // The linker reads and writes files, and keeps its state in globals.
  static std::mutex linkerLock;
  std::scoped_lock lock(linkerLock);
  TemporaryFolder folder;
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("moec-kernels", folder.path))
    return emitError(location) << "cannot create a folder for temporary files: " << error.message();
  std::string output = folder.file("kernels.so");
  std::vector<std::string> arguments{"ld.lld",           "-shared",         "-z", "undefs", "-s", "--threads=1",
                                     "--hash-style=gnu", "--build-id=none", "-o", output};
  for (auto [number, object] : llvm::enumerate(objects)) {
    arguments.push_back(folder.file(Twine(number) + ".o"));
    std::error_code error;
    llvm::raw_fd_ostream stream(arguments.back(), error);
    stream << *object;
    stream.close();
    if (error || stream.has_error())
      return emitError(location) << "cannot write the temporary file " << arguments.back() << ": "
                                 << (error ? error : stream.error()).message();
  }
  std::vector<const char *> pointers;
  for (const std::string &argument : arguments)
    pointers.push_back(argument.c_str());
  std::string messages;
  llvm::raw_string_ostream stream(messages);
  lld::Result result = lld::lldMain(pointers, llvm::nulls(), stream, {{lld::Gnu, &lld::elf::link}});
  if (result.retCode != 0)
    return emitError(location) << "linking the kernels failed: " << messages;
  auto image = llvm::MemoryBuffer::getFile(output);
  if (!image)
    return emitError(location) << "cannot read the linked kernels: " << image.getError().message();
  if (failed(checkImports(location, (*image)->getMemBufferRef(), imports)))
    return failure();
  return (*image)->getBuffer().str();
}

} // namespace moe::codegen
