//===- ModelsTest.cpp - Flags, options and the layout of a model file ---------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/Flags.h"
#include "frontend/models/TransformerLm.h"
#include <gtest/gtest.h>
#include <set>

using namespace moe;
using namespace moe::models;

namespace {

struct Values {
  int64_t layers = 12;
  double rate = 0.1;
  bool tied = false;
  std::string name = "gelu";
  std::vector<Flag> flags = {
      {"--layers", &layers, "how many"}, {"--rate", &rate, "how much"}, {"--tied", &tied, ""}, {"--name", &name, ""}};
};

TEST(Flags, ReadsBothSpellingsAndTheLastOne) {
  Values v;
  EXPECT_TRUE(parseFlags(v.flags, {"--layers", "3", "--rate=-1.5e-3", "--tied", "--layers=4", "--name="}).empty());
  EXPECT_EQ(v.layers, 4);
  EXPECT_EQ(v.rate, -1.5e-3);
  EXPECT_TRUE(v.tied);
  EXPECT_EQ(v.name, "");
}

TEST(Flags, NegativeNumbersAreValues) {
  Values v;
  EXPECT_TRUE(parseFlags(v.flags, {"--rate", "-1.0", "--layers", "-2"}).empty());
  EXPECT_EQ(v.rate, -1.0);
  EXPECT_EQ(v.layers, -2);
  // The value of an unknown flag is not reported again, a flag behind it is read.
  EXPECT_EQ(parseFlags(v.flags, {"--rat", "-.5", "--layers", "7"}).size(), 1u);
  EXPECT_EQ(v.layers, 7);
}

TEST(Flags, MalformedNumbersLeaveNoDoubt) {
  for (const char *text : {"", "1x", "0x10", " 1", "1.0", "99999999999999999999"})
    EXPECT_EQ(parseFlags(Values().flags, {"--layers", text}).size(), 1u) << text;
  for (const char *text : {"", "1,5", "inf", "nan", "1e999", "--tied"})
    EXPECT_EQ(parseFlags(Values().flags, {"--rate", text}).size(), 1u) << text;
}

TEST(Flags, RenderedFlagsReadBack) {
  Values from, to;
  ASSERT_TRUE(parseFlags(from.flags, {"--rate", "0.30000000000000004", "--tied", "--layers", "5"}).empty());
  const std::string text = renderFlags(from.flags);
  EXPECT_EQ(text, "--layers 5 --rate 0.30000000000000004 --tied --name gelu");
  EXPECT_EQ(renderFlags(to.flags), "--layers 12 --rate 0.1 --name gelu");
}

TEST(Flags, NearestIsByEditDistance) {
  const std::vector<std::string> names = {"--moe-freq", "--dropout", "--attention-dropout"};
  EXPECT_EQ(nearest("--moe-frq", names), "--moe-freq");
  EXPECT_EQ(nearest("--drop-out", names), "--dropout");
  EXPECT_EQ(nearest("--x", {}), "");
}

TEST(TransformerLm, DefaultsAreValid) {
  EXPECT_TRUE(verify({}).empty());
  EXPECT_TRUE(warnings({}).empty());
}

TEST(TransformerLm, MoeLayersFollowTheFrequency) {
  TransformerLmOptions o;
  o.moeFreq = 2;
  EXPECT_FALSE(o.isMoeLayer(0));
  EXPECT_TRUE(o.isMoeLayer(1));
  EXPECT_EQ(o.numMoeLayers(), 6);
  o.moeFreq = 5;
  EXPECT_EQ(o.numMoeLayers(), 2);
  o.alternateDecoderFfnEmbedDim = 16;
  EXPECT_EQ(o.numMoeLayers(), 0);
  EXPECT_TRUE(verify(o).empty());
}

TEST(ModelFile, TensorsAreAlignedAndDoNotOverlap) {
  TransformerLmOptions o;
  o.decoderLayers = 1;
  o.decoderEmbedDim = 6;
  o.decoderAttentionHeads = 3;
  ModelFile file = buildTransformerLm(o);
  uint64_t end = 0;
  std::set<std::string> names;
  for (const onnx::TensorProto &tensor : file.proto.graph().initializer()) {
    EXPECT_TRUE(names.insert(tensor.name()).second) << tensor.name();
    ASSERT_EQ(tensor.external_data_size(), 3) << tensor.name();
    uint64_t offset = std::stoull(tensor.external_data(1).value()), size = sizeof(float);
    for (int64_t extent : tensor.dims())
      size *= static_cast<uint64_t>(extent);
    EXPECT_EQ(std::stoull(tensor.external_data(2).value()), size);
    EXPECT_EQ(offset % kTensorAlignment, 0u);
    EXPECT_GE(offset, end);
    end = offset + size;
  }
  EXPECT_EQ(file.dataSize, end);
  ASSERT_EQ(file.blocks.size(), 1u);
  EXPECT_LE(file.blocks[0].offset + file.blocks[0].values.size() * sizeof(float), file.dataSize);
}

} // namespace
