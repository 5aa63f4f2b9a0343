//===- InspectPlan.cpp - What is in a plan ------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moec/InspectPlan.h"

#include "runtime/plan/StepKind.h"
#include "runtime/plan/Structure.h"
#include "tools/moec/InspectText.h"
#include "tools/moec/Report.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

namespace moe::tools {

namespace {

using Json = nlohmann::ordered_json;

const char *dtypeName(plan::DType dtype) {
  switch (dtype) {
  case plan::F32:
    return "float32";
  case plan::BF16:
    return "bfloat16";
  case plan::F16:
    return "float16";
  case plan::I32:
    return "int32";
  case plan::I64:
    return "int64";
  case plan::BOOL:
    return "bool";
  default:
    return "bytes";
  }
}

const char *kindName(plan::StateTensor::Kind kind) {
  switch (kind) {
  case plan::StateTensor::PARAMETER:
    return "trained";
  case plan::StateTensor::FROZEN:
    return "frozen";
  case plan::StateTensor::GRADIENT:
    return "gradient";
  case plan::StateTensor::MOMENT:
    return "moment";
  case plan::StateTensor::CONTROL:
    return "control";
  default:
    return "unknown";
  }
}

const char *accessName(plan::Operand::Access access) {
  switch (access) {
  case plan::Operand::READ:
    return "read";
  case plan::Operand::WRITE:
    return "write";
  case plan::Operand::READ_WRITE:
    return "read_write";
  case plan::Operand::SCRATCH:
    return "scratch";
  default:
    return "unknown";
  }
}

template <typename Record> Json tensor(const Record &record) {
  Json json = {{"name", record.name()}, {"dtype", dtypeName(record.dtype())}, {"shape", Json::array()}};
  for (int64_t extent : record.shape())
    json["shape"].push_back(extent);
  return json;
}

Json describeInitial(const plan::Initial &initial) {
  Json json = Json::object();
  switch (initial.value_case()) {
  case plan::Initial::kConstant:
    json = {{"kind", "constant"}, {"value", initial.constant().value()}};
    break;
  case plan::Initial::kNormal:
    json = {{"kind", "normal"}, {"mean", initial.normal().mean()}, {"stddev", initial.normal().stddev()}};
    break;
  case plan::Initial::kUniform:
    json = {{"kind", "uniform"}, {"low", initial.uniform().low()}, {"high", initial.uniform().high()}};
    break;
  case plan::Initial::kFile:
    json = {{"kind", "file"}, {"location", initial.file().location()}, {"offset", initial.file().offset()}};
    break;
  case plan::Initial::kData:
    json = {{"kind", "data"}};
    break;
  case plan::Initial::VALUE_NOT_SET:
    return nullptr;
  }
  for (int64_t row : initial.zero_rows())
    json["zero_rows"].push_back(row);
  return json;
}

/// Tensors, elements and bytes of each kind of state.
Json summarizeState(const plan::Plan &plan) {
  struct Sum {
    uint64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<plan::StateTensor::Kind, Sum> sums;
  for (const plan::StateTensor &state : plan.state()) {
    Sum &sum = sums[state.kind()];
    ++sum.tensors;
    sum.elements += elementCount(state.shape());
    sum.bytes += state.slice().bytes();
  }
  Json json = Json::object();
  for (const auto &[kind, sum] : sums)
    json[kindName(kind)] = {{"tensors", sum.tensors}, {"elements", sum.elements}, {"bytes", sum.bytes}};
  return json;
}

/// Each kernel with its emitter and the number of steps that call it.
Json describeKernels(const plan::Plan &plan) {
  std::vector<int> calls(static_cast<size_t>(plan.kernels_size()));
  for (const plan::Program &program : plan.programs())
    for (const plan::Step &step : program.steps())
      if (step.has_kernel())
        ++calls[step.kernel().kernel()];
  Json json = Json::array();
  for (int i = 0; i < plan.kernels_size(); ++i) {
    const plan::Kernel &kernel = plan.kernels(i);
    json.push_back({{"symbol", kernel.symbol()},
                    {"emitter", kernel.emitter()},
                    {"structural_hash", hexText(kernel.structural_hash())},
                    {"steps", calls[static_cast<size_t>(i)]}});
  }
  return json;
}

/// The state tensors by buffer and offset: many share one buffer.
using StateNames = std::map<std::pair<uint32_t, uint64_t>, std::string>;

StateNames stateNames(const plan::Plan &plan) {
  StateNames names;
  for (const plan::StateTensor &state : plan.state())
    names.emplace(std::pair(state.slice().buffer(), state.slice().offset()), state.name());
  return names;
}

Json describeOperand(const plan::Plan &plan, const StateNames &states, const plan::Operand &operand) {
  const plan::Buffer &buffer = plan.buffers(static_cast<int>(operand.slice().buffer()));
  Json shape = Json::array();
  for (int64_t extent : operand.shape())
    shape.push_back(extent);
  Json json = {{"buffer", buffer.name()},
               {"buffer_index", operand.slice().buffer()},
               {"arena", plan.arenas(static_cast<int>(buffer.arena())).name()},
               {"offset", operand.slice().offset()},
               {"bytes", operand.slice().bytes()},
               {"access", accessName(operand.access())},
               {"dtype", dtypeName(operand.dtype())},
               {"shape", std::move(shape)}};
  auto state = states.find({operand.slice().buffer(), operand.slice().offset()});
  if (state != states.end())
    json["state"] = state->second;
  return json;
}

} // namespace

Expected<PlanFile> readPlan(const std::string &path) {
  Expected<PlanFile> file = PlanFile::read(path);
  if (file)
    if (Status status = checkPlanStructure(file->plan); !status)
      return tl::unexpected<Diagnostic>(status.error());
  return file;
}

Expected<const plan::Program *> findProgram(const plan::Plan &plan, const std::string &name, const std::string &flag) {
  std::string names;
  for (const plan::Program &program : plan.programs()) {
    if (program.name() == name)
      return &program;
    names += (names.empty() ? "" : ", ") + program.name();
  }
  return error("the plan has no program '" + name + "'", flag, {}, "its programs are " + names, ExitCode::Usage);
}

Json describePlan(const plan::Plan &plan, const std::string &path) {
  const plan::Header &header = plan.header();
  Json json = {{"kind", "plan"}, {"path", path}, {"producer", header.producer()}};
  json["model"] = {
      {"path", header.model().path()}, {"bytes", header.model().bytes()}, {"digest", hexText(header.model().digest())}};
  json["recipe"] = header.recipe();
  json["recipe_digest"] = hexText(header.recipe_digest());
  json["routing_groups"] = header.routing_groups();
  const plan::Target &target = plan.target();
  json["target"] = {{"device", target.device()}, {"name", target.name()}, {"threads", target.threads()}};
  json["target"]["features"] = std::vector<std::string>(target.features().begin(), target.features().end());
  const plan::Training &training = plan.training();
  json["training"] = {{"optimizer", training.optimizer()},
                      {"accumulate", training.accumulate()},
                      {"seed", training.seed()},
                      {"micro_batch", training.micro_batch()},
                      {"sequence_length", training.sequence_length()},
                      {"vocabulary", training.vocabulary()},
                      {"pad_id", training.pad_id()},
                      {"tokenizer", training.tokenizer()}};
  for (const char *key : {"inputs", "outputs", "parameters"})
    json[key] = Json::array();
  for (const plan::Input &input : plan.inputs()) {
    json["inputs"].push_back(tensor(input));
    json["inputs"].back()["vocabulary"] = input.vocabulary();
    json["inputs"].back()["labels"] = input.is_labels();
  }
  for (const plan::Program &program : plan.programs())
    for (const plan::Output &output : program.outputs()) {
      json["outputs"].push_back(tensor(output));
      json["outputs"].back()["program"] = program.name();
    }
  for (const plan::StateTensor &state : plan.state())
    if (state.kind() == plan::StateTensor::PARAMETER || state.kind() == plan::StateTensor::FROZEN) {
      json["parameters"].push_back(tensor(state));
      json["parameters"].back()["kind"] = kindName(state.kind());
      json["parameters"].back()["initial"] = describeInitial(state.initial());
    }
  json["state"] = summarizeState(plan);
  json["metrics"] = Json::array();
  for (const plan::Metric &metric : plan.metrics())
    json["metrics"].push_back(
        {{"name", metric.name()}, {"dtype", dtypeName(metric.dtype())}, {"program", metric.program()}});
  json["kernels"] = describeKernels(plan);
  json["images"] = Json::array();
  for (const plan::Image &image : plan.images())
    json["images"].push_back({{"format", image.format()}, {"bytes", image.bytes()}});
  json["report"] = Json::parse(planReportJson(plan));
  return json;
}

std::string planText(const plan::Plan &plan, const std::string &path) {
  const Json json = describePlan(plan, path);
  std::string text = planReport(plan, path);
  std::map<std::string, int> emitters;
  for (const plan::Kernel &kernel : plan.kernels())
    ++emitters[kernel.emitter()];
  for (const auto &[emitter, count] : emitters)
    text += fieldText(emitter, std::to_string(count));
  for (const plan::Image &image : plan.images())
    text += fieldText("image, " + image.format(), bytesText(static_cast<double>(image.bytes())));

  text += "origin\n" + fieldText("producer", plan.header().producer());
  text += fieldText("model", plan.header().model().path());
  text += fieldText("digest of the model", hexText(plan.header().model().digest()));
  text += fieldText("routing groups", std::to_string(plan.header().routing_groups()));
  std::string features;
  for (const std::string &feature : plan.target().features())
    features += (features.empty() ? "" : " ") + feature;
  text += "target\n" + fieldText("device", plan.target().device() + ":" + plan.target().name());
  text += fieldText("threads per rank", std::to_string(plan.target().threads()));
  text += fieldText("features", features);
  text += "inputs of a micro-batch\n" + tensorLines(json["inputs"]);
  text += "outputs\n" + tensorLines(json["outputs"]);
  text += "state\n";
  for (const auto &[kind, sum] : json["state"].items())
    text += fieldText(kind, std::to_string(sum["tensors"].get<uint64_t>()) + " tensors, " +
                                std::to_string(sum["elements"].get<uint64_t>()) + " elements, " +
                                bytesText(sum["bytes"].get<double>()));
  text += "metrics\n";
  for (const plan::Metric &metric : plan.metrics())
    text += fieldText(metric.name(), std::string(dtypeName(metric.dtype())) + " of " + metric.program());
  return text + "recipe\n" + indented(plan.header().recipe());
}

Json describeSteps(const plan::Plan &plan, const plan::Program &program) {
  const StateNames states = stateNames(plan);
  Json steps = Json::array();
  for (int i = 0; i < program.steps_size(); ++i) {
    const plan::Step &step = program.steps(i);
    Json json = {{"index", i}, {"name", step.name()}, {"kind", stepKind(step)}};
    if (step.has_kernel())
      json["kernel"] = plan.kernels(static_cast<int>(step.kernel().kernel())).symbol();
    json["flops"] = step.flops();
    json["lane"] = step.lane();
    json["waits"] = std::vector<uint32_t>(step.waits().begin(), step.waits().end());
    json["signal"] = step.signal();
    json["operands"] = Json::array();
    for (const plan::Operand &operand : step.operands())
      json["operands"].push_back(describeOperand(plan, states, operand));
    steps.push_back(std::move(json));
  }
  return steps;
}

std::string stepsText(const plan::Plan &plan, const plan::Program &program) {
  std::string text;
  for (const Json &step : describeSteps(plan, program)) {
    text += std::to_string(step["index"].get<int>()) + "  " + step["kind"].get<std::string>() + "  " +
            step["name"].get<std::string>() + "  lane " + std::to_string(step["lane"].get<uint32_t>());
    if (!step["waits"].empty())
      text += "  waits " + step["waits"].dump();
    if (step["signal"].get<uint32_t>() != 0)
      text += "  signal " + std::to_string(step["signal"].get<uint32_t>());
    if (step.contains("kernel"))
      text += "  " + step["kernel"].get<std::string>();
    text += "\n";
    for (const Json &operand : step["operands"])
      text += "      " + operand["access"].get<std::string>() + "  " + operand["buffer"].get<std::string>() + " + " +
              std::to_string(operand["offset"].get<uint64_t>()) + ", " +
              std::to_string(operand["bytes"].get<uint64_t>()) + " bytes  " + operand["dtype"].get<std::string>() +
              " " + shapeText(operand["shape"]) + "  (" + operand["arena"].get<std::string>() +
              (operand.contains("state") ? ": " + operand["state"].get<std::string>() : "") + ")\n";
  }
  return text;
}

} // namespace moe::tools
