//===- ProtobufLog.h - What protobuf itself prints ----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_PLAN_PROTOBUFLOG_H
#define MOEC_RUNTIME_PLAN_PROTOBUFLOG_H

#include <google/protobuf/stubs/common.h>
#if GOOGLE_PROTOBUF_VERSION < 4022000
#include <google/protobuf/stubs/logging.h>
#endif

namespace moe {

#if GOOGLE_PROTOBUF_VERSION < 4022000
/// While one lives, protobuf does not print its own view of damaged messages: ours name the file and the remedy.
using ProtobufSilence = google::protobuf::LogSilencer;
#else
/// Later versions of protobuf have no such switch of their own.
struct ProtobufSilence {
  ~ProtobufSilence() {}
};
#endif

} // namespace moe

#endif // MOEC_RUNTIME_PLAN_PROTOBUFLOG_H
