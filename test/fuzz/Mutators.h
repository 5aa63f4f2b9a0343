//===- Mutators.h - Changes that leave a file well formed ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// libFuzzer changes bytes; of files with digests and nested lengths little is left then. These functions change what a
// file means. XyzMutator.cpp has the function, XyzFuzzer.cpp gives it to libFuzzer.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FUZZ_MUTATORS_H
#define MOEC_TEST_FUZZ_MUTATORS_H

#include "test/fuzz/MessageMutator.h"

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace onnx {
class ModelProto;
}

namespace moe::fuzz {

/// Changes some bytes of a text, as LLVMFuzzerMutate does; the result is at most `limit` bytes long.
using ByteMutator = std::function<std::string(std::string_view bytes, size_t limit)>;

/// Another plan file whose lengths and digests are right, so that the checks behind them are reached. Nothing if `file`
/// is no plan file.
std::optional<std::string> mutatePlan(std::string_view file, Random &random);

/// Changes header or data of a safetensors file; the length of the header is right afterwards, and mostly the digest of
/// a checkpoint.
std::string mutateCheckpoint(std::string_view file, size_t limit, const ByteMutator &mutate, Random &random);

/// Changes graph, functions, weights or operator sets of a model.
void mutateModel(onnx::ModelProto &model, Random &random);

/// Puts nodes of `other`, and the weights that they read, into the graph of `model`.
void spliceModel(onnx::ModelProto &model, const onnx::ModelProto &other, Random &random);

} // namespace moe::fuzz

#endif // MOEC_TEST_FUZZ_MUTATORS_H
