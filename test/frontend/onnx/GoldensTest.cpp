//===- GoldensTest.cpp - Imported presets against values recorded from fairseq ------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// Each configuration of test/data/fairseq: the preset's file is written, imported and run by the float64 interpreter
// with the recorded weights and the batches of update 0. Catches a wrong line in the importer (shapes, capacity,
// groups, epsilon, positions), in the preset's graph, or in the reference semantics of the operations.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/ModelCommand.h"
#include "frontend/onnx/Import.h"
#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
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

/// The double table of fairseq's formula; the file holds it rounded to float32.
HostTensor sinusoidalTable(mlir::RankedTensorType type, int64_t pad) {
  HostTensor table(type);
  const int64_t rows = type.getDimSize(0), dim = type.getDimSize(1), half = dim / 2;
  for (int64_t n = 0; n < rows; ++n)
    for (int64_t i = 0; i < half && n != pad; ++i) {
      double angle = static_cast<double>(n) * std::exp(-static_cast<double>(i) * std::log(10000.0) / (half - 1.0));
      table.floats[n * dim + i] = std::sin(angle);
      table.floats[n * dim + half + i] = std::cos(angle);
    }
  return table;
}

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
      if (name == "decoder.embed_positions.weights")
        return state.write(name, sinusoidalTable(op.getTensorType(), 1));
      if (op.getKind() != ir::StateKind::Parameter)
        return;
      HostTensor value(op.getTensorType());
      std::vector<double> elements;
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

  fs::path folder, scratch;
  llvm::json::Object config;
  std::map<std::string, std::string> args;
  int64_t world = 1;
};

TEST_P(Goldens, LossAndMetricsOfUpdate0) {
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
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module = frontend::importOnnx(context, path, options, diagnostics);
  for (const Diagnostic &diagnostic : diagnostics)
    ADD_FAILURE() << diagnostic.str();
  ASSERT_TRUE(module);
  frontend::useExactConstants(*module);
  ir::InterpreterState state(*module);
  setWeights(*module, state, weights);

  auto function = module->lookupSymbol<mlir::func::FuncOp>("forward");
  std::map<std::string, size_t> results;
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    results[function.getResultAttrOfType<mlir::StringAttr>(i, "moe.name").str()] = i;

  std::vector<std::map<std::string, std::vector<double>>> batches;
  for (int64_t rank = 0; rank < world; ++rank)
    batches.push_back(readTensors(
        folder / (world == 1 ? "batches.safetensors" : "batches-rank" + std::to_string(rank) + ".safetensors")));
  const int64_t micros = args.count("--update-freq") ? std::stoll(args["--update-freq"]) : 1;
  double loss = 0.0, weight = 0.0;
  std::vector<double> metrics(9, 0.0);
  for (int64_t micro = 0; micro < micros; ++micro) {
    std::vector<HostTensor> inputs(2, HostTensor(llvm::cast<mlir::RankedTensorType>(function.getArgumentTypes()[0])));
    const char *parts[] = {".src", ".tgt"};
    for (int part = 0; part < 2; ++part) {
      inputs[part].ints.clear();
      for (const auto &batch : batches)
        for (double token : batch.at("attempt0.micro" + std::to_string(micro) + parts[part]))
          inputs[part].ints.push_back(static_cast<int64_t>(token));
      ASSERT_EQ(static_cast<int64_t>(inputs[part].ints.size()), rows * length);
    }
    auto outputs = ir::interpret(*module, "forward", inputs, state);
    ASSERT_TRUE(llvm::succeeded(outputs));
    double counted = (*outputs)[results.at("loss_weight")].at(0);
    loss += (*outputs)[results.at("loss")].at(0) * counted;
    weight += counted;
    if (results.count("moe_metrics"))
      for (int i = 0; i < 9; ++i)
        metrics[i] += (*outputs)[results.at("moe_metrics")].at(i) / static_cast<double>(micros);
  }

  llvm::json::Object exact = readJson(folder / "exact-f64.json");
  const llvm::json::Object &update = *(*exact.getArray("updates"))[0].getAsObject();
  const llvm::json::Array &outputs = *update.getArray("logging_outputs");
  double expected = 0.0;
  for (const llvm::json::Value &output : outputs)
    expected += *output.getAsObject()->getNumber("loss");
  EXPECT_EQ(weight, *update.getNumber("sample_size"));
  expected /= *update.getNumber("sample_size");
  // The recorded weights are rounded to float32: with the recorded gradients, half an ulp each moves the loss by
  // 2e-9 to 4e-9 of its value (one standard deviation). The loss in float32 would miss by 1e-7.
  EXPECT_NEAR(loss / weight, expected, 5e-9 * std::abs(expected));

  for (int i = 0; i < 9 && results.count("moe_metrics"); ++i) {
    double sum = 0.0, count = 0.0;
    bool known = true;
    for (const llvm::json::Value &output : outputs) {
      auto value = output.getAsObject()->getNumber(kMetrics[i]);
      known &= value.has_value();
      sum += value.value_or(0.0);
      count += *output.getAsObject()->getNumber("batch_count");
    }
    // The trainer averages them in float32.
    if (known)
      EXPECT_NEAR(metrics[i], sum / count, 1e-6 * std::max(1.0, std::abs(sum / count))) << kMetrics[i];
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
