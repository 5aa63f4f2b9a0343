//===- IndexBoundsTest.cpp - Bounds of the integers of inputs -----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
// Each case looks up rows of a table of ten rows by an index that is computed from `ids`; the bound is by hand.

#include "test/frontend/onnx/TestModel.h"

#include "mlir/IR/BuiltinAttributes.h"
#include <functional>
#include <gtest/gtest.h>

using namespace moe;
using namespace moe::test;

namespace {

constexpr int kInt64 = onnx::TensorProto::INT64;

/// The vocabulary of `ids`, where `build` makes the value `index` of it; -1 if the import fails.
int64_t boundOf(const std::function<void(TestModel &)> &build) {
  TestModel m;
  m.input("ids", {2, 3}, kInt64);
  m.input("mask", {2, 3}, kInt64);
  m.weight("table", {10, 4}, floatRamp(40));
  for (auto [name, value] : {std::pair{"two", 2}, {"three", 3}, {"minus_three", -3}, {"seven", 7}, {"zero", 0}})
    m.nodes.scalar(int64_t(value), name);
  m.options.parameters.train = {"table"};
  build(m);
  m.nodes.add("Gather", {"table", "index"}, "y");
  m.output("y");
  if (!m.import()) {
    ADD_FAILURE() << m.messages();
    return -1;
  }
  auto inputs = (*m.module)->getAttrOfType<mlir::DictionaryAttr>("moe.data").getAs<mlir::DictionaryAttr>("inputs");
  return inputs.getAs<mlir::DictionaryAttr>("ids").getAs<mlir::IntegerAttr>("vocabulary").getInt();
}

TEST(IndexBounds, OfWhatIsLookedUpItself) {
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Identity", {"ids"}, "index"); }), 10);
}

TEST(IndexBounds, PassSumsAndProducts) {
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Add", {"ids", "two"}, "index"); }), 8);
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Sub", {"ids", "two"}, "index"); }), 12);
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Mul", {"ids", "three"}, "index"); }), 4);
  EXPECT_EQ(boundOf([](TestModel &m) {
              m.nodes.add("Mul", {"ids", "two"}, "double");
              m.nodes.add("Add", {"three", "double"}, "index");
            }),
            4);
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Sub", {"seven", "ids"}, "index"); }), 0) << "only bounded below";
}

TEST(IndexBounds, PassCastsAndShapes) {
  EXPECT_EQ(boundOf([](TestModel &m) {
              m.nodes.add("Cast", {"ids"}, "narrow", {{"to", int64_t(onnx::TensorProto::INT32)}});
              m.nodes.list({3, 2}, "shape");
              m.nodes.add("Reshape", {"narrow", "shape"}, "flat");
              m.nodes.add("Transpose", {"flat"}, "turned");
              m.nodes.add("Cast", {"turned"}, "wide", {{"to", int64_t(kInt64)}});
              m.nodes.add("Add", {"wide", "two"}, "index");
            }),
            8);
}

TEST(IndexBounds, PassSelectionsAndLimits) {
  EXPECT_EQ(boundOf([](TestModel &m) {
              m.nodes.add("Equal", {"ids", "two"}, "hit");
              m.nodes.add("Where", {"hit", "zero", "ids"}, "index");
            }),
            10);
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Clip", {"ids", "zero", "seven"}, "index"); }), 0);
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Clip", {"ids", "", "seven"}, "index"); }), 0);
  EXPECT_EQ(boundOf([](TestModel &m) {
              m.nodes.add("Greater", {"ids", "seven"}, "far");
              m.nodes.add("Where", {"far", "seven", "ids"}, "index");
            }),
            0);
}

TEST(IndexBounds, AreNoneWhereNegativeNumbersMeanSomething) {
  EXPECT_EQ(boundOf([](TestModel &m) {
              m.nodes.add("Equal", {"ids", "minus_three"}, "ignored");
              m.nodes.add("Where", {"ignored", "zero", "ids"}, "index");
            }),
            0);
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Max", {"ids", "zero"}, "index"); }), 0);
}

TEST(IndexBounds, AreNoneWhereOthersDecide) {
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Add", {"ids", "mask"}, "index"); }), 0);
  EXPECT_EQ(boundOf([](TestModel &m) { m.nodes.add("Mod", {"ids", "seven"}, "index"); }), 0);
}

} // namespace
