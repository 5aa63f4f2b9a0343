//===- GlobalTensor.cpp - Tensors of all ranks --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/GlobalTensor.h"

#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/SliceView.h"
#include "runtime/comm/Agreement.h"
#include "runtime/plan/Pieces.h"

#include <cstring>
#include <memory>

namespace moe {
namespace {

uint64_t countOf(const google::protobuf::RepeatedField<int64_t> &shape) {
  return static_cast<uint64_t>(elementCount(std::span(shape.data(), static_cast<size_t>(shape.size()))));
}

int ranksOf(Session &session) {
  return session.communicator() ? session.communicator()->size() : 1;
}

/// Adds (float32) or copies the pieces of one rank to where they belong.
template <typename Tensor>
void place(const plan::Plan &plan, const Tensor &tensor, int rank, std::span<const std::byte> slice,
           std::vector<std::byte> &whole) {
  const uint64_t width = elementSize(tensor.dtype());
  const bool adds = isPartial(tensor.layout());
  for (const Piece &piece : piecesOf(plan, tensor, rank)) {
    const std::byte *source = slice.data() + piece.local * width;
    std::byte *target = whole.data() + piece.global * width;
    if (!adds) {
      std::memcpy(target, source, piece.count * width);
      continue;
    }
    for (uint64_t i = 0; i < piece.count; ++i) {
      float sum = 0, summand = 0;
      std::memcpy(&sum, target + i * sizeof(float), sizeof(float));
      std::memcpy(&summand, source + i * sizeof(float), sizeof(float));
      sum += summand;
      std::memcpy(target + i * sizeof(float), &sum, sizeof(float));
    }
  }
}

template <typename Tensor> Expected<std::vector<std::byte>> gather(Session &session, const Tensor &tensor) {
  const plan::Plan &plan = session.plan();
  const uint64_t bytes = tensor.slice().bytes();
  std::vector<std::byte> own(bytes);
  if (Status status = session.read(tensor.slice(), own); !status)
    return tl::unexpected(std::move(status.error()));
  if (ranksOf(session) == 1)
    return own;
  if (isPartial(tensor.layout()) && tensor.dtype() != plan::F32)
    return error("partial tensors that are not float32 can not be added up", tensor.name());
  Communicator &communicator = *session.communicator();
  const auto ranks = static_cast<size_t>(communicator.size());
  const bool isFirst = communicator.rank() == 0;
  std::vector<std::vector<std::byte>> slices(ranks);
  std::vector<SendBlock> sends(ranks);
  if (counts(plan, tensor, communicator.rank()))
    sends[0] = own;
  if (isFirst)
    for (size_t rank = 0; rank < ranks; ++rank)
      if (counts(plan, tensor, static_cast<int64_t>(rank)))
        slices[rank].resize(bytes);
  std::vector<ReceiveBlock> receives(slices.begin(), slices.end());
  const std::string what = "gathering '" + tensor.name() + "'";
  if (Status status = communicator.all()->exchange(sends, receives, what.c_str()); !status)
    return tl::unexpected(std::move(status.error()));
  std::vector<std::byte> whole;
  if (!isFirst)
    return whole;
  whole.resize(countOf(tensor.shape()) * elementSize(tensor.dtype()));
  for (size_t rank = 0; rank < ranks; ++rank)
    if (!slices[rank].empty())
      place(plan, tensor, static_cast<int>(rank), slices[rank], whole);
  return whole;
}

template <typename Tensor>
Status addView(std::vector<TensorView> &views, Session &session, const std::string &name, const Tensor &tensor) {
  if (ranksOf(session) == 1) {
    views.push_back(viewOf(session, name, tensor));
    return {};
  }
  auto gathered = gather(session, tensor);
  if (!gathered)
    return tl::unexpected(std::move(gathered.error()));
  auto whole = std::make_shared<std::vector<std::byte>>(std::move(*gathered));
  TensorView view{.name = name,
                  .type = elementName(tensor.dtype()),
                  .shape = {tensor.shape().begin(), tensor.shape().end()},
                  .bytes = {},
                  .remote = whole->size()};
  view.fetch = [whole](uint64_t offset, std::span<std::byte> target) {
    std::memcpy(target.data(), whole->data() + offset, target.size());
    return Status();
  };
  views.push_back(std::move(view));
  return {};
}

} // namespace

bool isWhole(const plan::Plan &plan, const plan::StateTensor &tensor) {
  return !tensor.has_flat() && shardElements(plan, tensor) == countOf(tensor.shape());
}

Expected<std::vector<std::byte>> gatherTensor(Session &session, const plan::StateTensor &tensor) {
  return gather(session, tensor);
}

Expected<std::vector<std::byte>> gatherTensor(Session &session, const plan::Output &output) {
  return gather(session, output);
}

/// Hands out the pieces of this rank's slice.
static Status putPieces(Session &session, const plan::StateTensor &tensor, const TensorPart::Put &put) {
  if (!counts(session.plan(), tensor, session.rank()))
    return {};
  std::span<const std::byte> slice = session.bytes(tensor.slice());
  std::vector<std::byte> copy;
  if (slice.size() != tensor.slice().bytes()) {
    copy.resize(tensor.slice().bytes());
    if (Status status = session.read(tensor.slice(), copy); !status)
      return status;
    slice = copy;
  }
  const uint64_t width = elementSize(tensor.dtype());
  for (const Piece &piece : piecesOf(session.plan(), tensor, session.rank()))
    if (Status status = put(piece.global * width, slice.subspan(piece.local * width, piece.count * width)); !status)
      return status;
  return {};
}

Status writeParts(Session &session, const std::filesystem::path &path,
                  const std::vector<const plan::StateTensor *> &tensors,
                  const std::map<std::string, std::string> &metadata) {
  std::vector<TensorPart> parts;
  parts.reserve(tensors.size());
  for (const plan::StateTensor *tensor : tensors)
    parts.push_back(
        {.name = tensor->name(),
         .type = elementName(tensor->dtype()),
         .shape = {tensor->shape().begin(), tensor->shape().end()},
         .bytes = countOf(tensor->shape()) * elementSize(tensor->dtype()),
         .write = [&session, tensor](const TensorPart::Put &put) { return putPieces(session, *tensor, put); }});
  std::unique_ptr<Group> all = session.communicator()->all();
  const std::string what = "writing " + path.string();
  return writeSafetensorsTogether(path, std::move(parts), metadata, session.rank() == 0,
                                  [&](const Status &own) { return agree(*all, own, what.c_str()).status; });
}

Status scatterTensor(Session &session, const plan::StateTensor &tensor, std::span<const std::byte> whole) {
  if (isWhole(session.plan(), tensor))
    return session.write(tensor.slice(), whole);
  const uint64_t width = elementSize(tensor.dtype());
  // Other tensors of a bucket share the slice: their bytes stay.
  std::span<std::byte> slice = session.bytes(tensor.slice());
  std::vector<std::byte> copy;
  if (slice.size() != tensor.slice().bytes()) {
    copy.resize(tensor.slice().bytes());
    if (Status status = session.read(tensor.slice(), copy); !status)
      return status;
    slice = copy;
  }
  for (const Piece &piece : piecesOf(session.plan(), tensor, session.rank()))
    std::memcpy(slice.data() + piece.local * width, whole.data() + piece.global * width, piece.count * width);
  return copy.empty() ? Status() : session.write(tensor.slice(), copy);
}

Status addShared(std::vector<TensorView> &views, Session &session, const std::string &name,
                 const plan::StateTensor &tensor) {
  return addView(views, session, name, tensor);
}

Status addShared(std::vector<TensorView> &views, Session &session, const std::string &name,
                 const plan::Output &output) {
  return addView(views, session, name, output);
}

Status writeShared(Session &session, const std::filesystem::path &path, std::vector<TensorView> tensors,
                   const std::map<std::string, std::string> &metadata, bool digest) {
  Status own;
  if (session.rank() == 0)
    own = writeSafetensors(path, std::move(tensors), metadata, digest);
  if (ranksOf(session) == 1)
    return own;
  const std::string what = "writing " + path.string();
  return agree(*session.communicator()->all(), own, what.c_str()).status;
}

} // namespace moe
