//===- InspectModel.cpp - What is in a model ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/InspectModel.h"

#include "frontend/onnx/Import.h"
#include "frontend/onnx/Program.h"
#include "frontend/onnx/States.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Pipeline.h"
#include "passes/recompose/ExpertStates.h"
#include "tools/moec/CompilerSession.h"
#include "tools/moec/InspectBlocks.h"
#include "tools/moec/InspectPrograms.h"
#include "tools/moec/InspectText.h"
#include "tools/moec/Report.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

using namespace mlir;

namespace moe::tools {

namespace {

using Json = nlohmann::ordered_json;

std::string dtypeName(int32_t type) {
  switch (type) {
  case onnx::TensorProto::FLOAT:
    return "float32";
  case onnx::TensorProto::DOUBLE:
    return "float64";
  default:
    return llvm::StringRef(onnx::TensorProto::DataType_Name(type)).lower();
  }
}

/// Extents are numbers, or names if symbolic; "?" if the file says nothing. A value without a shape has null.
Json describeValue(const onnx::ValueInfoProto &value) {
  const onnx::TypeProto::Tensor &type = value.type().tensor_type();
  Json shape = type.has_shape() ? Json::array() : Json();
  for (const auto &dim : type.shape().dim()) {
    if (dim.has_dim_value())
      shape.push_back(dim.dim_value());
    else
      shape.push_back(dim.dim_param().empty() ? "?" : dim.dim_param());
  }
  return {{"name", value.name()}, {"dtype", dtypeName(type.elem_type())}, {"shape", std::move(shape)}};
}

/// Whether every shape of the inputs is known without bindings.
bool isStatic(const Json &inputs) {
  for (const Json &input : inputs) {
    if (input["shape"].is_null())
      return false;
    for (const Json &extent : input["shape"])
      if (!extent.is_number())
        return false;
  }
  return true;
}

/// The `initial` attribute of a state; null if nothing is known.
Json describeInitial(Attribute initial) {
  if (auto number = dyn_cast_or_null<FloatAttr>(initial))
    return {{"kind", "constant"}, {"value", number.getValueAsDouble()}};
  auto entries = dyn_cast_or_null<DictionaryAttr>(initial);
  if (!entries)
    return nullptr;
  Json json = Json::object();
  auto pair = [&](const char *kind, const char *first, const char *second) {
    if (auto numbers = entries.getAs<ArrayAttr>(kind)) {
      json["kind"] = kind;
      json[first] = cast<FloatAttr>(numbers[0]).getValueAsDouble();
      json[second] = cast<FloatAttr>(numbers[1]).getValueAsDouble();
    }
  };
  pair("normal", "mean", "stddev");
  pair("uniform", "low", "high");
  if (auto location = entries.getAs<StringAttr>("file")) {
    json["kind"] = "file";
    json["location"] = location.str();
  }
  if (entries.contains("data"))
    json["kind"] = "data";
  if (auto rows = entries.getAs<ArrayAttr>("zero_rows"))
    for (Attribute row : rows)
      json["zero_rows"].push_back(cast<IntegerAttr>(row).getInt());
  return json;
}

/// Names of the initializers that are weights of experts: operands of ai.moec.MoE from the first expert weight to the
/// last expert bias (frontend/models/Functions.h).
llvm::StringSet<> expertNames(const onnx::GraphProto &graph) {
  llvm::StringSet<> names;
  for (const onnx::NodeProto &node : graph.node())
    if (node.domain() == "ai.moec" && node.op_type() == "MoE")
      for (int i = 2; i < std::min(6, node.input_size()); ++i)
        names.insert(node.input(i));
  return names;
}

/// Says of each parameter whether experts have it, which `more` or the file itself know, and counts these.
void countExperts(Json &json, const llvm::SetVector<StringAttr> &more) {
  llvm::StringSet<> names;
  for (StringAttr name : more)
    names.insert(name.getValue());
  int64_t elements = 0;
  for (Json &entry : json["parameters"]) {
    const bool isExpert = entry["expert"] == true || names.contains(entry["name"].get<std::string>());
    entry["expert"] = isExpert;
    if (!isExpert || entry.contains("tied_to"))
      continue;
    int64_t count = 1;
    for (const Json &extent : entry["shape"])
      count *= extent.get<int64_t>();
    elements += count;
  }
  json["counts"]["in_experts"] = elements;
}

/// Fills `parameters` and `counts`. A tensor that is tied to another is a parameter of the file but counted once. What
/// experts have is null if the file does not say: countExperts knows it once the model's program is.
void describeParameters(const frontend::Model &model, frontend::StateTable &states, Builder &builder, Json &json) {
  const llvm::StringSet<> experts = expertNames(model.graph());
  llvm::StringSet<> known;
  std::vector<Diagnostic> unknown;
  json["parameters"] = Json::array();
  int64_t total = 0, trained = 0;
  for (const onnx::TensorProto &tensor : model.graph().initializer()) {
    if (states.isConstant(tensor))
      continue;
    const std::vector<int64_t> shape(tensor.dims().begin(), tensor.dims().end());
    Json entry = {{"name", tensor.name()}, {"shape", shape}, {"dtype", dtypeName(tensor.data_type())}};
    entry["expert"] = experts.empty() ? Json() : Json(experts.contains(tensor.name()));
    if (const frontend::Tie *tie = states.tie(tensor.name())) {
      entry["tied_to"] = tie->source;
      json["parameters"].push_back(std::move(entry));
      continue;
    }
    ir::StateOp state =
        states.get(tensor, RankedTensorType::get(shape, frontend::elementType(tensor.data_type(), builder)));
    const bool isTrained = state.getKind() == ir::StateKind::Parameter;
    entry["kind"] = isTrained ? "trained" : states.isAmbiguous(tensor) ? "unknown" : "frozen";
    entry["initial"] = describeInitial(state.getInitialAttr());
    json["parameters"].push_back(std::move(entry));
    const int64_t count = frontend::elementCount(tensor).value_or(0);
    total += count;
    trained += isTrained ? count : 0;
  }
  json["counts"] = {{"total", total}, {"trained", trained}, {"in_experts", nullptr}};
  if (!experts.empty())
    countExperts(json, {});
}

/// G of the recipe, else of the file, else 1.
int64_t routingGroups(const frontend::Model &model, int64_t ofRecipe) {
  int64_t groups = 1;
  std::string elements;
  const onnx::TensorProto *tensor = model.initializer("routing_groups");
  if (tensor && tensor->data_type() == onnx::TensorProto::INT64 && model.readElements(*tensor, elements) &&
      elements.size() == sizeof(groups))
    std::memcpy(&groups, elements.data(), sizeof(groups));
  return ofRecipe > 0 ? ofRecipe : groups;
}

/// Imports the model, takes it as far as kernels are grouped, and notes programs and coverage on the way.
/// `kinds` names, for each of `found`, what is missing: import, gradient or lowering.
void importPrograms(MLIRContext &context, const std::string &path, const frontend::ImportOptions &options,
                    const frontend::Recipe &recipe, Json &json, std::vector<Diagnostic> &found,
                    std::vector<std::string> &kinds) {
  OwningOpRef<ModuleOp> module = frontend::importOnnx(context, path, options, found);
  kinds.resize(found.size(), "import");
  if (!module)
    return;
  ir::PipelineOptions pipeline;
  pipeline.compute = frontend::name(recipe.precision.compute);
  pipeline.last = ir::Phase::Fuse;
  if (Status status = frontend::applyLoss(*module, recipe); !status) {
    found.push_back(status.error());
    pipeline.last = ir::Phase::Recompose;
  }
  frontend::setTraining(*module, recipe);
  json["coverage"] = Json::array();
  kinds.resize(found.size(), "gradient");
  ir::Phase done = ir::Phase::Import;
  pipeline.observe = [&](ir::Phase phase, ModuleOp at) {
    done = phase;
    if (phase == ir::Phase::Import)
      json["blocks"] = describeBlocks(at);
    if (phase == ir::Phase::Recompose) {
      json["programs"] = describePrograms(at);
      if (auto forward = at.lookupSymbol<func::FuncOp>("forward"))
        countExperts(json, ir::recompose::statesOfExperts(forward));
    }
    if (phase == ir::Phase::Recompose || phase == ir::Phase::Fuse)
      addPlannedLowerings(at, json["coverage"]);
  };
  ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    found.push_back(fromMlir(diagnostic));
    kinds.resize(found.size(), done == ir::Phase::Shard ? "gradient" : "lowering");
    return success();
  });
  (void)ir::runPhases(*module, pipeline); // a failure is among the diagnostics
  for (const Json &entry : json["coverage"])
    found.push_back({"'" + entry["op"].get<std::string>() + "' cannot be compiled for the CPU yet",
                     entry["where"].get<std::string>(), entry["why"].get<std::string>(), ""});
  kinds.resize(found.size(), "lowering");
}

Json describeProblems(const std::vector<Diagnostic> &found, const std::vector<std::string> &kinds) {
  Json json = Json::array();
  for (auto [diagnostic, kind] : llvm::zip_equal(found, kinds))
    json.push_back({{"kind", kind},
                    {"severity", diagnostic.code == ExitCode::Success ? "warning" : "error"},
                    {"what", diagnostic.what},
                    {"where", diagnostic.where},
                    {"why", diagnostic.why},
                    {"remedy", diagnostic.remedy}});
  return json;
}

} // namespace

Json describeModel(const std::string &path, const InspectModelOptions &options, std::vector<Diagnostic> &found) {
  std::optional<frontend::Recipe> recipe = frontend::readRecipe(options.recipe, options.set, found);
  frontend::ImportOptions import;
  for (const std::string &binding : options.bind)
    if (Status status = frontend::addBinding(binding, import); !status)
      found.push_back(status.error());
  if (!recipe || !found.empty())
    return nullptr;
  import.routingGroups = recipe->routingGroups;
  import.parameters = recipe->parameters;
  import.ties = recipe->tie;
  import.seed = recipe->seed;
  std::unique_ptr<frontend::Model> model = frontend::Model::read(path, found);
  if (!model)
    return nullptr;

  Json json = {{"kind", "model"}, {"path", path}, {"bytes", model->bytes()}, {"digest", hexText(model->digest())}};
  json["producer"] = model->proto().producer_name();
  json["preset"] = model->metadata("ai.moec.preset");
  json["opsets"] = Json::object();
  for (const onnx::OperatorSetIdProto &set : model->proto().opset_import())
    json["opsets"][set.domain().empty() ? "ai.onnx" : set.domain()] = set.version();
  json["inputs"] = Json::array();
  json["outputs"] = Json::array();
  // Old files list initializers among the inputs.
  for (const onnx::ValueInfoProto &input : model->graph().input())
    if (!model->initializer(input.name()))
      json["inputs"].push_back(describeValue(input));
  for (const onnx::ValueInfoProto &output : model->graph().output())
    json["outputs"].push_back(describeValue(output));

  MLIRContext context;
  context.loadDialect<ir::MoeDialect, func::FuncDialect>();
  context.printOpOnDiagnostic(false); // of a function that would be the whole model
  {
    OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
    frontend::StateTable states(*model, import, *module);
    Builder builder(&context);
    describeParameters(*model, states, builder, json);
  }
  std::vector<std::string> kinds(found.size(), "import");
  json["routing_groups"] = routingGroups(*model, recipe->routingGroups);
  if (options.wantsPrograms() || isStatic(json["inputs"]))
    importPrograms(context, path, import, *recipe, json, found, kinds);
  kinds.resize(found.size(), "import");
  json["problems"] = describeProblems(found, kinds);
  return json;
}

/// How many of each kind; the problems themselves are reported as diagnostics.
static std::string problemsText(const Json &problems) {
  std::map<std::string, int> counts;
  for (const Json &problem : problems)
    ++counts[problem["kind"].get<std::string>()];
  std::string text = fieldText("number", std::to_string(problems.size()));
  for (const auto &[kind, count] : counts)
    text += fieldText("of " + kind, std::to_string(count));
  return text;
}

std::string modelText(const Json &model) {
  auto number = [](const Json &value) { return std::to_string(value.get<int64_t>()); };
  std::string text = model["path"].get<std::string>() + "\n";
  if (std::string preset = model["preset"].get<std::string>(); !preset.empty())
    text += fieldText("preset", preset);
  text += fieldText("digest", model["digest"].get<std::string>());
  for (const auto &[domain, version] : model["opsets"].items())
    text += fieldText("opset of " + domain, number(version));
  text += fieldText("routing groups", number(model["routing_groups"]));
  text += "inputs\n" + tensorLines(model["inputs"]) + "outputs\n" + tensorLines(model["outputs"]);
  text += "parameters\n" + tensorLines(model["parameters"]);
  const Json &counts = model["counts"];
  text += "elements of parameters\n" + fieldText("total", number(counts["total"])) +
          fieldText("trained", number(counts["trained"])) +
          fieldText("in experts", counts["in_experts"].is_null() ? "known once symbolic dimensions are bound"
                                                                 : number(counts["in_experts"]));
  if (model.contains("blocks"))
    text += blocksText(model["blocks"]);
  if (model.contains("programs"))
    text += programsText(model["programs"]);
  else if (model["problems"].empty())
    text += "programs\n  bind the symbolic dimensions to see them, as --bind batch=4\n";
  if (model.contains("coverage"))
    text += "operations without a lowering for the CPU\n" + fieldText("kinds", number(model["coverage"].size()));
  if (!model["problems"].empty())
    text += "problems\n" + problemsText(model["problems"]);
  return text;
}

} // namespace moe::tools
