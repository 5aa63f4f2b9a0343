//===- ParameterFile.cpp - Parameters by name --------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/ParameterFile.h"

#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/GlobalTensor.h"
#include "runtime/checkpoint/TensorMatch.h"
#include "runtime/core/HostSlice.h"

namespace moe {

Status loadParameters(Session &session, const std::filesystem::path &path) {
  auto file = SafetensorsFile::open(path);
  if (!file)
    return tl::unexpected(file.error());
  std::vector<const plan::StateTensor *> parameters;
  MatchRules rules{.sameType = false, .optional = {}};
  for (const plan::StateTensor &tensor : session.plan().state()) {
    if (tensor.kind() == plan::StateTensor::PARAMETER)
      parameters.push_back(&tensor);
    else if (tensor.kind() == plan::StateTensor::FROZEN)
      rules.optional.push_back(tensor.name());
  }
  if (std::string problems = compareTensors(*file, parameters, rules); !problems.empty())
    return error("the tensors of the file are not the parameters of the model", path.string(), problems,
                 "`moec inspect` lists the parameters of the model");
  for (const plan::StateTensor *tensor : parameters) {
    const TensorEntry *entry = file->find(tensor->name());
    if (!isWhole(session.plan(), *tensor)) {
      std::vector<std::byte> whole(static_cast<size_t>(elementCount(entry->shape)) * elementSize(tensor->dtype()));
      Status status = convertElements(entry->type, file->bytes(*entry), tensor->dtype(), whole,
                                      elementCount(entry->shape), tensor->name());
      if (status)
        status = scatterTensor(session, *tensor, whole);
      if (!status)
        return status;
      continue;
    }
    HostSlice filled(session, tensor->slice());
    if (Status status = convertElements(entry->type, file->bytes(*entry), tensor->dtype(), filled.bytes(),
                                        elementCount(entry->shape), tensor->name());
        !status)
      return status;
    if (Status status = filled.commit(); !status)
      return status;
  }
  return {};
}

Status saveParameters(Session &session, const std::filesystem::path &path) {
  std::vector<TensorView> tensors;
  for (const plan::StateTensor &tensor : session.plan().state())
    if (tensor.kind() == plan::StateTensor::PARAMETER)
      if (Status status = addShared(tensors, session, tensor.name(), tensor); !status)
        return status;
  return writeShared(session, path, std::move(tensors), {});
}

} // namespace moe
