//===- InputBatchTest.cpp - Which inputs follow from which, and how rows are completed ---------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/InputBatch.h"
#include "test/runtime/FakeSession.h"

#include <gtest/gtest.h>

using namespace moe;
using Tokens = std::vector<int64_t>;
using Kind = Sample::Column::Kind;

namespace {

/// Inputs of a plan, without a plan: rows of 2 sequences.
struct Inputs {
  plan::Plan plan;

  plan::Input &add(const char *name, int64_t length, plan::DType type = plan::I64, int64_t vocabulary = 0) {
    plan::Input &input = *plan.add_inputs();
    input.set_name(name);
    input.set_dtype(type);
    input.add_shape(2);
    input.add_shape(length);
    input.set_vocabulary(vocabulary);
    input.set_is_labels(std::string_view(name) == "labels");
    plan.mutable_training()->set_pad_id(-100);
    return input;
  }
  ModelInputs describe(InputOptions options = {}) {
    auto inputs = ModelInputs::describe(plan, options);
    EXPECT_TRUE(inputs) << (inputs ? "" : inputs.error().str());
    return *inputs;
  }
};

/// What BART's exports read.
Inputs encoderDecoder() {
  Inputs inputs;
  inputs.add("input_ids", 5, plan::I64, 20);
  inputs.add("attention_mask", 5);
  inputs.add("decoder_input_ids", 4, plan::I64, 20);
  inputs.add("decoder_attention_mask", 4, plan::F32);
  inputs.add("labels", 4, plan::I64, 20);
  return inputs;
}

/// A sample with these columns; an empty one is absent.
Sample sampleOf(std::vector<Tokens> columns) {
  Sample sample;
  for (Tokens &column : columns) {
    sample.columns.emplace_back();
    if (!column.empty())
      sample.columns.back().set(std::move(column));
  }
  return sample;
}

std::vector<Tokens> complete(const ModelInputs &inputs, Sample sample) {
  Status status = completeSample(inputs, sample);
  EXPECT_TRUE(status) << (status ? "" : status.error().str());
  std::vector<Tokens> rows;
  rows.reserve(sample.columns.size());
  for (Sample::Column &column : sample.columns)
    rows.push_back(column.tokens);
  return rows;
}

std::string problem(const ModelInputs &inputs, Sample sample) {
  Status status = completeSample(inputs, sample);
  return status ? "" : status.error().str();
}

} // namespace

// A mask belongs to the tokens whose name begins alike, not to those of the other half of the model.
TEST(ModelInputs, FindPartners) {
  ModelInputs inputs = encoderDecoder().describe();
  Tokens partners;
  for (const ModelInput &input : inputs.list())
    partners.push_back(input.partner);
  EXPECT_EQ(partners, (Tokens{-1, 0, -1, 2, 2}));
  EXPECT_TRUE(inputs.hasEncoder());
  EXPECT_EQ(inputs.rows(), 2);
  EXPECT_EQ(inputs.length(), 4);
  EXPECT_FALSE(inputs.isDerivable(2));
  EXPECT_TRUE(encoderDecoder().describe({.decoderStart = 2}).isDerivable(2));

  // Positions are looked up in a table too, and yet are no tokens.
  Inputs decoder;
  decoder.add("position_ids", 4, plan::I64, 64);
  decoder.add("input_ids", 4, plan::I64, 20);
  decoder.add("token_type_ids", 4, plan::I64, 2);
  decoder.add("labels", 4, plan::I64, 20);
  inputs = decoder.describe();
  EXPECT_FALSE(inputs.hasEncoder());
  EXPECT_EQ(inputs.labelSource(), 1);
  EXPECT_EQ(complete(inputs, sampleOf({{}, {7, 8, 9}, {}, {}})),
            (std::vector<Tokens>{{0, 1, 2, 3}, {7, 8, 0, 0}, {0, 0, 0, 0}, {8, 9, -100, -100}}));
}

// Names that say nothing of a decoder: it is what comes after the encoder.
TEST(ModelInputs, DecodersComeLast) {
  Inputs inputs;
  inputs.add("src_tokens", 4, plan::I64, 20);
  inputs.add("prev_output_tokens", 4, plan::I64, 20);
  inputs.add("labels", 4, plan::I64, 20);
  EXPECT_EQ(inputs.describe().labelSource(), 1);
}

TEST(ModelInputs, RefuseWhatHasNoRows) {
  Inputs inputs = encoderDecoder();
  inputs.plan.mutable_inputs(1)->set_shape(0, 3);
  inputs.plan.mutable_inputs(4)->clear_shape();
  auto described = ModelInputs::describe(inputs.plan);
  ASSERT_FALSE(described);
  EXPECT_EQ(described.error().where, "inputs attention_mask, labels");
  EXPECT_FALSE(ModelInputs::describe(plan::Plan()));
  auto option = ModelInputs::describe(encoderDecoder().plan, {.padToken = 20});
  ASSERT_FALSE(option);
  EXPECT_EQ(option.error().where, "--pad-token");
}

TEST(CompleteSample, MasksAndPadding) {
  ModelInputs inputs = encoderDecoder().describe();
  // Everything that can follow from other columns does.
  EXPECT_EQ(complete(inputs, sampleOf({{5, 6, 7}, {}, {2, 8}, {}, {8, 3}})),
            (std::vector<Tokens>{{5, 6, 7, 0, 0}, {1, 1, 1, 0, 0}, {2, 8, 0, 0}, {1, 1, 0, 0}, {8, 3, -100, -100}}));
  // A mask that is given stays, and is padded with zeros.
  EXPECT_EQ(complete(inputs, sampleOf({{5, 6, 7}, {1, 0, 1}, {2}, {}, {8}}))[1], (Tokens{1, 0, 1, 0, 0}));
  // Without labels they are the decoder's tokens from the second on.
  EXPECT_EQ(complete(inputs, sampleOf({{5}, {}, {2, 8, 9, 10, 11}, {}, {}}))[4], (Tokens{8, 9, 10, 11}));
  // With a start token the decoder reads the labels, up to those that are not counted.
  ModelInputs starting = encoderDecoder().describe({.padToken = 1, .decoderStart = 2});
  std::vector<Tokens> rows = complete(starting, sampleOf({{5, 6, 1, 7, 1}, {}, {}, {}, {8, 9, -100}}));
  EXPECT_EQ(rows[2], (Tokens{2, 8, 9, 1}));
  EXPECT_EQ(rows[3], (Tokens{1, 1, 1, 0}));
  // A tail of the padding token that the user names is padding; attention to nothing would be no number.
  EXPECT_EQ(rows[1], (Tokens{1, 1, 1, 1, 0}));
  EXPECT_EQ(complete(starting, sampleOf({{1, 1, 1, 1, 1}, {}, {}, {}, {8}}))[1], (Tokens{1, 0, 0, 0, 0}));
}

TEST(CompleteSample, RefusesWhatDoesNotFit) {
  ModelInputs inputs = encoderDecoder().describe();
  EXPECT_NE(problem(inputs, sampleOf({{5}, {}, {}, {}, {8}})).find("no values"), std::string::npos);
  EXPECT_NE(problem(inputs, sampleOf({{}, {}, {2}, {}, {8}})).find("input input_ids"), std::string::npos);
  EXPECT_NE(problem(inputs, sampleOf({{5, 5, 5, 5, 5, 5}, {}, {2}, {}, {8}})).find("longer"), std::string::npos);
  EXPECT_NE(problem(inputs, sampleOf({{5, 20}, {}, {2}, {}, {8}})).find("the token is 20"), std::string::npos);
  EXPECT_NE(problem(inputs, sampleOf({{-1}, {}, {2}, {}, {8}})).find("the token is -1"), std::string::npos);
  EXPECT_NE(problem(inputs, sampleOf({{-100}, {}, {2}, {}, {8}})).find("element 0"), std::string::npos);
  EXPECT_NE(problem(inputs, sampleOf({{5}, {}, {2}, {}, {-99}})).find("input labels"), std::string::npos);
  EXPECT_NE(problem(inputs, sampleOf({{5}, {}, {2}, {}, {}})).find("too short"), std::string::npos);
  Inputs counting = encoderDecoder();
  counting.plan.mutable_training()->set_pad_id(-1);
  EXPECT_NE(problem(counting.describe(), sampleOf({{5}, {}, {2}, {}, {8}})).find("ignores no label"),
            std::string::npos);
}

TEST(InputBatch, WritesRowsAndPadding) {
  for (plan::DType type : {plan::I64, plan::I32}) {
    test::FakeSession session({.batch = 2, .length = 3, .accumulate = 2, .tokenType = type});
    InputBatch batch(session, *ModelInputs::describe(session.plan()));
    Sample sample = sampleOf({{10, 11, 12, 13}, {}});
    ASSERT_TRUE(batch.write(1, 1, sample));
    EXPECT_EQ(session.staged("input_ids", 1), (Tokens{0, 0, 0, 10, 11, 12}));
    EXPECT_EQ(session.staged("labels", 1), (Tokens{0, 0, 0, 11, 12, 13}));
    EXPECT_EQ(session.staged("labels", 0), Tokens(6, 0));
    batch.pad(0, 0);
    EXPECT_EQ(session.staged("labels", 0), (Tokens{1, 1, 1, 0, 0, 0}));
    EXPECT_EQ(session.staged("input_ids", 0), (Tokens{1, 1, 1, 0, 0, 0}));
  }
}
