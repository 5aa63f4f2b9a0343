//===- SliceView.h - Slices of a session as tensors to be written -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_SLICEVIEW_H
#define MOEC_RUNTIME_CHECKPOINT_SLICEVIEW_H

#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/Safetensors.h"
#include "runtime/core/Session.h"

namespace moe {

/// `tensor`, a plan::StateTensor or plan::Output of the session's plan, under a name: its bytes where the host can
/// reach them, else to be fetched piece by piece while the file is written. Session and plan outlive the view.
template <typename Tensor> TensorView viewOf(Session &session, const std::string &name, const Tensor &tensor) {
  const plan::Slice &slice = tensor.slice();
  TensorView view = {
      name, elementName(tensor.dtype()), {tensor.shape().begin(), tensor.shape().end()}, session.bytes(slice)};
  if (view.bytes.size() == slice.bytes())
    return view;
  view.remote = slice.bytes();
  view.fetch = [&session, &slice](uint64_t offset, std::span<std::byte> target) {
    plan::Slice part = slice;
    part.set_offset(slice.offset() + offset);
    part.set_bytes(target.size());
    return session.read(part, target);
  };
  return view;
}

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_SLICEVIEW_H
