//===- GoldensTest.cpp - Imported presets against values recorded from fairseq ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Each configuration of test/data/fairseq: the preset's file is written, imported, taken through the phases up to
// `update` and run by the float64 interpreter for ten updates with the recorded weights and batches. Loss, gradient
// norm and learning rate of each update and every gradient of update 0 equal the recorded float64 values. Catches a
// wrong line in the importer (shapes, capacity, groups, epsilon), in the preset's graph, in an adjoint, in the update
// (clipping, schedule, Adam), or in the reference semantics of the operations.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/ModelCommand.h"
#include "frontend/onnx/Import.h"
#include "frontend/recipe/Recipe.h"
#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "ir/reference/Widen.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "passes/Pipeline.h"
#include "runtime/checkpoint/Safetensors.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <sstream>
#include <unistd.h>

using namespace moe;
using ir::HostTensor;
namespace fs = std::filesystem;

namespace {

llvm::json::Object readJson(const fs::path &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path.string());
  EXPECT_TRUE(static_cast<bool>(buffer)) << path;
  llvm::Expected<llvm::json::Value> value = llvm::json::parse((*buffer)->getBuffer());
  EXPECT_TRUE(static_cast<bool>(value)) << path;
  return *value->getAsObject();
}

std::map<std::string, std::vector<double>> readTensors(const fs::path &path) {
  Expected<SafetensorsFile> file = SafetensorsFile::open(path);
  EXPECT_TRUE(file.has_value()) << path;
  std::map<std::string, std::vector<double>> result;
  for (const TensorEntry &entry : file->tensors()) {
    std::span<const std::byte> bytes = file->bytes(entry);
    auto widen = [&](auto zero) {
      std::vector<double> values(bytes.size() / sizeof(zero));
      for (size_t i = 0; i < values.size(); ++i) {
        std::memcpy(&zero, bytes.data() + i * sizeof(zero), sizeof(zero));
        values[i] = static_cast<double>(zero);
      }
      return values;
    };
    result[entry.name] = entry.type == "F64"   ? widen(double())
                         : entry.type == "F32" ? widen(float())
                         : entry.type == "I64" ? widen(int64_t())
                                               : widen(int32_t());
  }
  return result;
}

/// Flags of fairseq's command line with their values, "" for none.
std::map<std::string, std::string> arguments(const std::string &text) {
  std::istringstream stream(text);
  std::map<std::string, std::string> result;
  std::string word, flag;
  while (stream >> word) {
    if (word.rfind("--", 0) == 0)
      result[flag = word] = "";
    else if (!flag.empty())
      result[flag] += word;
  }
  return result;
}

constexpr const char *kModelFlags[] = {"--decoder-layers",
                                       "--decoder-embed-dim",
                                       "--decoder-ffn-embed-dim",
                                       "--decoder-attention-heads",
                                       "--share-decoder-input-output-embed",
                                       "--dropout",
                                       "--attention-dropout",
                                       "--tokens-per-sample",
                                       "--moe-freq",
                                       "--moe-expert-count",
                                       "--moe-gating-use-fp32",
                                       "--moe-eval-capacity-token-fraction",
                                       "--moe-gate-loss-wt",
                                       "--moe-gate-loss-combine-method",
                                       "--moe-second-expert-policy",
                                       "--moe-normalize-expert-grad",
                                       "--moe-top1-expert",
                                       "--use-moe-pad-mask"};

constexpr const char *kMetrics[] = {"entropy_gating",      "overflow_expert1",       "overflow_expert2",
                                    "expert1_balance_top", "expert1_balance_bottom", "unused_expert1_count",
                                    "expert2_balance_top", "expert2_balance_bottom", "unused_expert2_count"};

double distance(const std::vector<double> &a, const std::vector<double> &b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

double norm(const std::vector<double> &a) {
  return distance(a, std::vector<double>(a.size(), 0.0));
}

class Goldens : public testing::TestWithParam<const char *> {
protected:
  void SetUp() override {
    folder = fs::path(MOEC_TEST_DATA) / "fairseq" / GetParam();
    config = readJson(folder / "config.json");
    args = arguments(config.getString("args")->str());
    world = *config.getInteger("world");
    scratch = fs::temp_directory_path() / ("moec-goldens-" + std::to_string(getpid()) + "-" + GetParam());
    fs::create_directories(scratch);
  }
  void TearDown() override { fs::remove_all(scratch); }

  void writeModel(const std::string &path, int64_t vocabulary) {
    std::vector<std::string> words = {"transformer_lm_gpt", "--vocab-size", std::to_string(vocabulary), "-o", path};
    for (const char *flag : kModelFlags)
      if (auto found = args.find(flag); found != args.end()) {
        words.push_back(flag);
        if (!found->second.empty())
          words.push_back(found->second);
      }
    std::ostringstream out, err;
    ASSERT_EQ(models::runModelCommand(words, out, err), 0) << err.str();
  }

  /// The recorded weights, experts stacked.
  void setWeights(mlir::ModuleOp module, ir::InterpreterState &state,
                  const std::map<std::string, std::vector<double>> &weights) {
    module.walk([&](ir::StateOp op) {
      std::string name = op.getSymName().str();
      bool isTable = name == "decoder.embed_positions.weights";
      // Buckets hold what their members write.
      if (!isTable && (op.getKind() != ir::StateKind::Parameter || name.rfind("bucket.", 0) == 0))
        return;
      HostTensor value(op.getTensorType());
      std::vector<double> elements;
      if (isTable) {
        // PyTorch computes the table in float32, not correctly rounded: it is data, not a formula.
        llvm::ArrayRef<int64_t> shape = op.getTensorType().getShape();
        std::string key = "positions." + std::to_string(shape[0]) + "x" + std::to_string(shape[1]);
        auto tables = readTensors(folder.parent_path() / "positions.safetensors");
        ASSERT_TRUE(tables.count(key)) << key;
        value.floats = tables.at(key);
        return state.write(name, value);
      }
      size_t split = name.find(".experts.");
      if (split == std::string::npos) {
        ASSERT_TRUE(weights.count(name)) << name;
        elements = weights.at(name);
      } else {
        for (int64_t e = 0; e < op.getTensorType().getDimSize(0); ++e) {
          std::string expert = name.substr(0, split + 9) + std::to_string(e) + name.substr(split + 8);
          ASSERT_TRUE(weights.count(expert)) << expert;
          elements.insert(elements.end(), weights.at(expert).begin(), weights.at(expert).end());
        }
      }
      ASSERT_EQ(elements.size(), value.floats.size()) << name;
      value.floats = elements;
      state.write(name, value);
    });
  }

  /// Every recorded gradient of update 0, experts stacked, relative to its norm; key biases (whose exact gradient is
  /// zero) relative to the norm of all.
  void checkGradients(const std::map<std::string, HostTensor> &gradients, double multiplier) {
    std::map<std::string, std::vector<double>> recorded = readTensors(folder / "grads1-f64.safetensors");
    ASSERT_FALSE(recorded.empty());
    double all = 0.0;
    for (const auto &[name, values] : recorded)
      all = std::hypot(all, norm(values));
    for (const auto &[name, values] : recorded) {
      std::string key = name;
      size_t offset = 0;
      if (size_t split = name.find(".experts."); split != std::string::npos) {
        size_t dot = name.find('.', split + 9);
        key = name.substr(0, split + 8) + name.substr(dot);
        offset = std::stoull(name.substr(split + 9, dot - split - 9)) * values.size();
      }
      ASSERT_TRUE(gradients.count(key)) << key;
      const std::vector<double> &computed = gradients.at(key).floats;
      ASSERT_LE(offset + values.size(), computed.size()) << key;
      std::vector<double> mine(computed.begin() + offset, computed.begin() + offset + values.size());
      for (double &value : mine)
        value *= multiplier;
      EXPECT_LE(distance(mine, values), 1e-10 * norm(values) + 1e-12 * all) << name;
    }
  }

  /// The routing metrics of update 0; the trainer averages them in float32.
  void checkMetrics(const ir::InterpreterState &state, const llvm::json::Array &outputs) {
    if (!state.contains("metric.moe_metrics"))
      return;
    HostTensor metrics = state.read("metric.moe_metrics");
    for (int i = 0; i < 9; ++i) {
      double sum = 0.0, count = 0.0;
      bool known = true;
      for (const llvm::json::Value &output : outputs) {
        auto value = output.getAsObject()->getNumber(kMetrics[i]);
        known &= value.has_value();
        sum += value.value_or(0.0);
        count += *output.getAsObject()->getNumber("batch_count");
      }
      if (known)
        EXPECT_NEAR(metrics.at(i), sum / count, 1e-6 * std::max(1.0, std::abs(sum / count))) << kMetrics[i];
    }
  }

  fs::path folder, scratch;
  llvm::json::Object config;
  std::map<std::string, std::string> args;
  int64_t world = 1;
};

/// The recorded optimizer and schedule as a recipe.
std::string recipeText(const std::map<std::string, std::string> &args, int64_t world) {
  auto get = [&](const char *flag, const char *otherwise) {
    auto found = args.find(flag);
    return found == args.end() ? std::string(otherwise) : found->second;
  };
  std::string betas = get("--adam-betas", "(0.9,0.999)");
  betas = betas.substr(betas.find('(') + 1);
  betas = betas.substr(0, betas.find(')'));
  std::string text = "optimizer: {name: fairseq_adam, lr: " + get("--lr", "0") + ", betas: [" + betas +
                     "], eps: 1e-8, weight_decay: " + get("--weight-decay", "0.0") + "}\n";
  text += "schedule: {name: " + get("--lr-scheduler", "fixed") + ", warmup_updates: " + get("--warmup-updates", "0");
  if (args.count("--total-num-update"))
    text += ", total_updates: " + get("--total-num-update", "0") + ", power: " + get("--power", "1.0");
  text += "}\nclip_norm: " + get("--clip-norm", "0.0") + "\naccumulate: " + get("--update-freq", "1") +
          "\nrouting_groups: " + std::to_string(world) + "\n";
  return text;
}

TEST_P(Goldens, TenUpdates) {
  fs::path init = folder / "init.safetensors";
  if (!fs::exists(init))
    init = folder.parent_path() / config.getString("init")->str();
  std::map<std::string, std::vector<double>> weights = readTensors(init);
  const int64_t width = std::stoll(args["--decoder-embed-dim"]), length = std::stoll(args["--tokens-per-sample"]);
  const auto vocabulary = static_cast<int64_t>(weights["decoder.embed_tokens.weight"].size()) / width;
  const std::string path = (scratch / "model.onnx").string();
  writeModel(path, vocabulary);

  const int64_t rows = std::stoll(args["--batch-size"]) * world;
  frontend::ImportOptions options;
  options.bindings = {{"batch", rows}, {"seq", length}};
  options.routingGroups = world;
  std::vector<Diagnostic> diagnostics;
  std::optional<frontend::Recipe> recipe = frontend::parseRecipe(recipeText(args, world), "recipe", {}, diagnostics);
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module = frontend::importOnnx(context, path, options, diagnostics);
  for (const Diagnostic &diagnostic : diagnostics)
    ADD_FAILURE() << diagnostic.str();
  ASSERT_TRUE(recipe && module);
  frontend::setTraining(*module, *recipe);
  frontend::useExactConstants(*module);
  ASSERT_TRUE(llvm::succeeded(ir::widenToFloat64(*module)));
  ir::PipelineOptions pipeline;
  pipeline.last = ir::Phase::Update;
  ASSERT_TRUE(llvm::succeeded(ir::runPhases(*module, pipeline)));
  ir::InterpreterState state(*module);
  setWeights(*module, state, weights);

  std::vector<std::map<std::string, std::vector<double>>> batches;
  for (int64_t rank = 0; rank < world; ++rank)
    batches.push_back(readTensors(
        folder / (world == 1 ? "batches.safetensors" : "batches-rank" + std::to_string(rank) + ".safetensors")));
  llvm::json::Object exact = readJson(folder / "exact-f64.json");
  const llvm::json::Array &updates = *exact.getArray("updates");
  auto step = module->lookupSymbol<mlir::func::FuncOp>("micro_step");
  const int64_t micros = recipe->accumulate;
  for (size_t u = 0; u < updates.size(); ++u) {
    for (int64_t micro = 0; micro < micros; ++micro) {
      std::vector<HostTensor> inputs(2, HostTensor(llvm::cast<mlir::RankedTensorType>(step.getArgumentTypes()[0])));
      const char *parts[] = {".src", ".tgt"};
      for (int part = 0; part < 2; ++part) {
        inputs[part].ints.clear();
        for (const auto &batch : batches)
          for (double token : batch.at("attempt" + std::to_string(u) + ".micro" + std::to_string(micro) + parts[part]))
            inputs[part].ints.push_back(static_cast<int64_t>(token));
        ASSERT_EQ(static_cast<int64_t>(inputs[part].ints.size()), rows * length);
      }
      ASSERT_TRUE(llvm::succeeded(ir::interpret(*module, "micro_step", inputs, state)));
    }
    std::map<std::string, HostTensor> gradients;
    if (u == 0)
      module->walk([&](ir::StateOp op) {
        if (op.getKind() == ir::StateKind::Gradient && op.getOf())
          gradients[op.getOf()->str()] = state.read(op.getSymName());
      });
    ASSERT_TRUE(llvm::succeeded(ir::interpret(*module, "update", {}, state)));

    const llvm::json::Object &update = *updates[u].getAsObject();
    double expected = 0.0;
    for (const llvm::json::Value &output : *update.getArray("logging_outputs"))
      expected += *output.getAsObject()->getNumber("loss");
    expected /= *update.getNumber("sample_size");
    auto metric = [&](const char *name) { return state.read(std::string("metric.") + name).at(0); };
    EXPECT_EQ(metric("ntokens"), *update.getNumber("sample_size"));
    EXPECT_NEAR(metric("loss"), expected, 1e-10 * std::abs(expected)) << "update " << u;
    EXPECT_NEAR(metric("gnorm"), *update.getNumber("gnorm"), 1e-10 * *update.getNumber("gnorm")) << "update " << u;
    EXPECT_NEAR(metric("lr"), *update.getNumber("lr_used"), 1e-15) << "update " << u;
    if (u == 0)
      checkGradients(gradients, metric("gradient_multiplier"));
    if (u == 0 && !args.count("--update-freq"))
      checkMetrics(state, *update.getArray("logging_outputs"));
  }
}

INSTANTIATE_TEST_SUITE_P(Fairseq, Goldens,
                         testing::Values("w1-main", "w1-dense", "w1-top1", "w1-uf2", "w1-clip", "w1-padmask", "w2-fsdp",
                                         "w2-fsdp-uf2", "w4-fsdp-e2"),
                         [](const auto &info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

} // namespace
