//===- SequenceTest.cpp - Operators on sequences that the standard has no node tests of ---------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/frontend/onnx/TestModel.h"

#include <gtest/gtest.h>

namespace moe::test {
namespace {

using Values = std::vector<double>;

/// y = the sequence (a, b, c) of [1,2] without element `erased` (the last one if there is no such operand), joined.
void joined(TestModel &m, std::optional<int64_t> erased, int64_t axis, bool newAxis) {
  for (const char *name : {"a", "b", "c"})
    m.input(name, {1, 2});
  m.nodes.add("SequenceConstruct", {"a", "b", "c"}, "all");
  std::vector<std::string> operands{"all"};
  if (erased)
    operands.push_back(m.nodes.scalar(*erased, "position"));
  m.nodes.add("SequenceErase", operands, "some");
  m.nodes.add("ConcatFromSequence", {"some"}, "y", {{"axis", axis}, {"new_axis", int64_t(newAxis)}});
  m.output("y");
}

void expect(std::optional<int64_t> erased, int64_t axis, bool newAxis, std::vector<int64_t> shape,
            const Values &values) {
  TestModel m;
  joined(m, erased, axis, newAxis);
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.resultType(0).getShape(), llvm::ArrayRef(shape));
  EXPECT_EQ(m.run({{1, 2}, {3, 4}, {5, 6}}).at("y"), values);
}

TEST(Sequences, EraseAndConcat) {
  expect(0, 0, false, {2, 2}, {3, 4, 5, 6});
  expect(1, 1, false, {1, 4}, {1, 2, 5, 6});
  expect(-1, -1, false, {1, 4}, {1, 2, 3, 4});
  expect({}, 0, true, {2, 1, 2}, {1, 2, 3, 4});
  expect(-3, 2, true, {1, 2, 2}, {3, 5, 4, 6});
  expect(0, -1, true, {1, 2, 2}, {3, 5, 4, 6});
}

TEST(Sequences, RefusesWhatIsNotThere) {
  for (auto [erased, axis] : {std::pair<int64_t, int64_t>{3, 0}, {-4, 0}, {0, 2}, {0, -3}}) {
    TestModel m;
    joined(m, erased, axis, false);
    EXPECT_FALSE(m.import()) << erased << ", " << axis;
    EXPECT_NE(m.messages(), "");
  }
}

} // namespace
} // namespace moe::test
