//===- CollectivesTest.cpp - Operations between ranks: values, adjoints, refusals
//------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// A collective changes how a tensor lies on the mesh and not the tensor. So: random parts, of which no two ranks have
// the same, put together before and after by code that knows nothing of collectives, must be the same tensor; and an
// adjoint A' of A satisfies <A x, y> = <x, A' y>, inner products taken over whole tensors.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/RetypeTensors.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Verifier.h"
#include "test/ir/GradientSupport.h"
#include "test/ir/LayoutCases.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace moe::test;
using moe::ir::HostTensor;

namespace {

struct Case {
  const char *operation, *from, *to;
};

/// Meshes of 2 x 3 ranks; dimension 0 is 12 long, dimension 1 is 6 long.
const Case kCases[] = {
    {"all_reduce %0 {axes = [\"data\"]}", "12x6 partial, replicate", "12x6 replicate, replicate"},
    {"all_reduce %0 {axes = [\"expert\"]}", "6x6 shard(0), partial", "6x6 shard(0), replicate"},
    {"all_reduce %0 {axes = [\"data\", \"expert\"]}", "12x6 partial, partial", "12x6 replicate, replicate"},
    {"all_gather %0 {axes = [\"data\"], dim = 0 : i64}", "6x6 shard(0), partial", "12x6 replicate, partial"},
    {"all_gather %0 {axes = [\"expert\"], dim = 0 : i64}", "2x6 shard(0), shard(0)", "6x6 shard(0), replicate"},
    {"all_gather %0 {axes = [\"data\", \"expert\"], dim = 0 : i64}", "2x6 shard(0), shard(0)",
     "12x6 replicate, replicate"},
    {"reduce_scatter %0 {axes = [\"data\"], dim = 1 : i64}", "12x6 partial, replicate", "12x3 shard(1), replicate"},
    {"reduce_scatter %0 {axes = [\"data\", \"expert\"], dim = 0 : i64}", "12x6 partial, partial",
     "2x6 shard(0), shard(0)"},
    {"all_to_all %0 {axes = [\"expert\"], from = 0 : i64, to = 1 : i64}", "2x6 shard(0), shard(0)",
     "6x2 shard(0), shard(1)"},
    {"all_to_all %0 {axes = [\"data\"], from = 1 : i64, to = 0 : i64}", "12x3 shard(1), replicate",
     "6x6 shard(0), replicate"},
    {"all_slice %0 {axes = [\"expert\"], dim = 0 : i64}", "6x6 shard(0), replicate", "2x6 shard(0), shard(0)"},
    {"all_slice %0 {axes = [\"data\", \"expert\"], dim = 0 : i64}", "12x6 replicate, replicate",
     "2x6 shard(0), shard(0)"},
    {"pad_slice %0 {axes = [\"expert\"], dim = 1 : i64}", "12x2 partial, shard(1)", "12x6 partial, partial"},
    {"as_partial %0 {axes = [\"data\"]}", "12x2 replicate, shard(1)", "12x2 partial, shard(1)"},
    {"as_partial %0 {axes = [\"data\", \"expert\"]}", "12x6 replicate, replicate", "12x6 partial, partial"},
};

const Distribution kMesh[] = {{2, std::nullopt, {}}, {3, std::nullopt, {}}};

std::string typeText(llvm::StringRef text) {
  auto [shape, kinds] = text.split(' ');
  auto [data, expert] = kinds.split(", ");
  return ("tensor<" + shape + "xf64, #moe.layout<data = " + data + ", expert = " + expert + ">>").str();
}

std::string moduleText(const std::string &operation, const std::string &from, const std::string &to) {
  return "module attributes {moe.mesh = #moe.mesh<data = 2, expert = 3>} {\n  func.func @f(%0: " + from + ") -> " + to +
         " {\n    %1 = moe." + operation + " : (" + from + ") -> " + to + "\n    return %1 : " + to + "\n  }\n}\n";
}

std::string moduleText(const Case &example) {
  return moduleText(example.operation, typeText(example.from), typeText(example.to));
}

/// Runs @`name` on all ranks with one argument and one result.
std::vector<HostTensor> runOnMesh(ModuleOp module, const char *name, const std::vector<HostTensor> &parts) {
  std::vector<std::vector<HostTensor>> inputs;
  std::vector<moe::ir::InterpreterState> states;
  for (const HostTensor &part : parts) {
    inputs.push_back({part});
    states.emplace_back(module);
  }
  auto results = moe::ir::interpretOnMesh(module, name, inputs, states);
  std::vector<HostTensor> computed;
  if (succeeded(results))
    for (auto &mine : *results)
      computed.push_back(mine[0]);
  return computed;
}

HostTensor randomWhole(uint64_t seed) {
  return HostTensor({12, 6}, randomNumbers(72, -2, 2, seed));
}

class Collectives : public testing::TestWithParam<Case> {};

TEST_P(Collectives, KeepTheWhole) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(moduleText(GetParam()));
  ASSERT_TRUE(module) << ir.messages();
  auto f = module->lookupSymbol<func::FuncOp>("f");
  auto from = cast<RankedTensorType>(f.getArgumentTypes()[0]), to = cast<RankedTensorType>(f.getResultTypes()[0]);
  HostTensor whole = randomWhole(3);
  std::vector<HostTensor> results = runOnMesh(*module, "f", scatter(whole, from, kMesh, 5));
  ASSERT_EQ(results.size(), 6u) << ir.messages();
  std::optional<HostTensor> after = assemble(results, to, kMesh);
  ASSERT_TRUE(after) << "ranks that should agree do not";
  ASSERT_EQ(after->shape, whole.shape);
  for (int64_t i = 0; i < whole.size(); ++i)
    ASSERT_NEAR(after->at(i), whole.at(i), 1e-12) << i;
}

/// On whole tensors each of these is the identity, hence so is its adjoint, between the dual layouts.
TEST_P(Collectives, AdjointKeepsTheWholeBetweenDuals) {
  IrContext ir;
  OwningOpRef<ModuleOp> module = ir.parse(moduleText(GetParam()));
  ASSERT_TRUE(module) << ir.messages();
  auto f = module->lookupSymbol<func::FuncOp>("f");
  RankedTensorType arriving = moe::ir::dualType(cast<RankedTensorType>(f.getResultTypes()[0])),
                   leaving = moe::ir::dualType(cast<RankedTensorType>(f.getArgumentTypes()[0]));
  OpBuilder b(&ir.context);
  b.setInsertionPointToEnd(module->getBody());
  auto g = func::FuncOp::create(b, f.getLoc(), "g", b.getFunctionType({arriving}, {leaving}));
  b.setInsertionPointToEnd(g.addEntryBlock());
  std::vector<Value> gradients(1);
  auto op = cast<moe::ir::DifferentiableOpInterface>(subject(*module));
  ASSERT_TRUE(succeeded(op.buildAdjoint(b, g.getArgument(0), llvm::SmallBitVector(1, true), gradients)));
  func::ReturnOp::create(b, f.getLoc(), gradients);
  ASSERT_TRUE(succeeded(verify(*module))) << ir.messages();
  HostTensor whole = randomWhole(4);
  std::vector<HostTensor> results = runOnMesh(*module, "g", scatter(whole, arriving, kMesh, 9));
  ASSERT_EQ(results.size(), 6u) << ir.messages();
  std::optional<HostTensor> after = assemble(results, leaving, kMesh);
  ASSERT_TRUE(after) << "ranks that should agree do not";
  for (int64_t i = 0; i < whole.size(); ++i)
    ASSERT_NEAR(after->at(i), whole.at(i), 1e-12) << i;
}

INSTANTIATE_TEST_SUITE_P(All, Collectives, testing::ValuesIn(kCases));

struct Refusal {
  const char *operation, *from, *to, *says;
};

TEST(CollectiveTypes, AreRefusedWithBothLayoutsAndTheRemedy) {
  const Refusal refusals[] = {
      {"all_reduce %0 {axes = [\"data\"]}", "12x6 replicate, replicate", "12x6 replicate, replicate",
       "makes replicate of partial, but its types say"},
      {"all_gather %0 {axes = [\"data\"], dim = 0 : i64}", "6x6 shard(0), replicate", "6x6 replicate, replicate",
       "over 2 ranks does not make"},
      {"all_gather %0 {axes = [\"data\"], dim = 0 : i64}", "2x6 shard(0), shard(0)", "4x6 replicate, shard(0)",
       "takes away the split of dimension 0 over 'data' under that over 'expert'"},
      {"all_slice %0 {axes = [\"data\"], dim = 0 : i64}", "4x6 replicate, shard(0)", "2x6 shard(0), shard(0)",
       "takes away the split of dimension 0 over 'data' under that over 'expert'"},
      {"reduce_scatter %0 {axes = [\"expert\"], dim = 0 : i64}", "4x6 replicate, partial", "1x6 replicate, shard(0)",
       "into 3 parts, which are not equal"},
      {"all_reduce %0 {axes = [\"tensor\"]}", "12x6 replicate, partial", "12x6 replicate, replicate",
       "names an axis that the mesh"},
      {"all_gather %0 {axes = [\"data\"], dim = 2 : i64}", "6x6 shard(0), replicate", "12x6 replicate, replicate",
       "speaks of dimension 2"},
      {"as_partial %0 {axes = [\"data\"]}", "12x6 replicate, replicate", "12x6 partial, partial",
       "on mesh axis 'expert' makes replicate of replicate"},
  };
  for (const Refusal &refusal : refusals) {
    IrContext ir;
    EXPECT_FALSE(ir.parse(moduleText(refusal.operation, typeText(refusal.from), typeText(refusal.to))))
        << refusal.operation;
    EXPECT_NE(ir.messages().find(refusal.says), std::string::npos) << refusal.operation << "\n" << ir.messages();
  }
}

//===----------------------------------------------------------------------------------------------------------------===//
// own_slots: layers of experts of which every rank has a part of the rows
//===----------------------------------------------------------------------------------------------------------------===//

/// x [1,6,M], expert and slot [1,6,2], token [4,1,4] -> experts that scale by 1 + e, weighted -> y. One choice is
/// dropped, and some slots are empty.
const std::vector<int64_t> kExpert = {0, 1, 0, 2, 3, 0, 1, 3, 1, 0, 3, 1},
                           kSlot = {0, 0, 1, 0, 0, 2, 1, 1, 2, 3, 2, -1},
                           kToken = {0, 2, 5, 9, 1, 6, 8, -1, 3, -1, -1, -1, 4, 7, 10, -1};

struct Cut {
  /// Experts and slots of a rank, from 4 and 4.
  int64_t experts, slots;
  const char *cuts;
};

std::string layer(const std::string &layout, const Cut &cut, const std::string &rowsKinds, const std::string &choice) {
  std::string e = std::to_string(cut.experts), c = std::to_string(cut.slots);
  auto type = [&](const std::string &shape, const char *element, const std::string &kinds) {
    return "tensor<" + shape + "x" + element + (layout.empty() ? "" : ", #moe.layout<" + kinds + ">") + ">";
  };
  const std::string both = "data = replicate, expert = replicate";
  std::string x = type("1x6x5", "f64", both), index = type("1x6x2", "i32", both), w = type("1x6x2", "f64", both),
              token = type("4x1x4", "i32", both), own = type("1x6x2", "i32", choice),
              ownToken = type(e + "x1x" + c, "i32", rowsKinds), rows = type(e + "x1x" + c + "x5", "f64", rowsKinds),
              y = type("1x6x5", "f64", choice);
  std::string text = std::string("module") +
                     (layout.empty() ? "" : " attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>}") +
                     " {\n func.func @f(%x: " + x + ", %e: " + index + ", %s: " + index + ", %t: " + token +
                     ", %w: " + w + ") -> " + y + " {\n";
  text += cut.cuts;
  text += "  %rows = moe.dispatch %x, %oe, %os, %ot : (" + x + ", " + own + ", " + own + ", " + ownToken + ") -> " +
          rows + "\n  %h = moe.mul %rows, %rows : (" + rows + ", " + rows + ") -> " + rows + "\n" +
          "  %i = moe.iota {dim = 0 : i64} : () -> " + rows + "\n  %k = moe.mul %h, %i : (" + rows + ", " + rows +
          ") -> " + rows + "\n  %y = moe.combine %k, %oe, %os, %ot, %w : (" + rows + ", " + own + ", " + own + ", " +
          ownToken + ", " + w + ") -> " + y + "\n  return %y : " + y + "\n }\n}\n";
  auto replaceAll = [&](const std::string &what, const std::string &by) {
    for (size_t at; (at = text.find(what)) != std::string::npos;)
      text.replace(at, what.size(), by);
  };
  for (const auto &[what, by] : {std::pair{"$own", own}, {"$index", index}, {"$token", token}, {"$ot", ownToken}})
    replaceAll(what, by);
  return text;
}

/// As `decompose-coarse` does: in the programs of one rank.
void decomposeOwnSlots(ModuleOp module) {
  moe::ir::dropLayouts(module);
  llvm::SmallVector<moe::ir::OwnSlotsOp> found;
  module.walk([&](moe::ir::OwnSlotsOp op) { found.push_back(op); });
  for (moe::ir::OwnSlotsOp op : found) {
    OpBuilder builder(op);
    FailureOr<llvm::SmallVector<Value>> values = op.decompose(builder);
    ASSERT_TRUE(succeeded(values));
    op->replaceAllUsesWith(*values);
    op->erase();
  }
}

void expectSameLayer(const std::string &text, const Distribution (&mesh)[2]) {
  IrContext ir;
  std::vector<HostTensor> inputs = {HostTensor({1, 6, 5}, randomNumbers(30, -2, 2, 1)),
                                    HostTensor::ofInts({1, 6, 2}, kExpert), HostTensor::ofInts({1, 6, 2}, kSlot),
                                    HostTensor::ofInts({4, 1, 4}, kToken),
                                    HostTensor({1, 6, 2}, randomNumbers(12, 0, 1, 2))};
  std::string plain = layer("", {4, 4, ""}, "", "");
  for (auto [own, whole] : {std::pair{"%oe", "%e"}, {"%os", "%s"}, {"%ot", "%t"}})
    for (size_t at; (at = plain.find(own)) != std::string::npos;)
      plain.replace(at, 3, whole);
  OwningOpRef<ModuleOp> module = ir.parse(plain);
  ASSERT_TRUE(module) << ir.messages() << plain;
  std::vector<HostTensor> expected = evaluate(*module, "f", inputs);
  ASSERT_EQ(expected.size(), 1u);

  OwningOpRef<ModuleOp> parted = ir.parse(text);
  ASSERT_TRUE(parted) << ir.messages() << text;
  auto type = cast<RankedTensorType>(parted->lookupSymbol<func::FuncOp>("f").getResultTypes()[0]);
  for (bool decomposed : {false, true}) {
    if (decomposed)
      decomposeOwnSlots(*parted);
    ASSERT_TRUE(succeeded(verify(*parted))) << ir.messages();
    std::vector<std::vector<HostTensor>> everywhere(4, inputs);
    std::vector<moe::ir::InterpreterState> states(4, moe::ir::InterpreterState(*parted));
    auto results = moe::ir::interpretOnMesh(*parted, "f", everywhere, states);
    ASSERT_TRUE(succeeded(results)) << ir.messages();
    std::vector<HostTensor> parts;
    for (auto &mine : *results)
      parts.push_back(mine[0]);
    std::optional<HostTensor> y = assemble(parts, type, mesh);
    ASSERT_TRUE(y);
    for (int64_t i = 0; i < expected[0].size(); ++i)
      ASSERT_NEAR(y->at(i), expected[0].at(i), 1e-12) << i << (decomposed ? ", decomposed" : "");
  }
}

const Distribution kSquare[] = {{2, std::nullopt, {}}, {2, std::nullopt, {}}};

TEST(OwnSlots, ExpertsOfOneAxis) {
  expectSameLayer(layer("on",
                        {2, 4,
                         "  %oe, %os, %ot = moe.own_slots %e, %s, %t {axis = \"expert\", dim = 0 : i64} : "
                         "($index, $index, $token) -> ($own, $own, $ot)\n"},
                        "data = replicate, expert = shard(0)", "data = replicate, expert = partial"),
                  kSquare);
}

TEST(OwnSlots, SlotsOfOneAxis) {
  expectSameLayer(layer("on",
                        {4, 2,
                         "  %oe, %os, %ot = moe.own_slots %e, %s, %t {axis = \"data\", dim = 2 : i64} : "
                         "($index, $index, $token) -> ($own, $own, $ot)\n"},
                        "data = shard(2), expert = replicate", "data = partial, expert = replicate"),
                  kSquare);
}

TEST(OwnSlots, ExpertsOfOneAxisAndSlotsOfTheOther) {
  const std::string halfWay = "tensor<1x6x2xi32, #moe.layout<data = replicate, expert = partial>>",
                    halfToken = "tensor<2x1x4xi32, #moe.layout<data = replicate, expert = shard(0)>>";
  const std::string cuts = "  %he, %hs, %ht = moe.own_slots %e, %s, %t {axis = \"expert\", dim = 0 : i64} : ($index, "
                           "$index, $token) -> (" +
                           halfWay + ", " + halfWay + ", " + halfToken +
                           ")\n  %oe, %os, %ot = moe.own_slots %he, %hs, %ht {axis = \"data\", dim = 2 : i64} : (" +
                           halfWay + ", " + halfWay + ", " + halfToken + ") -> ($own, $own, $ot)\n";
  expectSameLayer(
      layer("on", {2, 2, cuts.c_str()}, "data = shard(2), expert = shard(0)", "data = partial, expert = partial"),
      kSquare);
}

TEST(OwnSlots, RowsWithoutTheirCoordinatesAreRefused) {
  IrContext ir;
  const std::string both = "#moe.layout<data = replicate, expert = replicate>",
                    part = "#moe.layout<data = replicate, expert = shard(0)>";
  std::string text =
      "module attributes {moe.mesh = #moe.mesh<data = 2, expert = 2>} {\n func.func @f(%r: tensor<2x1x4x5xf64, " +
      part + ">, %e: tensor<1x6x2xi32, " + both + ">, %t: tensor<2x1x4xi32, " + part +
      ">) {\n  %y = moe.combine %r, %e, %e, %t : (tensor<2x1x4x5xf64, " + part + ">, tensor<1x6x2xi32, " + both +
      ">, tensor<1x6x2xi32, " + both + ">, tensor<2x1x4xi32, " + part + ">) -> tensor<1x6x5xf64, " + both +
      ">\n  return\n }\n}\n";
  EXPECT_FALSE(ir.parse(text));
  EXPECT_NE(ir.messages().find("take the latter from as_partial or own_slots"), std::string::npos) << ir.messages();
}

} // namespace
