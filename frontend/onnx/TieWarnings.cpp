//===- TieWarnings.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/TieWarnings.h"
#include "frontend/onnx/Program.h"

#include <cstring>
#include <map>
#include <tuple>

using namespace mlir;

namespace moe::frontend {
namespace {

/// Elements are compared in pieces of so many bytes, so that tensors that differ are hardly read.
constexpr uint64_t kChunkBytes = uint64_t(1) << 20;
/// A message names so many nodes that read a tensor.
constexpr size_t kNamedUsers = 6;

//===----------------------------------------------------------------------------------------------------------------===//
// Shared uses
//===----------------------------------------------------------------------------------------------------------------===//

using Consumers = llvm::StringMap<std::vector<const onnx::NodeProto *>>;

/// Whether the node only shows its first input in another form.
bool isView(const onnx::NodeProto &node) {
  return node.domain().empty() &&
         llvm::is_contained({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"},
                            node.op_type());
}

/// The nodes that compute with the tensor, in the order of the graph as far as no view lies between.
std::vector<const onnx::NodeProto *> usersOf(const std::string &name, const Consumers &consumers) {
  std::vector<const onnx::NodeProto *> users;
  std::vector<std::string> work = {name};
  while (!work.empty()) {
    std::string value = std::move(work.back());
    work.pop_back();
    auto found = consumers.find(value);
    if (found == consumers.end())
      continue;
    for (const onnx::NodeProto *node : found->second)
      if (isView(*node) && node->input(0) == value && node->output_size() > 0)
        work.push_back(node->output(0));
      else if (!llvm::is_contained(users, node))
        users.push_back(node);
  }
  return users;
}

void warnAboutSharing(const Model &model, llvm::ArrayRef<const onnx::TensorProto *> parameters,
                      std::vector<Diagnostic> &diagnostics) {
  Consumers consumers;
  for (const onnx::NodeProto &node : model.graph().node())
    for (const std::string &input : node.input())
      consumers[input].push_back(&node);
  std::string list;
  for (const onnx::TensorProto *tensor : parameters) {
    std::vector<const onnx::NodeProto *> users = usersOf(tensor->name(), consumers);
    if (users.size() < 2)
      continue;
    list += "\n  " + tensor->name() + " used by ";
    for (size_t i = 0; i < std::min(users.size(), kNamedUsers); ++i)
      list += (i > 0 ? ", " : "") + nodeName(*users[i]) + " (" + users[i]->op_type() + ")";
    if (users.size() > kNamedUsers)
      list += " and " + std::to_string(users.size() - kNamedUsers) + " more";
  }
  if (!list.empty())
    diagnostics.push_back(
        {"these weights have several uses and are trained as one:" + list, model.path(),
         "exporters merge weights that were equal when they were exported, as those of fresh norms are",
         "nothing if the model is meant so; else export it from weights that differ, for example trained ones",
         ExitCode::Success});
}

//===----------------------------------------------------------------------------------------------------------------===//
// Equal elements
//===----------------------------------------------------------------------------------------------------------------===//

/// Tensors of one fingerprint that a further one is compared with: more than a tie has, and few enough for any model.
constexpr size_t kMaxAlike = 16;

/// Element type, extents in ascending order, and the first and the last element, which are the same in a transpose.
using Fingerprint = std::tuple<int32_t, std::vector<int64_t>, std::string, std::string>;

class Comparison {
public:
  explicit Comparison(const Model &model) : model(model) {}

  /// Nothing if the elements cannot be read or are all the same.
  std::optional<Fingerprint> fingerprint(const onnx::TensorProto &tensor) {
    std::string first, last;
    const uint64_t width = onnxElementBytes(tensor.data_type()), size = bytes(tensor);
    if (size < 2 * width || !model.readElements(tensor, 0, width, first) ||
        !model.readElements(tensor, size - width, width, last) || (first == last && isUniform(tensor, first)))
      return std::nullopt;
    std::vector<int64_t> extents(tensor.dims().begin(), tensor.dims().end());
    if (extents.size() == 2)
      llvm::sort(extents);
    return Fingerprint(tensor.data_type(), extents, first, last);
  }

  /// Of tensors of one fingerprint.
  bool equal(const onnx::TensorProto &a, const onnx::TensorProto &b) {
    if (!std::equal(a.dims().begin(), a.dims().end(), b.dims().begin(), b.dims().end()))
      return false;
    std::string mine;
    return eachChunk(b, kChunkBytes, [&](uint64_t offset, const std::string &chunk) {
      return model.readElements(a, offset, chunk.size(), mine) && mine == chunk;
    });
  }

  /// Whether `b` is the transpose of `a`; of tensors of one fingerprint.
  bool transposed(const onnx::TensorProto &a, const onnx::TensorProto &b) {
    if (a.dims_size() != 2 || b.dims_size() != 2 || a.dims(0) != b.dims(1) || a.dims(1) != b.dims(0))
      return false;
    const uint64_t width = onnxElementBytes(a.data_type());
    const auto rows = static_cast<uint64_t>(a.dims(0)), columns = static_cast<uint64_t>(a.dims(1));
    std::string whole;
    if (!model.readElements(a, whole))
      return false;
    // The chunks are rows of b, columns of a.
    return eachChunk(b, rows * width, [&](uint64_t offset, const std::string &chunk) {
      const uint64_t column = offset / (rows * width);
      for (uint64_t row = 0; row < rows; ++row)
        if (std::memcmp(chunk.data() + row * width, whole.data() + (row * columns + column) * width, width) != 0)
          return false;
      return true;
    });
  }

private:
  static uint64_t bytes(const onnx::TensorProto &tensor) {
    return static_cast<uint64_t>(elementCount(tensor).value_or(0)) * onnxElementBytes(tensor.data_type());
  }

  bool isUniform(const onnx::TensorProto &tensor, const std::string &element) {
    return eachChunk(tensor, kChunkBytes, [&](uint64_t, const std::string &chunk) {
      for (size_t i = 0; i < chunk.size(); i += element.size())
        if (std::memcmp(chunk.data() + i, element.data(), element.size()) != 0)
          return false;
      return true;
    });
  }

  /// Calls `holds` with pieces of the elements in order; false as soon as it is false or a piece cannot be read.
  template <typename Holds> bool eachChunk(const onnx::TensorProto &tensor, uint64_t step, Holds holds) {
    std::string chunk;
    const uint64_t size = bytes(tensor);
    for (uint64_t offset = 0; offset < size; offset += step)
      if (!model.readElements(tensor, offset, std::min(step, size - offset), chunk) || !holds(offset, chunk))
        return false;
    return true;
  }

  const Model &model;
};

void warnAboutEquality(const Model &model, llvm::ArrayRef<const onnx::TensorProto *> stored,
                       std::vector<Diagnostic> &diagnostics) {
  Comparison comparison(model);
  // Tensors of which none equals another, by fingerprint.
  std::map<Fingerprint, std::vector<const onnx::TensorProto *>> distinct;
  std::vector<Tie> ties;
  for (const onnx::TensorProto *tensor : stored) {
    std::optional<Fingerprint> fingerprint = comparison.fingerprint(*tensor);
    if (!fingerprint)
      continue;
    std::vector<const onnx::TensorProto *> &others = distinct[*fingerprint];
    bool found = false;
    for (const onnx::TensorProto *other : others) {
      const bool same = comparison.equal(*other, *tensor);
      found = same || comparison.transposed(*other, *tensor);
      if (found) {
        ties.push_back({other->name(), tensor->name(), !same});
        break;
      }
    }
    if (!found && others.size() < kMaxAlike)
      others.push_back(tensor);
  }
  if (ties.empty())
    return;
  std::string list;
  for (const Tie &tie : ties)
    list += "\n  " + tie.source + " and " + (tie.transposed ? "the transpose of " : "") + tie.target;
  diagnostics.push_back({"these pairs of weights are equal in the file, but trained apart:" + list, model.path(),
                         "exporters store a tied weight twice when they fold a transpose into one of its uses",
                         "nothing if they are meant so; else tie them in the recipe: tie: " + print(ties),
                         ExitCode::Success});
}

} // namespace

void warnAboutTies(const Model &model, ModuleOp module, std::vector<Diagnostic> &diagnostics) {
  std::vector<const onnx::TensorProto *> parameters, stored;
  for (ir::StateOp state : module.getOps<ir::StateOp>()) {
    const onnx::TensorProto *tensor = model.initializer(state.getSymName());
    if (!tensor || state.getKind() != ir::StateKind::Parameter)
      continue;
    parameters.push_back(tensor);
    auto initial = dyn_cast_or_null<DictionaryAttr>(state.getInitialAttr());
    if (initial && (initial.contains("file") || initial.contains("data")))
      stored.push_back(tensor);
  }
  if (model.metadata("ai.moec.preset").empty())
    warnAboutSharing(model, parameters, diagnostics);
  warnAboutEquality(model, stored, diagnostics);
}

} // namespace moe::frontend
