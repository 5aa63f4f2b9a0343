//===- GlobalTensor.h - Tensors of all ranks ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// Files know whole tensors, ranks their parts of them (runtime/plan/Pieces.h). All ranks of a run call these functions
// in the same order; a run of one rank needs no communicator.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CHECKPOINT_GLOBALTENSOR_H
#define MOEC_RUNTIME_CHECKPOINT_GLOBALTENSOR_H

#include "runtime/checkpoint/Safetensors.h"
#include "runtime/core/Session.h"

#include <map>
#include <string>
#include <vector>

namespace moe {

/// Whether this rank has the whole tensor in its slice.
bool isWhole(const plan::Plan &plan, const plan::StateTensor &tensor);

/// A tensor in row-major order on rank 0, nothing on the others. What is partial is added up in the order of the ranks;
/// it must be float32. Errors: the device or the communicator fails.
Expected<std::vector<std::byte>> gatherTensor(Session &session, const plan::StateTensor &tensor);
Expected<std::vector<std::byte>> gatherTensor(Session &session, const plan::Output &output);

/// Writes tensors with metadata and a digest, each rank what it has of them (`counts`): nobody holds a whole one. The
/// file is that which one rank would write. None of the tensors is partial. All ranks get its status.
Status writeParts(Session &session, const std::filesystem::path &path,
                  const std::vector<const plan::StateTensor *> &tensors,
                  const std::map<std::string, std::string> &metadata);

/// Puts this rank's part of a whole tensor into its slice. Sends nothing. Errors: the device fails.
Status scatterTensor(Session &session, const plan::StateTensor &tensor, std::span<const std::byte> whole);

/// Appends a tensor under a name to those for `writeShared`: on one rank as `viewOf` sees it, else with all of its
/// bytes on rank 0 and of no use on the others.
Status addShared(std::vector<TensorView> &views, Session &session, const std::string &name,
                 const plan::StateTensor &tensor);
Status addShared(std::vector<TensorView> &views, Session &session, const std::string &name, const plan::Output &output);

/// writeSafetensors on rank 0. All ranks get its status.
Status writeShared(Session &session, const std::filesystem::path &path, std::vector<TensorView> tensors,
                   const std::map<std::string, std::string> &metadata, bool digest = false);

} // namespace moe

#endif // MOEC_RUNTIME_CHECKPOINT_GLOBALTENSOR_H
