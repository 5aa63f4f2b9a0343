//===- ModelFiles.cpp - The weights in an ONNX file and beside it ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/ModelFiles.h"

#include "runtime/checkpoint/Digest.h"
#include "runtime/checkpoint/Elements.h"

#include <algorithm>

namespace moe {

ModelFiles::ModelFiles(const plan::ModelFile &model, std::filesystem::path weights)
    : model(model), path(weights.empty() ? std::filesystem::path(model.path()) : std::move(weights)) {}

Expected<const MappedFile *> ModelFiles::open(const std::string &location) {
  if (auto known = files.find(location); known != files.end())
    return &known->second;
  const char *remedy = "say with --weights FILE where the ONNX file of this plan is now";
  if (!location.empty()) {
    // External data lie beside the ONNX file, which is checked first: its digest says that the offsets are right.
    if (auto main = open(""); !main)
      return tl::unexpected(main.error());
    std::filesystem::path relative(location);
    if (relative.is_absolute() || std::ranges::find(relative, "..") != relative.end())
      return error("external data outside the folder of the model", location,
                   "ONNX allows only files beside the model");
  }
  auto file = MappedFile::open(location.empty() ? path : path.parent_path() / location);
  if (!file) {
    Diagnostic problem = file.error();
    problem.what = location.empty() ? "cannot read the weights of the model" : "cannot read the model's external data";
    problem.remedy = remedy;
    return tl::unexpected(std::move(problem));
  }
  if (location.empty()) {
    if (file->bytes().size() != model.bytes())
      return error("the ONNX file is not the one that the plan was compiled from", path.string(),
                   "it has " + std::to_string(file->bytes().size()) + " bytes, the plan expects " +
                       std::to_string(model.bytes()),
                   remedy);
    Digest digest;
    digest.add(file->bytes());
    if (digest.value() != model.digest())
      return error("the ONNX file is not the one that the plan was compiled from", path.string(),
                   "its digest is " + hexText(digest.value()) + ", the plan expects " + hexText(model.digest()),
                   remedy);
  }
  return &files.emplace(location, std::move(*file)).first->second;
}

Status ModelFiles::read(const plan::StateTensor &tensor, std::span<std::byte> target) {
  const plan::Initial::File &source = tensor.initial().file();
  auto file = open(source.location());
  if (!file)
    return tl::unexpected(file.error());
  std::span<const std::byte> bytes = (*file)->bytes();
  const uint64_t count = target.size() / elementSize(tensor.dtype());
  if (source.offset() > bytes.size() || source.bytes() > bytes.size() - source.offset())
    return error("a weight lies beyond the end of its file", tensor.name() + " in " + (*file)->path().string(),
                 "the file has " + std::to_string(bytes.size()) + " bytes, the weight ends at " +
                     std::to_string(source.offset()) + " + " + std::to_string(source.bytes()),
                 "the file may be truncated: restore it");
  if (source.bytes() != count * elementSize(source.stored()))
    return error("a weight in the file has the wrong size", tensor.name(),
                 std::to_string(source.bytes()) + " bytes for " + std::to_string(count) + " elements",
                 "compile the plan again");
  return convertElements(elementName(source.stored()), bytes.subspan(source.offset(), source.bytes()), tensor.dtype(),
                         target, int64_t(count), tensor.name());
}

} // namespace moe
