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
HostTensor decode(RankedTensorType type, const std::byte *bytes, size_t count, const std::string &stored) {
  HostTensor tensor(type);
  const size_t width = stored == "BOOL" ? 1 : stored == "F32" || stored == "I32" ? 4 : 8;
  if (count != size_t(tensor.size()) * width)
    stop("a tensor has " + std::to_string(count) + " bytes instead of " +
         std::to_string(size_t(tensor.size()) * width));
  for (size_t i = 0; i < size_t(tensor.size()); ++i) {
    auto number = [&]<typename T>(T value) {
      std::memcpy(&value, bytes + i * width, sizeof(T));
      if (tensor.isFloat)
        tensor.floats[i] = double(value);
      else
        tensor.ints[i] = int64_t(value);
    };
    if (stored == "F32")
      number(float());
    else if (stored == "F64")
      number(double());
    else if (stored == "I32")
      number(int32_t());
    else if (stored == "I64")
      number(int64_t());
    else
      number(uint8_t());
  }
  return tensor;
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
    const bool narrow = initial.getAs<mlir::TypeAttr>("stored").getValue().isF32();
    state.write(op.getSymName(), decode(op.getTensorType(), reinterpret_cast<const std::byte *>(file.data()) + offset,
                                        size_t(bytes), narrow ? "F32" : "F64"));
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
      std::span<const std::byte> bytes = inputs.bytes(*entry);
      arguments.push_back(decode(mlir::cast<RankedTensorType>(function.getArgumentTypes()[i]), bytes.data(),
                                 bytes.size(), entry->type));
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
