//===- MeshRun.cpp - One model, trained on meshes by the interpreter ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/mesh/MeshRun.h"

#include "frontend/models/ModelCommand.h"
#include "frontend/onnx/Import.h"
#include "frontend/recipe/Recipe.h"
#include "ir/Ops.h"
#include "ir/Reshard.h"
#include "ir/RetypeTensors.h"
#include "ir/reference/Widen.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Pipeline.h"
#include "passes/Rematerialize.h"
#include "test/ir/LayoutCases.h"
#include <algorithm>
#include <filesystem>
#include <gtest/gtest.h>
#include <sstream>
#include <unistd.h>

using namespace mlir;
namespace fs = std::filesystem;

namespace moe::test {

using ir::HostTensor;

namespace {

/// The message with its notes, which show the operation.
std::string text(const mlir::Diagnostic &diagnostic) {
  std::string all = diagnostic.str();
  for (const mlir::Diagnostic &note : const_cast<mlir::Diagnostic &>(diagnostic).getNotes())
    all += "\n  " + note.str();
  return all + "\n";
}

constexpr int64_t kLength = 4, kVocabulary = 24, kPad = 1;

/// Mesh of which `test/ir` knows the sizes only.
std::vector<Distribution> meshOf(const Parallel &how) {
  return {{how.data, std::nullopt, {}}, {how.expert, std::nullopt, {}}};
}

RankedTensorType typeOfState(ModuleOp module, llvm::StringRef name) {
  return module.lookupSymbol<ir::StateOp>(name).getTensorType();
}

/// With its layout, which fused programs have as an attribute.
RankedTensorType typeOfArgument(func::FuncOp function, unsigned i) {
  auto type = cast<RankedTensorType>(function.getArgumentTypes()[i]);
  auto layout = function.getArgAttrOfType<ir::LayoutAttr>(i, ir::kLayoutAttr);
  return layout ? RankedTensorType::get(type.getShape(), type.getElementType(), layout) : type;
}

/// A tensor of `type`, which may be a part, with whole shape.
HostTensor wholeLike(RankedTensorType type, const Parallel &how) {
  llvm::SmallVector<int64_t> shape(type.getShape());
  if (auto layout = dyn_cast_if_present<ir::LayoutAttr>(type.getEncoding()))
    for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
      if (layout.kind(axis) == ir::AxisKind::Shard)
        shape[layout.getDims()[axis]] *= axis == 0 ? how.data : how.expert;
  return HostTensor(RankedTensorType::get(shape, type.getElementType()));
}

/// Names of trained tensors; buckets are made of them.
std::vector<std::string> parameters(ModuleOp module) {
  std::vector<std::string> names;
  module.walk([&](ir::StateOp op) {
    if (op.getKind() == ir::StateKind::Parameter && !op.getSymName().starts_with("bucket."))
      names.push_back(op.getSymName().str());
  });
  return names;
}

/// Names of the tensors that a state stacks along dimension 0, or its own.
std::vector<std::string> membersOf(ModuleOp module, const std::string &state) {
  std::vector<std::string> names;
  if (auto members = module.lookupSymbol<ir::StateOp>(state).getMembers())
    for (Attribute member : *members)
      names.push_back(cast<DictionaryAttr>(member).getAs<StringAttr>("name").str());
  return names.empty() ? std::vector<std::string>{state} : names;
}

/// Different for each name, small enough to train.
void draw(const std::string &name, HostTensor &value) {
  uint64_t seed = 7;
  for (char letter : name)
    seed = seed * 131 + static_cast<unsigned char>(letter);
  bool isScale = name.find("norm.weight") != std::string::npos;
  value.floats = randomNumbers(value.size(), isScale ? 0.5 : -0.6, isScale ? 1.5 : 0.6, seed);
}

/// First values of a state, those of its members one behind the other.
HostTensor drawn(ModuleOp module, const std::string &state, const Parallel &how) {
  HostTensor value = wholeLike(typeOfState(module, state), how);
  const std::vector<std::string> members = membersOf(module, state);
  std::vector<double> all;
  for (const std::string &member : members) {
    HostTensor part = value;
    if (members.front() != state) {
      part.shape.erase(part.shape.begin());
      part.floats.resize(value.floats.size() / members.size());
    }
    draw(member, part);
    all.insert(all.end(), part.floats.begin(), part.floats.end());
  }
  value.floats = all;
  return value;
}

/// Puts `whole`, which belongs to a state, under the names of its members.
void keep(ModuleOp module, const std::string &state, const HostTensor &whole, std::map<std::string, HostTensor> &into) {
  const std::vector<std::string> members = membersOf(module, state);
  for (size_t i = 0; i < members.size(); ++i) {
    HostTensor part = whole;
    if (members.front() != state) {
      const auto size = static_cast<int64_t>(whole.floats.size() / members.size()), at = static_cast<int64_t>(i) * size;
      part.shape.erase(part.shape.begin());
      part.floats.assign(whole.floats.begin() + at, whole.floats.begin() + at + size);
    }
    into[members[i]] = part;
  }
}

/// Inputs or labels; some labels are padding, and no two sequences are alike.
HostTensor tokens(int64_t sequences, int update, int64_t micro, bool labels) {
  std::vector<double> numbers =
      randomNumbers(sequences * kLength, 2, kVocabulary, 1000 + 10 * update + 2 * micro + (labels ? 1 : 0));
  std::vector<int64_t> ids;
  ids.reserve(numbers.size());
  for (size_t i = 0; i < numbers.size(); ++i)
    ids.push_back(labels && i % 5 == 3 ? kPad : static_cast<int64_t>(numbers[i]));
  return HostTensor::ofInts({sequences, kLength}, std::move(ids));
}

class Ranks {
public:
  Ranks(ModuleOp module, const Parallel &how)
      : module(module), how(how), mesh(meshOf(how)),
        states(static_cast<size_t>(how.data * how.expert), ir::InterpreterState(module)) {}

  void write(const std::string &name, const HostTensor &whole) {
    std::vector<HostTensor> parts = scatter(whole, typeOfState(module, name), mesh, 3);
    auto state = module.lookupSymbol<ir::StateOp>(name);
    if (!inSplitBucket(state)) {
      for (size_t rank = 0; rank < states.size(); ++rank)
        states[rank].write(name, parts[rank]);
      return;
    }
    const std::string bucket = state.getBucket()->str();
    HostTensor all = *read(bucket);
    for (size_t rank = 0; rank < states.size(); ++rank)
      std::copy(parts[rank].floats.begin(), parts[rank].floats.end(), all.floats.begin() + at(state, all, rank));
    write(bucket, all);
  }

  /// Absent if ranks differ in what should be equal.
  std::optional<HostTensor> read(const std::string &name) {
    auto state = module.lookupSymbol<ir::StateOp>(name);
    std::vector<HostTensor> parts;
    if (inSplitBucket(state)) {
      std::optional<HostTensor> all = read(state.getBucket()->str());
      if (!all)
        return std::nullopt;
      for (size_t rank = 0; rank < states.size(); ++rank) {
        HostTensor part(state.getTensorType());
        std::copy_n(all->floats.begin() + at(state, *all, rank), part.floats.size(), part.floats.begin());
        parts.push_back(std::move(part));
      }
    } else {
      for (const ir::InterpreterState &mine : states)
        parts.push_back(mine.read(name));
    }
    return assemble(parts, typeOfState(module, name), mesh);
  }

  /// What the host reads on any rank, whatever the type says; absent if ranks differ.
  std::optional<HostTensor> readAnywhere(const std::string &name) const {
    HostTensor value = states.front().read(name);
    for (const ir::InterpreterState &mine : states)
      if (mine.read(name).floats != value.floats)
        return std::nullopt;
    return value;
  }

  bool run(const char *program, const std::vector<HostTensor> &inputs) {
    auto function = module.lookupSymbol<func::FuncOp>(program);
    std::vector<std::vector<HostTensor>> mine(states.size());
    for (auto [i, input] : llvm::enumerate(inputs)) {
      auto parts = scatter(input, typeOfArgument(function, static_cast<unsigned>(i)), mesh, 1);
      for (size_t rank = 0; rank < states.size(); ++rank)
        mine[rank].push_back(parts[rank]);
    }
    return succeeded(ir::interpretOnMesh(module, program, mine, states));
  }

private:
  /// Whether any rank may have any part of the state.
  bool inSplitBucket(ir::StateOp state) const {
    return state.getBucket() && ir::isSplitBucket(typeOfState(module, *state.getBucket()));
  }
  /// Where the part of a rank begins in the whole bucket, which has a row for each coordinate on axis `expert` if it
  /// has two dimensions.
  int64_t at(ir::StateOp state, const HostTensor &bucket, size_t rank) const {
    int64_t row = bucket.shape.size() == 2 ? static_cast<int64_t>(rank) % how.expert : 0;
    return row * bucket.shape.back() + static_cast<int64_t>(*state.getOffset());
  }

  ModuleOp module;
  Parallel how;
  std::vector<Distribution> mesh;
  std::vector<ir::InterpreterState> states;
};

} // namespace

std::string Parallel::name() const {
  return std::to_string(data) + "x" + std::to_string(expert) + " fsdp " + fsdp +
         (recompute.empty() ? "" : " recompute " + recompute);
}

MeshModel::MeshModel(const ModelSpec &spec) : spec(spec) {
  fs::path path = fs::temp_directory_path() / ("moec-mesh-" + std::to_string(getpid()) + ".onnx");
  std::vector<std::string> words = {"transformer_lm_gpt",
                                    "--vocab-size",
                                    std::to_string(kVocabulary),
                                    "--decoder-layers",
                                    "2",
                                    "--decoder-embed-dim",
                                    "8",
                                    "--decoder-ffn-embed-dim",
                                    "12",
                                    "--decoder-attention-heads",
                                    "2",
                                    "--share-decoder-input-output-embed",
                                    "--dropout",
                                    "0.1",
                                    "--attention-dropout",
                                    "0.1",
                                    "--tokens-per-sample",
                                    std::to_string(kLength),
                                    "--moe-freq",
                                    "2",
                                    "--moe-expert-count",
                                    std::to_string(spec.experts),
                                    "--moe-gating-use-fp32",
                                    "--moe-gate-loss-wt",
                                    std::to_string(spec.gateLossWeight),
                                    "--moe-second-expert-policy",
                                    "sampling",
                                    "-o",
                                    path.string()};
  if (spec.top1)
    words.push_back("--moe-top1-expert");
  std::ostringstream out, err;
  if (spec.onnx.empty())
    EXPECT_EQ(models::runModelCommand(words, out, err), 0) << err.str();
  else
    path = spec.onnx;
  frontend::ImportOptions options;
  options.bindings = {{"batch", spec.sequences}, {"seq", kLength}};
  if (spec.onnx.empty())
    options.routingGroups = spec.groups;
  std::vector<Diagnostic> diagnostics;
  std::optional<frontend::Recipe> recipe = frontend::parseRecipe(
      "optimizer: " + spec.optimizer + "\nclip_norm: " + std::to_string(spec.clipNorm) +
          "\naccumulate: " + std::to_string(spec.accumulate) +
          (spec.onnx.empty() ? "\nrouting_groups: " + std::to_string(spec.groups) : "\n" + spec.recipe) + "\n",
      "recipe", {}, diagnostics);
  if (recipe)
    options.parameters = recipe->parameters;
  imported = frontend::importOnnx(context, path.string(), options, diagnostics);
  if (recipe && imported && !spec.onnx.empty())
    EXPECT_TRUE(frontend::applyLoss(*imported, *recipe).has_value());
  for (const Diagnostic &diagnostic : diagnostics)
    ADD_FAILURE() << diagnostic.str();
  if (recipe && imported) {
    if (spec.change)
      spec.change(*imported);
    frontend::setTraining(*imported, *recipe);
    frontend::useExactConstants(*imported);
    EXPECT_TRUE(succeeded(ir::widenToFloat64(*imported)));
  }
  if (spec.onnx.empty())
    fs::remove(path);
}

OwningOpRef<ModuleOp> MeshModel::parallel(const Parallel &how, std::string &messages) {
  ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) { messages += text(diagnostic); });
  OwningOpRef<ModuleOp> module = imported->clone();
  ir::PipelineOptions pipeline;
  pipeline.last = how.recompute.empty() ? ir::Phase::Update : ir::Phase::Recompute;
  pipeline.dataParallel = how.data;
  pipeline.expertParallel = how.expert;
  pipeline.fsdp = how.fsdp;
  if (!how.recompute.empty()) {
    pipeline.recompute = how.recompute;
    // Whatever is cheap, however small: gathered buckets, too.
    pipeline.cheap.emplace();
  }
  if (failed(ir::runPhases(*module, pipeline)))
    return {};
  return module;
}

std::optional<Trained> MeshModel::train(const Parallel &how, int updates, std::string &messages) {
  OwningOpRef<ModuleOp> module = parallel(how, messages);
  if (!module)
    return std::nullopt;
  ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) { messages += text(diagnostic); });
  Ranks ranks(*module, how);
  for (const std::string &name : parameters(*module)) {
    HostTensor value = drawn(*module, name, how);
    if (name == spec.huge)
      std::fill(value.floats.end() - value.size() / value.shape[0], value.floats.end(), 1e200);
    ranks.write(name, value);
  }
  Trained trained;
  if (auto recompute = (*module)->getAttrOfType<DictionaryAttr>(ir::kRecomputeAttr))
    trained.recomputed = recompute.getAs<IntegerAttr>("operations").getInt();
  auto metric = [&](const char *name) {
    std::optional<HostTensor> value = ranks.readAnywhere(std::string("metric.") + name);
    if (!value)
      messages += std::string("ranks differ in metric ") + name + "\n";
    return value ? value->at(0) : std::nan("");
  };
  for (int update = 0; update < updates; ++update) {
    for (int64_t micro = 0; micro < spec.accumulate; ++micro)
      if (!ranks.run("micro_step",
                     {tokens(spec.sequences, update, micro, false), tokens(spec.sequences, update, micro, true)}))
        return std::nullopt;
    if (update == 0)
      for (const std::string &name : parameters(*module)) {
        std::optional<HostTensor> gradient = ranks.read(name + ".grad");
        if (!gradient)
          return messages += "ranks differ in the gradient of " + name + "\n", std::nullopt;
        keep(*module, name, *gradient, trained.gradients);
      }
    if (!ranks.run("update", {}))
      return std::nullopt;
    trained.loss.push_back(metric("loss"));
    trained.gnorm.push_back(metric("gnorm"));
    trained.clip.push_back(metric("clip_factor"));
    if (update == 0 && module->lookupSymbol("metric.moe_metrics")) {
      std::optional<HostTensor> metrics = ranks.readAnywhere("metric.moe_metrics");
      trained.overflow = metrics ? metrics->at(spec.top1 ? 5 : 1) : 0;
    }
  }
  for (const std::string &name : parameters(*module)) {
    std::optional<HostTensor> weight = ranks.read(name);
    if (!weight)
      return messages += "ranks differ in " + name + "\n", std::nullopt;
    keep(*module, name, *weight, trained.weights);
  }
  return trained;
}

} // namespace moe::test
