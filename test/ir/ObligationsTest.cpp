//===- ObligationsTest.cpp - Every operation says what it owes --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Dialect.h"
#include "ir/Status.h"
#include "test/ir/TestSupport.h"
#include <fstream>
#include <gtest/gtest.h>
#include <set>
#include <sstream>

using namespace mlir;
using namespace moe::test;

namespace {

/// Declarations and terminators: nothing is computed, so nothing is owed.
const std::set<std::string> withoutObligations = {"moe.state", "moe.yield"};

struct Statement {
  const char *obligation;
  llvm::StringRef status;
};

std::vector<Statement> statements(const moe::ir::Obligations &o) {
  return {{"verifier", o.verifier},   {"shape", o.shape},     {"layout", o.layout},
          {"reference", o.reference}, {"adjoint", o.adjoint}, {"decomposition", o.decomposition},
          {"cost", o.cost},           {"cpu", o.cpu},         {"cuda", o.cuda},
          {"tests", o.tests}};
}

bool saysYes(llvm::StringRef status) {
  return status == "yes" || status.starts_with("yes: ");
}

/// "no: " and "planned: " owe a reason.
bool isWellFormed(llvm::StringRef status) {
  if (saysYes(status))
    return true;
  for (llvm::StringRef word : {"no: ", "planned: "})
    if (status.starts_with(word))
      return !status.drop_front(word.size()).trim().empty();
  return false;
}

TEST(Obligations, AreStatedByEveryOperation) {
  IrContext ir;
  for (RegisteredOperationName name : ir.context.getRegisteredOperationsByDialect("moe")) {
    auto *model = name.getInterface<moe::ir::MoeOpInterface>();
    std::string op = name.getStringRef().str();
    EXPECT_EQ(model == nullptr, withoutObligations.count(op) == 1) << op;
    if (!model)
      continue;
    for (const Statement &statement : statements(model->getObligations()))
      EXPECT_TRUE(isWellFormed(statement.status))
          << op << " says '" << statement.status.str() << "' of its " << statement.obligation
          << "; a record says \"yes\", \"no: why\" or \"planned: why\"";
  }
}

TEST(Obligations, AgreeWithTheInterfaces) {
  IrContext ir;
  for (RegisteredOperationName name : ir.context.getRegisteredOperationsByDialect("moe")) {
    auto *model = name.getInterface<moe::ir::MoeOpInterface>();
    if (!model)
      continue;
    std::string op = name.getStringRef().str();
    moe::ir::Obligations status = model->getObligations();
    EXPECT_EQ(saysYes(status.adjoint), name.hasInterface<moe::ir::DifferentiableOpInterface>()) << op;
    bool decomposable = name.hasInterface<moe::ir::DecomposableOpInterface>();
    if (saysYes(status.decomposition)) {
      EXPECT_TRUE(decomposable) << op;
    } else if (decomposable) {
      EXPECT_TRUE(status.decomposition.starts_with("planned: "))
          << op << " could decompose: " << status.decomposition.str();
    }
    // Operations on corresponding elements exist in generated kernels only.
    if (name.hasInterface<moe::ir::ElementwiseOpInterface>()) {
      EXPECT_TRUE(saysYes(status.cpu)) << op;
    }
    EXPECT_TRUE(saysYes(status.reference)) << op << " is unknown to the oracle of all other tests";
  }
}

TEST(Obligations, TableInTheDocumentationIsUpToDate) {
  IrContext ir;
  std::ifstream file(MOEC_STATUS_FILE);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), moe::ir::statusTable(ir.context)) << "run moe-opt --emit-status > docs/status.md";
}

TEST(Obligations, TableNumbersEachReasonOnce) {
  IrContext ir;
  std::string table = moe::ir::statusTable(ir.context);
  EXPECT_NE(table.find("| `moe.add` | yes |"), std::string::npos);
  EXPECT_EQ(table.find("moe.yield"), std::string::npos);
  std::string reason = "no: a fine operation";
  size_t first = table.find(reason);
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(table.find(reason, first + 1), std::string::npos);
}

} // namespace
