//===- InspectPrograms.cpp - What the compiler sees in a model ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/InspectPrograms.h"

#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "tools/moec/InspectText.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

using namespace mlir;

namespace moe::tools {

using Json = nlohmann::ordered_json;

namespace {

std::string locationText(Operation *op) {
  if (auto name = dyn_cast<NameLoc>(op->getLoc()))
    return name.getName().str();
  std::string text;
  llvm::raw_string_ostream(text) << op->getLoc();
  return text;
}

std::string countsText(const Json &counts) {
  std::string text;
  for (const auto &[name, count] : counts.items())
    text += (text.empty() ? "" : ", ") + count.dump() + " " + name;
  return text.empty() ? "none" : text;
}

} // namespace

Json describePrograms(ModuleOp module) {
  Json programs = Json::object();
  for (auto function : module.getOps<func::FuncOp>()) {
    std::map<std::string, int> coarse, fine;
    double flops = 0;
    int layers = 0;
    function.walk([&](ir::MoeOpInterface op) {
      const bool isCoarse = isa<ir::DecomposableOpInterface>(op.getOperation());
      ++(isCoarse ? coarse : fine)[op->getName().stripDialect().str()];
      layers += isa<ir::CombineOp>(op.getOperation()) ? 1 : 0; // what every layer of experts ends in
      flops += op.getCost().flops;
    });
    programs[function.getName().str()] = {{"moe_layers", layers}, {"coarse", coarse}, {"fine", fine}, {"flops", flops}};
  }
  return programs;
}

std::string programsText(const Json &programs) {
  std::string text;
  for (const auto &[name, program] : programs.items()) {
    char flops[32];
    std::snprintf(flops, sizeof(flops), "%.3e", program["flops"].get<double>());
    text += "program " + name + "\n" + fieldText("MoE layers", program["moe_layers"].dump());
    text += fieldText("FLOPs", flops);
    text += fieldText("coarse operations", countsText(program["coarse"]));
    text += fieldText("fine operations", countsText(program["fine"]));
  }
  return text;
}

llvm::StringRef cpuLowering(ir::MoeOpInterface op) {
  return op.getObligations().cpu;
}

void addPlannedLowerings(ModuleOp module, Json &coverage,
                         llvm::function_ref<llvm::StringRef(ir::MoeOpInterface)> lowering) {
  module.walk([&](ir::MoeOpInterface op) {
    const llvm::StringRef cpu = lowering(op);
    auto decomposable = dyn_cast<ir::DecomposableOpInterface>(op.getOperation());
    if (!cpu.starts_with("planned") || (decomposable && decomposable.decomposesForCodegen()))
      return;
    const std::string name = op->getName().stripDialect().str();
    if (std::any_of(coverage.begin(), coverage.end(), [&](const Json &entry) { return entry["op"] == name; }))
      return;
    coverage.push_back({{"op", name}, {"where", locationText(op)}, {"why", cpu.str()}});
  });
}

} // namespace moe::tools
