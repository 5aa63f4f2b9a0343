//===- ExportFile.cpp - Parameters for other programs ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/ExportFile.h"

#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/GlobalTensor.h"
#include "runtime/checkpoint/Safetensors.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

namespace moe {

/// `source` of `shape` with dimension i of the result being dimension order[i]; elements of `width` bytes.
static std::vector<std::byte> permuted(std::span<const std::byte> source, const std::vector<int64_t> &shape,
                                       const std::vector<size_t> &order, size_t width) {
  const size_t rank = shape.size();
  std::vector<size_t> strides(rank, width);
  for (size_t d = rank; d-- > 1;)
    strides[d - 1] = strides[d] * size_t(shape[d]);
  std::vector<std::byte> result(source.size());
  std::vector<int64_t> index(rank, 0);
  size_t from = 0;
  for (size_t to = 0; to < result.size(); to += width) {
    std::memcpy(result.data() + to, source.data() + from, width);
    for (size_t i = rank; i-- > 0;) {
      from += strides[order[i]];
      if (++index[i] < shape[order[i]])
        break;
      from -= strides[order[i]] * size_t(shape[order[i]]);
      index[i] = 0;
    }
  }
  return result;
}

/// A view that permutes the tensor when its first byte is asked for, and holds it until its last one was.
static TensorView permutedView(Session &session, const std::string &name, const plan::StateTensor &tensor,
                               const plan::ExportName &as) {
  const std::vector<int64_t> shape(tensor.shape().begin(), tensor.shape().end());
  const std::vector<size_t> order(as.permutation().begin(), as.permutation().end());
  TensorView view{.name = name, .type = elementName(tensor.dtype()), .shape = {}, .bytes = {}};
  for (size_t dimension : order)
    view.shape.push_back(shape[dimension]);
  view.remote = tensor.slice().bytes();
  auto cache = std::make_shared<std::vector<std::byte>>();
  view.fetch = [&session, &tensor, shape, order, cache](uint64_t offset, std::span<std::byte> target) -> Status {
    if (cache->empty()) {
      std::vector<std::byte> whole(tensor.slice().bytes());
      if (Status status = session.read(tensor.slice(), whole); !status)
        return status;
      *cache = permuted(whole, shape, order, elementSize(tensor.dtype()));
    }
    std::memcpy(target.data(), cache->data() + offset, target.size());
    if (offset + target.size() == cache->size())
      *cache = {};
    return {};
  };
  return view;
}

/// Appends the permuted tensor of all ranks.
static Status addPermuted(std::vector<TensorView> &views, Session &session, const std::string &name,
                          const plan::StateTensor &tensor, const plan::ExportName &as) {
  if (!session.communicator()) {
    views.push_back(permutedView(session, name, tensor, as));
    return {};
  }
  auto whole = gatherTensor(session, tensor);
  if (!whole)
    return tl::unexpected(std::move(whole.error()));
  const std::vector<int64_t> shape(tensor.shape().begin(), tensor.shape().end());
  const std::vector<size_t> order(as.permutation().begin(), as.permutation().end());
  TensorView view{.name = name, .type = elementName(tensor.dtype()), .shape = {}, .bytes = {}};
  for (size_t dimension : order)
    view.shape.push_back(shape[dimension]);
  auto result = std::make_shared<std::vector<std::byte>>(permuted(*whole, shape, order, elementSize(tensor.dtype())));
  view.remote = result->size();
  view.fetch = [result](uint64_t offset, std::span<std::byte> target) {
    std::memcpy(target.data(), result->data() + offset, target.size());
    return Status();
  };
  views.push_back(std::move(view));
  return {};
}

static bool isExported(const plan::StateTensor &tensor) {
  if (tensor.kind() == plan::StateTensor::PARAMETER)
    return true;
  const bool isFloat = tensor.dtype() == plan::F32 || tensor.dtype() == plan::F16 || tensor.dtype() == plan::BF16;
  return tensor.kind() == plan::StateTensor::FROZEN && isFloat &&
         (tensor.exports_size() > 0 || tensor.name().find('.') != std::string::npos);
}

Status exportParameters(Session &session, const std::filesystem::path &path, const ExportOptions &options) {
  std::vector<TensorView> tensors;
  std::set<std::string> names;
  std::string clashes;
  auto nameOf = [&](const std::string &name) {
    const bool strip = name.starts_with(options.stripPrefix) && name.size() > options.stripPrefix.size();
    std::string result = strip ? name.substr(options.stripPrefix.size()) : name;
    if (!names.insert(result).second)
      clashes += (clashes.empty() ? "" : ", ") + result;
    return result;
  };
  for (const plan::StateTensor &tensor : session.plan().state()) {
    if (!isExported(tensor))
      continue;
    Status status;
    if (tensor.exports_size() == 0)
      status = addShared(tensors, session, nameOf(tensor.name()), tensor);
    for (const plan::ExportName &as : tensor.exports())
      if (status)
        status = as.permutation_size() == 0 ? addShared(tensors, session, nameOf(as.name()), tensor)
                                            : addPermuted(tensors, session, nameOf(as.name()), tensor, as);
    if (!status)
      return status;
  }
  if (!clashes.empty())
    return error("two tensors would have one name", path.string(), clashes, "strip another prefix");
  return writeShared(session, path, std::move(tensors), {{"format", "pt"}});
}

} // namespace moe
