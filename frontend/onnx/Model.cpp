//===- Model.cpp --------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Model.h"
#include "frontend/onnx/ExternalData.h"
#include "frontend/onnx/Limits.h"
#include "frontend/onnx/Quantised.h"
#include "frontend/onnx/States.h"
#include "frontend/onnx/Wire.h"
#include "runtime/plan/ProtobufLog.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/xxhash.h"
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

namespace moe::frontend {
namespace {

/// Calls of functions in one another, as in a program (`Program::importCall`).
constexpr size_t kMaxCalls = 64;

constexpr const char *kDamaged = "write the model again with `moec model`, or export it again";

std::string functionKey(llvm::StringRef domain, llvm::StringRef name) {
  return (domain + ":" + name).str();
}

std::string label(const onnx::NodeProto &node) {
  return node.name().empty() && node.output_size() > 0 ? node.output(0) : node.name();
}

/// Checks that each value is assigned once and before its uses, in the bodies of branches and loops too. Afterwards
/// `known` has the names that the nodes compute.
void checkNodes(const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes, llvm::StringSet<> &known,
                const std::string &where, std::vector<Diagnostic> &diagnostics) {
  for (const onnx::NodeProto &node : nodes) {
    if (diagnostics.size() >= kMaxMessages)
      return;
    for (const onnx::AttributeProto &attribute : node.attribute()) {
      if (!attribute.has_g())
        continue;
      // The body's own names are gone behind it.
      const onnx::GraphProto &body = attribute.g();
      std::vector<std::string> own;
      auto declare = [&](const std::string &name) {
        if (known.insert(name).second)
          own.push_back(name);
      };
      for (const onnx::ValueInfoProto &input : body.input())
        declare(input.name());
      for (const onnx::TensorProto &tensor : body.initializer())
        declare(tensor.name());
      for (const onnx::NodeProto &inner : body.node())
        for (const std::string &output : inner.output())
          if (!known.contains(output))
            own.push_back(output);
      checkNodes(body.node(), known, where, diagnostics);
      for (const onnx::ValueInfoProto &output : body.output())
        if (!known.contains(output.name()))
          diagnostics.push_back({"a graph of node '" + label(node) + "' returns the value '" + output.name() +
                                     "', which nothing computes",
                                 where, "every output of a graph is a value in it", kDamaged});
      for (const std::string &name : own)
        known.erase(name);
    }
    for (const std::string &input : node.input())
      if (!input.empty() && !known.contains(input))
        diagnostics.push_back({"node '" + label(node) + "' uses the value '" + input + "' before it is computed", where,
                               "the nodes of an ONNX graph must be in topological order and free of cycles", kDamaged});
    for (const std::string &output : node.output())
      if (!output.empty() && !known.insert(output).second)
        diagnostics.push_back({"node '" + label(node) + "' computes the value '" + output + "' a second time", where,
                               "every value of an ONNX graph is assigned once", kDamaged});
  }
}

} // namespace

unsigned onnxElementBytes(int32_t dataType) {
  switch (dataType) {
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::INT32:
  case onnx::TensorProto::UINT32:
    return 4;
  case onnx::TensorProto::DOUBLE:
  case onnx::TensorProto::INT64:
    return 8;
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::UINT16:
    return 2;
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::UINT8:
  case onnx::TensorProto::BOOL:
    return 1;
  default:
    return 0;
  }
}

std::optional<int64_t> elementCount(const onnx::TensorProto &tensor) {
  // An extent of zero does not make the others any smaller.
  int64_t count = 1;
  bool empty = false;
  if (tensor.dims_size() > kMaxRank)
    return std::nullopt;
  for (int64_t extent : tensor.dims()) {
    if (extent < 0 || extent > kMaxElements / count)
      return std::nullopt;
    empty |= extent == 0;
    count *= std::max<int64_t>(extent, 1);
  }
  return empty ? 0 : count;
}

std::unique_ptr<Model> Model::read(const std::string &path, std::vector<Diagnostic> &diagnostics) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    diagnostics.push_back({"cannot read the model", path, buffer.getError().message(), "check the path"});
    return nullptr;
  }
  llvm::StringRef contents = (*buffer)->getBuffer();
  auto model = std::make_unique<Model>();
  model->file = path;
  model->size = contents.size();
  model->hash = llvm::xxh3_64bits(contents);
  // A message above 2 GiB cannot be parsed by any protobuf implementation.
  if (contents.size() > size_t(INT32_MAX)) {
    diagnostics.push_back(
        {"the model is larger than 2 GiB", path, "protobuf messages end there", "store the weights as external data"});
    return nullptr;
  }
  if (Status readable = checkWire(contents, path); !readable) {
    diagnostics.push_back(readable.error());
    return nullptr;
  }
  google::protobuf::io::ArrayInputStream array(contents.data(), static_cast<int>(contents.size()));
  google::protobuf::io::CodedInputStream coded(&array);
  coded.SetRecursionLimit(64);
  ProtobufSilence silence;
  if (!model->message.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage() || !model->message.has_graph()) {
    diagnostics.push_back(
        {"this is not an ONNX model", path, "the file is truncated, damaged, or of another format", kDamaged});
    return nullptr;
  }
  if (Status status = checkNotQuantised(model->message, path); !status) {
    diagnostics.push_back(status.error());
    return nullptr;
  }
  for (const onnx::FunctionProto &function : model->message.functions())
    model->functions[functionKey(function.domain(), function.name())] = &function;
  for (const onnx::TensorProto &tensor : model->graph().initializer())
    model->initializers[tensor.name()] = &tensor;
  model->findRawData(contents);

  size_t before = diagnostics.size();
  ExternalDataCheck external(path, diagnostics);
  for (const onnx::TensorProto &tensor : model->graph().initializer())
    if (diagnostics.size() < kMaxMessages)
      model->checkTensor(tensor, external, diagnostics);
  external.finish();
  model->checkGraph(diagnostics);
  model->checkFunctions(diagnostics);
  if (diagnostics.size() > before)
    return nullptr;
  return model;
}

int64_t Model::opset(llvm::StringRef domain) const {
  for (const onnx::OperatorSetIdProto &set : message.opset_import())
    if (set.domain() == domain || (domain.empty() && set.domain() == "ai.onnx"))
      return set.version();
  return 0;
}

const onnx::FunctionProto *Model::function(llvm::StringRef domain, llvm::StringRef name) const {
  return functions.lookup(functionKey(domain, name));
}

std::string Model::metadata(llvm::StringRef key, llvm::StringRef otherwise) const {
  for (const onnx::StringStringEntryProto &entry : message.metadata_props())
    if (entry.key() == key)
      return entry.value();
  return otherwise.str();
}

std::string Model::folder() const {
  return llvm::sys::path::parent_path(file).str();
}

void Model::findRawData(llvm::StringRef contents) {
  auto within = [](const WireField &field, int number) {
    return field.isDelimited && field.number == static_cast<uint32_t>(number);
  };
  forEachField(contents, [&](const WireField &part) {
    return !within(part, onnx::ModelProto::kGraphFieldNumber) ||
           forEachField(part.contents, [&](const WireField &tensor) {
             std::string name;
             llvm::StringRef raw;
             if (within(tensor, onnx::GraphProto::kInitializerFieldNumber))
               forEachField(tensor.contents, [&](const WireField &field) {
                 if (within(field, onnx::TensorProto::kNameFieldNumber))
                   name = field.contents.str();
                 else if (within(field, onnx::TensorProto::kRawDataFieldNumber))
                   raw = field.contents;
                 return true;
               });
             if (raw.data())
               rawOffsets[name] = static_cast<uint64_t>(raw.data() - contents.data());
             return true;
           });
  });
}

std::optional<Storage> Model::storage(const onnx::TensorProto &tensor) const {
  std::optional<int64_t> count = elementCount(tensor);
  if (!count)
    return std::nullopt;
  Storage storage;
  storage.bytes = static_cast<uint64_t>(*count) * onnxElementBytes(tensor.data_type());
  if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
    for (const onnx::StringStringEntryProto &entry : tensor.external_data()) {
      if (entry.key() == "location")
        storage.location = entry.value();
      else if (entry.key() == "offset" && llvm::StringRef(entry.value()).getAsInteger(10, storage.offset))
        return std::nullopt;
    }
    return storage;
  }
  auto found = rawOffsets.find(tensor.name());
  if (!tensor.has_raw_data() || found == rawOffsets.end())
    return std::nullopt;
  storage.offset = found->second;
  return storage;
}

void Model::checkTensor(const onnx::TensorProto &tensor, ExternalDataCheck &external,
                        std::vector<Diagnostic> &diagnostics) const {
  auto refuse = [&](std::string why) {
    diagnostics.push_back({"initializer '" + tensor.name() + "' cannot be used", file, std::move(why), kDamaged});
  };
  std::optional<int64_t> count = elementCount(tensor);
  unsigned width = onnxElementBytes(tensor.data_type());
  if (!count)
    return refuse(std::string("it has a negative extent or ") + kTooLarge);
  if (width == 0)
    return refuse("its element type (" + onnx::TensorProto::DataType_Name(tensor.data_type()) + ") is not supported");
  uint64_t bytes = static_cast<uint64_t>(*count) * width;
  if (tensor.data_location() != onnx::TensorProto::EXTERNAL) {
    if (tensor.has_raw_data() && tensor.raw_data().size() != bytes)
      refuse("it holds " + std::to_string(tensor.raw_data().size()) + " bytes where its shape asks for " +
             std::to_string(bytes));
    return;
  }
  std::optional<Storage> place = storage(tensor);
  if (!place || place->location.empty())
    return refuse("its external data have no readable location and offset");
  for (const onnx::StringStringEntryProto &entry : tensor.external_data()) {
    uint64_t length = 0;
    if (entry.key() == "length" && (llvm::StringRef(entry.value()).getAsInteger(10, length) || length != bytes))
      return refuse("its external data have a length of " + entry.value() + " bytes where its shape asks for " +
                    std::to_string(bytes));
  }
  external.add(tensor, *place);
}

void Model::checkGraph(std::vector<Diagnostic> &diagnostics) const {
  llvm::StringSet<> known;
  for (const onnx::TensorProto &tensor : graph().initializer()) {
    if (!known.insert(tensor.name()).second && diagnostics.size() < kMaxMessages)
      diagnostics.push_back({"initializer '" + tensor.name() + "' is defined twice", file, "", kDamaged});
    if (tensor.name() == kRngState)
      diagnostics.push_back({"no initializer can have the name '" + tensor.name() + "'", file,
                             "moec counts updates under it", "give it another name"});
  }
  // Old files list initializers among the inputs.
  llvm::StringSet<> inputs;
  for (const onnx::ValueInfoProto &input : graph().input()) {
    if ((input.name().empty() || !inputs.insert(input.name()).second) && diagnostics.size() < kMaxMessages)
      diagnostics.push_back({"input '" + input.name() + "' is defined twice or has no name", file, "", kDamaged});
    known.insert(input.name());
  }
  checkNodes(graph().node(), known, file, diagnostics);
}

void Model::checkFunctions(std::vector<Diagnostic> &diagnostics) const {
  // 0 = not seen, 1 = being walked, 2 = done.
  llvm::StringMap<int> state;
  auto walk = [&](auto &self, const onnx::FunctionProto &function, size_t depth) -> void {
    std::string key = functionKey(function.domain(), function.name());
    if (state[key] == 2 || diagnostics.size() >= kMaxMessages)
      return;
    if (depth > kMaxCalls) {
      diagnostics.push_back({"function '" + key + "' is called by functions in one another", file,
                             "there are more than " + std::to_string(kMaxCalls) + " around it", kDamaged});
      return;
    }
    if (state[key] == 1) {
      diagnostics.push_back({"function '" + key + "' calls itself", file, "recursive functions never end", kDamaged});
      return;
    }
    state[key] = 1;
    for (const onnx::NodeProto &node : function.node())
      if (const onnx::FunctionProto *callee = this->function(node.domain(), node.op_type()))
        self(self, *callee, depth + 1);
    state[key] = 2;
    llvm::StringSet<> known;
    for (const std::string &input : function.input())
      known.insert(input);
    checkNodes(function.node(), known, file + ", function '" + key + "'", diagnostics);
  };
  for (const onnx::FunctionProto &function : message.functions())
    walk(walk, function, 0);
}

} // namespace moe::frontend
