//===- ExportCommand.cpp - moerun export -------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/checkpoint/ExportFile.h"
#include "tools/moerun/Setup.h"

namespace moe {

const Command &exportCommand() {
  static const Command command = {
      "export",
      "Writes the weights of a trained model for PyTorch.",
      "PLAN",
      withCommonFlags({
          {"output", "FILE", "where to: a safetensors file", true},
          {"strip-prefix", "TEXT", "leave this out of names that begin with it: m. of a wrapper around the model"},
          {"checkpoint", "FILE", "the trained state"},
          {"save-dir", "DIR", "take the newest readable checkpoint of this folder"},
      }),
      "Tensors have the names and the order of dimensions that they had in PyTorch, as far as the exporter to ONNX has "
      "noted them, else those of the ONNX file. Tied tensors are written under each name that the recipe ties.",
  };
  return command;
}

Status runExport(const Arguments &arguments, Rank &rank) {
  auto common = rank.agree(readCommonOptions(arguments, rank), "reading the command line");
  if (!common)
    return tl::unexpected(common.error());
  TrainLog log(common->format);
  auto opened = openSession(*common, log, rank);
  if (!opened)
    return tl::unexpected(opened.error());
  Session &session = *opened->session;
  auto checkpoint = rank.agree(openCheckpoint(arguments, log), "opening the checkpoint");
  if (!checkpoint)
    return tl::unexpected(checkpoint.error());
  Status ready = *checkpoint ? (*checkpoint)->matches(session.plan()) : Status();
  if (ready)
    ready = initialise(session, *common);
  if (ready && *checkpoint)
    ready = (*checkpoint)->restore(session);
  if (Status status = rank.agree(ready, "restoring the checkpoint"); !status)
    return status;
  return exportParameters(session, arguments.text("output"), {.stripPrefix = arguments.text("strip-prefix")});
}

} // namespace moe
