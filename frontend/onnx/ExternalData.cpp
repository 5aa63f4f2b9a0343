//===- ExternalData.cpp -------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ExternalData.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <tuple>

namespace fs = llvm::sys::fs;
namespace path = llvm::sys::path;

namespace moe::frontend {
namespace {

constexpr const char *kExport = "write the model again with `moec model`, or export it again";

} // namespace

ExternalDataCheck::ExternalDataCheck(const std::string &model, std::vector<Diagnostic> &diagnostics)
    : model(model), folder(path::parent_path(model)), diagnostics(diagnostics) {
  // Stores of downloaded models keep both files elsewhere and link to them: a model that is itself reached by a link
  // may have its data beside the file that is meant.
  llvm::SmallString<256> real;
  if (!fs::real_path(folder.empty() ? "." : llvm::StringRef(folder), real))
    roots.emplace_back(real.str());
  if (!fs::real_path(model, real))
    roots.emplace_back(path::parent_path(real));
}

void ExternalDataCheck::refuse(const std::string &tensor, std::string why, std::string remedy) {
  diagnostics.push_back({"initializer '" + tensor + "' cannot be used", model, std::move(why), std::move(remedy)});
}

bool ExternalDataCheck::isInside(llvm::StringRef name) const {
  return llvm::any_of(roots, [&](llvm::StringRef root) {
    llvm::StringRef rest = name;
    return rest.consume_front(root) && (root.ends_with("/") || rest.starts_with("/"));
  });
}

void ExternalDataCheck::add(const onnx::TensorProto &tensor, const Storage &place) {
  const std::string data = "its external data '" + place.location + "' ";
  bool escapes = path::is_absolute(place.location);
  for (auto part = path::begin(place.location); part != path::end(place.location); ++part)
    escapes |= *part == "..";
  if (escapes)
    return refuse(tensor.name(), data + "lie outside the folder of the model", kExport);
  if (place.location.find('\0') != std::string::npos)
    return refuse(tensor.name(), "the name of its external data holds a zero byte", kExport);
  if (damaged.contains(place.location))
    return;
  llvm::SmallString<256> name(folder), real;
  path::append(name, place.location);
  fs::file_status status;
  std::error_code code = fs::status(name, status);
  if (!code && fs::is_directory(status))
    code = std::make_error_code(std::errc::is_a_directory);
  if (!code)
    code = fs::real_path(name, real);
  const bool linked = !code && !isInside(real);
  const bool tooShort = !code && (place.offset > status.getSize() || place.bytes > status.getSize() - place.offset);
  if (code || linked || tooShort)
    damaged.insert(place.location);
  if (code)
    return refuse(tensor.name(), data + "cannot be read: " + code.message(), kExport);
  if (linked)
    return refuse(tensor.name(), data + "are a link to '" + real.str().str() + "', outside the folder of the model",
                  "copy the file into the folder of the model, in place of the link");
  if (tooShort)
    return refuse(tensor.name(), data + "end before byte " + std::to_string(place.offset + place.bytes), kExport);
  if (place.bytes > 0)
    ranges.push_back({status.getUniqueID(), place.offset, place.offset + place.bytes, tensor.name(), place.location});
}

void ExternalDataCheck::finish() {
  llvm::sort(ranges, [](const Range &a, const Range &b) {
    return std::tie(a.file, a.begin, a.end, a.tensor) < std::tie(b.file, b.begin, b.end, b.tensor);
  });
  // Up to the first overlap of a file its ranges end in the order in which they begin: the neighbours tell.
  const Range *previous = nullptr;
  for (const Range &range : ranges) {
    const bool sameFile = previous && previous->file == range.file;
    const bool isTie = sameFile && previous->begin == range.begin && previous->end == range.end;
    if (sameFile && !isTie && range.begin < previous->end) {
      if (!damaged.insert(range.location).second)
        continue;
      refuse(range.tensor,
             "its external data, bytes " + std::to_string(range.begin) + " to " + std::to_string(range.end) + " of '" +
                 range.location + "', overlap in part with bytes " + std::to_string(previous->begin) + " to " +
                 std::to_string(previous->end) + " of initializer '" + previous->tensor + "'",
             "export the model again; tensors that are tied have all of their bytes in common");
    }
    previous = &range;
  }
}

} // namespace moe::frontend
