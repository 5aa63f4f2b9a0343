//===- OnnxFuzzer.cpp - The mutator of models for libFuzzer -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "onnx/onnx-ml.pb.h"
#include "test/fuzz/Fuzzer.h"

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t limit, unsigned seed) {
  moe::fuzz::Random random(seed);
  onnx::ModelProto model;
  if (random.oneIn(32) || !model.ParseFromArray(data, int(size)))
    return LLVMFuzzerMutate(data, size, limit);
  moe::fuzz::mutateModel(model, random);
  return moe::fuzz::give(model.SerializeAsString(), data, size, limit);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t *data, size_t size, const uint8_t *other, size_t otherSize,
                                            uint8_t *out, size_t limit, unsigned seed) {
  onnx::ModelProto model, donor;
  if (!model.ParseFromArray(data, int(size)) || !donor.ParseFromArray(other, int(otherSize)))
    return 0;
  moe::fuzz::Random random(seed);
  moe::fuzz::spliceModel(model, donor, random);
  return moe::fuzz::give(model.SerializeAsString(), out, 0, limit);
}
