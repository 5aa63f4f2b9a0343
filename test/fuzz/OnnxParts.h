//===- OnnxParts.h - Changes in single parts of a model -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FUZZ_ONNXPARTS_H
#define MOEC_TEST_FUZZ_ONNXPARTS_H

#include "onnx/onnx-ml.pb.h"
#include "test/fuzz/Mutators.h"

#include <string>

namespace moe::fuzz {

/// Another operator out of those that the importer knows.
void setOperator(onnx::NodeProto &node, Random &random);

/// Adds, drops, retypes or changes an attribute; names are those that the importer's operators ask for.
void mutateAttribute(onnx::NodeProto &node, Random &random);

/// Another element type, rank, extent or symbol of a graph's input.
void mutateInput(onnx::ValueInfoProto &input, Random &random);

/// Extents against data, element type, data that move to an external file, sizes and places there.
void mutateTensor(onnx::TensorProto &tensor, Random &random);

/// Changes a byte of what `message` is written as, such that it can be read again: the schema of ONNX is compiled
/// without reflection.
template <typename Message> void mutateWritten(Message &message, Random &random) {
  const std::string before = message.SerializeAsString();
  for (int attempt = 0; attempt < 8 && !before.empty(); ++attempt) {
    std::string after = before;
    char &byte = after[random.below(after.size())];
    byte = char(random.oneIn(2) ? random.below(256) : size_t(byte) + (random.oneIn(2) ? 1 : 255));
    if (Message changed; changed.ParseFromString(after)) {
      message = changed;
      return;
    }
  }
}

/// A tensor without name of at most four elements, most often of int64.
onnx::TensorProto smallTensor(Random &random);

} // namespace moe::fuzz

#endif // MOEC_TEST_FUZZ_ONNXPARTS_H
