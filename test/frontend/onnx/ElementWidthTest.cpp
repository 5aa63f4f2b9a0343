//===- ElementWidthTest.cpp - Models whose numbers are not of the types of kernels --------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/frontend/onnx/TestModel.h"

#include "ir/StateElements.h"
#include "mlir/IR/TypeUtilities.h"
#include <fstream>
#include <gtest/gtest.h>

namespace moe::test {
namespace {

using frontend::ParameterPolicy;

ir::StateOp stateOf(TestModel &m, const char *name) {
  return llvm::cast<ir::StateOp>(m.module->lookupSymbol(name));
}

int doubles(TestModel &m) {
  int count = 0;
  m.module->walk([&](mlir::Operation *op) {
    for (mlir::Value value : op->getResults())
      count += mlir::getElementTypeOrSelf(value.getType()).isF64();
    if (auto function = llvm::dyn_cast<mlir::func::FuncOp>(op))
      for (mlir::Type type : llvm::concat<const mlir::Type>(function.getArgumentTypes(), function.getResultTypes()))
        count += mlir::getElementTypeOrSelf(type).isF64();
  });
  return count;
}

/// A scalar of float64 from a node of its own.
void constant(TestModel &m, const std::string &name, double value) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::DOUBLE);
  tensor.add_double_data(value);
  m.nodes.add("Constant", {}, name, {{"value", tensor}});
}

void cast(TestModel &m, const std::string &from, const std::string &to, int64_t type) {
  m.nodes.add("Cast", {from}, to, {{"to", type}});
}

// Buckets of parameters, gradients and moments are float32: a parameter of another type fitted none.
TEST(ElementWidth, NarrowFloatsAreHeldInFloat32) {
  for (bool raw : {false, true}) {
    TestModel m;
    m.input("x", {2}, onnx::TensorProto::BFLOAT16);
    onnx::TensorProto &weight = m.weight("w", {2}, {});
    weight.set_data_type(onnx::TensorProto::BFLOAT16);
    const uint16_t bits[2] = {0x3fc0, 0xc020}; // 1.5 and -2.5
    if (raw)
      weight.set_raw_data(bits, sizeof(bits));
    else
      weight.mutable_int32_data()->Add(bits, bits + 2);
    m.nodes.add("Mul", {"x", "w"}, "y");
    m.output("y");
    m.options.parameters.standard = ParameterPolicy::Standard::Train;
    ASSERT_TRUE(m.import()) << m.messages();
    ir::StateOp state = stateOf(m, "w");
    EXPECT_TRUE(state.getTensorType().getElementType().isF32());
    EXPECT_TRUE(m.resultType(0).getElementType().isF32());
    EXPECT_EQ(m.count<ir::CastOp>(), 0);
    EXPECT_EQ(m.messages(), "");
    auto initial = llvm::cast<mlir::DictionaryAttr>(*state.getInitial());
    if (raw)
      EXPECT_TRUE(initial.getAs<mlir::TypeAttr>("stored").getValue().isBF16());
    else
      EXPECT_EQ(m.run({{2.0, 3.0}}).at("y"), (std::vector<double>{3.0, -7.5}));
  }
}

// No target has kernels of float64: all of the program is float32, and so is what is trained; the user is told.
TEST(ElementWidth, DoublesAreComputedInFloat32) {
  for (bool raw : {false, true}) {
    TestModel m;
    m.input("x", {2}, onnx::TensorProto::DOUBLE);
    onnx::TensorProto &weight = m.weight("w", {2}, {});
    weight.set_data_type(onnx::TensorProto::DOUBLE);
    const double values[2] = {1.5, -2.5};
    if (raw)
      weight.set_raw_data(values, sizeof(values));
    else
      weight.mutable_double_data()->Add(values, values + 2);
    constant(m, "tenth", 0.1);
    m.nodes.add("Mul", {"x", "w"}, "p");
    m.nodes.add("Add", {"p", "tenth"}, "y");
    cast(m, "y", "z", onnx::TensorProto::FLOAT);
    m.output("y");
    m.output("z");
    m.options.parameters.standard = ParameterPolicy::Standard::Train;
    ASSERT_TRUE(m.import()) << m.messages();
    EXPECT_NE(m.messages().find("float64"), std::string::npos) << m.messages();
    EXPECT_EQ(doubles(m), 0);
    EXPECT_EQ(m.count<ir::CastOp>(), 0);
    EXPECT_TRUE(stateOf(m, "w").getTensorType().getElementType().isF32());
    for (const char *name : {"y", "z"}) {
      std::vector<double> result = m.run({{2.0, 3.0}}).at(name);
      ASSERT_EQ(result.size(), 2u);
      EXPECT_NEAR(result[0], 3.1, 1e-6);
      EXPECT_NEAR(result[1], -7.4, 1e-6);
    }
    // For an oracle in float64, the constant is what the file says.
    frontend::useExactConstants(*m.module);
    EXPECT_NEAR(m.run({{2.0, 3.0}}).at("y")[0], 3.1, 1e-14);
  }
}

// The same for float16; widening it loses nothing, and there is nothing to be told.
TEST(ElementWidth, HalvesAreComputedInFloat32) {
  TestModel m;
  m.input("x", {2}, onnx::TensorProto::FLOAT16);
  onnx::TensorProto &weight = m.weight("w", {2}, {});
  weight.set_data_type(onnx::TensorProto::FLOAT16);
  const uint16_t bits[2] = {0x3e00, 0xc100}; // 1.5 and -2.5
  weight.mutable_int32_data()->Add(bits, bits + 2);
  m.nodes.add("Mul", {"x", "w"}, "y");
  m.output("y");
  m.options.parameters.standard = ParameterPolicy::Standard::Train;
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.messages(), "");
  EXPECT_TRUE(m.resultType(0).getElementType().isF32());
  EXPECT_EQ(m.count<ir::CastOp>(), 0);
  EXPECT_EQ(m.run({{2.0, 3.0}}).at("y"), (std::vector<double>{3.0, -7.5}));
}

// 2^24 + 1 is no float32: shapes are computed before anything is narrowed. Nothing of the model's numbers is lost.
TEST(ElementWidth, ShapesAreComputedInDoubles) {
  TestModel m;
  m.input("x", {2});
  constant(m, "large", 16777217.0);
  constant(m, "less", 16777214.0);
  m.nodes.add("Sub", {"large", "less"}, "three");
  cast(m, "three", "count", onnx::TensorProto::INT64);
  m.nodes.list({1}, "one");
  m.nodes.list({2}, "two");
  m.nodes.add("Reshape", {"count", "one"}, "counts");
  m.nodes.add("Concat", {"counts", "two"}, "to", {{"axis", int64_t(0)}});
  m.nodes.add("Expand", {"x", "to"}, "y");
  m.output("y");
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_EQ(m.messages(), "");
  EXPECT_EQ(m.resultType(0).getShape(), (llvm::ArrayRef<int64_t>{3, 2}));
  EXPECT_EQ(doubles(m), 0);
}

// Plans read float32 and 16 bits from the file; doubles travel in the plan, which has limits.
TEST(ElementWidth, RefusesLargeDoubles) {
  TestModel m;
  const int64_t rows = (int64_t(1) << 22) + 1;
  m.input("x", {rows}, onnx::TensorProto::DOUBLE);
  onnx::TensorProto &weight = m.weight("w", {rows}, {});
  weight.set_data_type(onnx::TensorProto::DOUBLE);
  weight.set_data_location(onnx::TensorProto::EXTERNAL);
  onnx::StringStringEntryProto &location = *weight.add_external_data();
  location.set_key("location");
  location.set_value("w.bin");
  std::ofstream(m.folder / "w.bin").put(0);
  std::filesystem::resize_file(m.folder / "w.bin", static_cast<uint64_t>(rows) * sizeof(double));
  m.nodes.add("Mul", {"x", "w"}, "y");
  m.output("y");
  m.options.parameters.standard = ParameterPolicy::Standard::Train;
  EXPECT_FALSE(m.import());
  EXPECT_NE(m.messages().find("cannot take 'w' [4194305]"), std::string::npos) << m.messages();
  EXPECT_NE(m.messages().find("export the weights in float32"), std::string::npos) << m.messages();
}

// So do bytes, and the advice for them is another one.
TEST(ElementWidth, RefusesLargeTablesOfBytes) {
  TestModel m;
  const int64_t rows = (int64_t(1) << 22) + 1;
  m.input("x", {1});
  onnx::TensorProto &table = m.weight("t", {rows}, {});
  table.set_data_type(onnx::TensorProto::INT8);
  table.set_raw_data(std::string(static_cast<size_t>(rows), '\1'));
  m.nodes.add("Cast", {"t"}, "y", {{"to", int64_t(onnx::TensorProto::FLOAT)}});
  m.output("y");
  EXPECT_FALSE(m.import());
  EXPECT_NE(m.messages().find("export it in int32 or int64"), std::string::npos) << m.messages();
}

// A model in 16 bits has its masks in 16 bits: attention is found by what they hide.
TEST(ElementWidth, MasksOfAnyWidthAreKnown) {
  for (int type : {onnx::TensorProto::FLOAT, onnx::TensorProto::BFLOAT16, onnx::TensorProto::DOUBLE}) {
    TestModel m;
    m.input("x", {2, 2}, type);
    onnx::TensorProto &mask = m.weight("mask", {2, 2}, {});
    mask.set_data_type(type);
    if (type == onnx::TensorProto::BFLOAT16)
      for (int bits : {0, 0xff7f, 0, 0})
        mask.add_int32_data(bits);
    for (double value : {0.0, -3e38, 0.0, 0.0}) {
      if (type == onnx::TensorProto::FLOAT)
        mask.add_float_data(static_cast<float>(value));
      else if (type == onnx::TensorProto::DOUBLE)
        mask.add_double_data(value);
    }
    m.nodes.add("Add", {"x", "mask"}, "y");
    m.output("y");
    m.options.parameters.standard = ParameterPolicy::Standard::Train;
    m.options.parameters.freeze = {"mask"};
    ASSERT_TRUE(m.import()) << m.messages();
    auto elements = stateOf(m, "mask")->getAttrOfType<mlir::DenseElementsAttr>(ir::kElementsAttr);
    ASSERT_TRUE(elements);
    EXPECT_EQ(elements.getType(), stateOf(m, "mask").getTensorType());
    EXPECT_LT(elements.getValues<float>()[1], -1e38F);
  }
}

// 200 + 200 of bytes is 144, and -100 - 100 of signed ones is 56; a table of 5000 bytes is no shape and stays a state.
TEST(ElementWidth, NarrowIntegersWrapAsTheirTypeDoes) {
  TestModel m;
  m.input("x", {2}, onnx::TensorProto::UINT8);
  m.input("s", {1}, onnx::TensorProto::INT8);
  m.nodes.add("Add", {"x", "x"}, "y");
  m.nodes.add("Add", {"s", "s"}, "t");
  onnx::TensorProto &table = m.weight("table", {5000}, {});
  table.set_data_type(onnx::TensorProto::UINT8);
  table.set_raw_data(std::string(5000, char(200)));
  m.nodes.add("ReduceMax", {"table"}, "most", {{"keepdims", int64_t(0)}});
  for (const char *name : {"y", "t", "most"})
    m.output(name);
  ASSERT_TRUE(m.import()) << m.messages();
  EXPECT_TRUE(stateOf(m, "table").getTensorType().getElementType().isSignlessInteger(32));
  m.module->walk([](mlir::Operation *op) {
    for (mlir::Type type : op->getResultTypes())
      EXPECT_GE(mlir::getElementTypeOrSelf(type).getIntOrFloatBitWidth(), 32U);
  });
  auto results = m.run({{200.0, 100.0}, {-100.0}});
  EXPECT_EQ(results["y"], (std::vector<double>{144.0, 200.0}));
  EXPECT_EQ(results["t"], std::vector<double>{56.0});
  EXPECT_EQ(results["most"], std::vector<double>{200.0});
}

// The number is converted to the integer type: of infinity that is undefined behaviour, of a fraction another number.
TEST(ElementWidth, IntegersDoNotMeetNumbersThatTheirTypeLacks) {
  for (const char *op : {"IsInf", "Elu"}) {
    TestModel m;
    m.input("x", {2}, onnx::TensorProto::INT64);
    m.nodes.add(op, {"x"}, "y", {{"alpha", 0.5F}});
    m.output("y");
    EXPECT_FALSE(m.import()) << op;
    EXPECT_NE(m.messages().find(op), std::string::npos) << m.messages();
  }
}

} // namespace
} // namespace moe::test
