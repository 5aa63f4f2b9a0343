//===- interpret_model.cpp - A model in the reference interpreter -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
//   interpret_model MODEL RECIPE INPUTS RESULTS
//
// Runs the imported `@forward` with every operation rounded to its type, and the differentiated `micro_step` in
// float64, on one batch (a safetensors file). RESULTS gets `output.NAME` and `grad.PARAMETER`, all as F64.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Ops.h"
#include "ir/reference/Interpreter.h"
#include "ir/reference/Widen.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "runtime/checkpoint/Elements.h"
#include "runtime/checkpoint/Safetensors.h"
#include "tools/moec/CompilerSession.h"

#include <cstring>
#include <fstream>
#include <iostream>
#include <list>

using namespace moe;
using ir::HostTensor;
using mlir::RankedTensorType;

namespace {

[[noreturn]] void stop(const std::string &why) {
  std::cerr << "interpret_model: " << why << '\n';
  exit(1);
}

/// Little-endian elements of a safetensors type in the interpreter's form.
HostTensor decode(RankedTensorType type, std::span<const std::byte> bytes, const std::string &stored) {
  HostTensor tensor(type);
  const auto count = size_t(tensor.size());
  if (bytes.size() != count * elementSize(stored))
    stop("a tensor has " + std::to_string(bytes.size()) + " bytes instead of " +
         std::to_string(count * elementSize(stored)));
  auto numbers = [&]<typename T>(T value, const std::byte *from) {
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(&value, from + i * sizeof(T), sizeof(T));
      if (tensor.isFloat)
        tensor.floats[i] = double(value);
      else
        tensor.ints[i] = int64_t(value);
    }
  };
  if (stored == "F64") {
    numbers(double(), bytes.data());
    return tensor;
  }
  std::vector<std::byte> wide(count * sizeof(int64_t));
  const plan::DType to = tensor.isFloat ? plan::F32 : plan::I64;
  if (Status status = convertElements(stored, bytes, to, wide, int64_t(count), "a tensor"); !status)
    stop(status.error().str());
  if (tensor.isFloat)
    numbers(float(), wide.data());
  else
    numbers(int64_t(), wide.data());
  return tensor;
}

/// The safetensors name of a type of floats in a file.
std::string storedName(mlir::Type type) {
  return type.isF64() ? "F64" : type.isF16() ? "F16" : type.isBF16() ? "BF16" : "F32";
}

/// The elements of the parameters that lie in the ONNX file itself.
void readWeights(mlir::ModuleOp module, ir::InterpreterState &state, const std::string &model) {
  std::ifstream stream(model, std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(stream), {}};
  for (ir::StateOp op : module.getOps<ir::StateOp>()) {
    auto initial = mlir::dyn_cast_if_present<mlir::DictionaryAttr>(op.getInitialAttr());
    auto location = initial ? initial.getAs<mlir::StringAttr>("file") : mlir::StringAttr();
    if (!location)
      continue;
    const int64_t offset = initial.getAs<mlir::IntegerAttr>("offset").getInt();
    const int64_t bytes = initial.getAs<mlir::IntegerAttr>("bytes").getInt();
    if (!location.getValue().empty() || offset + bytes > int64_t(file.size()))
      stop("a weight does not lie in the model file");
    std::span<const std::byte> elements = std::as_bytes(std::span(file)).subspan(size_t(offset), size_t(bytes));
    const std::string stored = storedName(initial.getAs<mlir::TypeAttr>("stored").getValue());
    state.write(op.getSymName(), decode(op.getTensorType(), elements, stored));
  }
}

class Runner {
public:
  Runner(const SafetensorsFile &inputs, const std::string &model) : inputs(inputs), model(model) {}

  /// Runs a program; its results by name.
  std::map<std::string, HostTensor> run(mlir::ModuleOp module, llvm::StringRef program, ir::InterpreterState &state,
                                        bool rounded) {
    readWeights(module, state, model);
    auto function = module.lookupSymbol<mlir::func::FuncOp>(program);
    std::vector<HostTensor> arguments;
    for (unsigned i = 0; i < function.getNumArguments(); ++i) {
      const std::string name = function.getArgAttrOfType<mlir::StringAttr>(i, "moe.name").str();
      const TensorEntry *entry = inputs.find(name);
      if (!entry)
        stop("no input '" + name + "'");
      arguments.push_back(
          decode(mlir::cast<RankedTensorType>(function.getArgumentTypes()[i]), inputs.bytes(*entry), entry->type));
    }
    ir::InterpreterOptions options;
    options.roundToElementType = rounded;
    auto results = ir::interpret(module, program, arguments, state, options);
    if (mlir::failed(results))
      stop(program.str() + " does not run");
    std::map<std::string, HostTensor> named;
    for (auto [i, result] : llvm::enumerate(*results))
      if (auto name = function.getResultAttrOfType<mlir::StringAttr>(unsigned(i), "moe.name"))
        named.emplace(name.str(), result);
    return named;
  }

private:
  const SafetensorsFile &inputs;
  const std::string &model;
};

} // namespace

int main(int argc, char **argv) {
  if (argc != 5)
    stop("takes MODEL RECIPE INPUTS RESULTS");
  tools::CompileFlags flags;
  flags.model = argv[1];
  flags.recipe = argv[2];
  auto inputs = SafetensorsFile::open(argv[3]);
  if (!inputs)
    stop(inputs.error().str());
  tools::CompilerSession session(std::cerr);
  mlir::ModuleOp module = session.run(flags, ir::Phase::Import);
  if (!module)
    return 1;
  std::map<std::string, HostTensor> results;
  Runner runner(*inputs, flags.model);
  ir::InterpreterState rounded(module);
  for (auto &[name, value] : runner.run(module, "forward", rounded, true))
    results.emplace("output." + name, std::move(value));

  ir::PipelineOptions pipeline;
  pipeline.last = ir::Phase::Differentiate;
  if (mlir::failed(ir::widenToFloat64(module)) || mlir::failed(ir::runPhases(module, pipeline)))
    return 1;
  ir::InterpreterState exact(module);
  runner.run(module, "micro_step", exact, false);
  for (ir::StateOp op : module.getOps<ir::StateOp>())
    if (op.getKind() == ir::StateKind::Gradient && op.getOf())
      results.emplace("grad." + op.getOf()->str(), exact.read(op.getSymName()));

  std::vector<TensorView> written;
  std::list<std::vector<double>> storage;
  for (const auto &[name, tensor] : results) {
    std::vector<double> &values = storage.emplace_back();
    for (int64_t i = 0; i < tensor.size(); ++i)
      values.push_back(tensor.at(i));
    written.push_back({name, "F64", {tensor.shape.begin(), tensor.shape.end()}, std::as_bytes(std::span(values))});
  }
  if (auto status = writeSafetensors(argv[4], std::move(written), {}); !status)
    stop(status.error().str());
  return 0;
}
