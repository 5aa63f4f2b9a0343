//===- ExportNames.cpp --------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/ExportNames.h"
#include "ir/Ops.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringExtras.h"

#include <algorithm>
#include <map>

using namespace mlir;

namespace moe::frontend {
namespace {

llvm::StringRef metadataOf(const onnx::NodeProto &node, llvm::StringRef key) {
  for (const onnx::StringStringEntryProto &entry : node.metadata_props())
    if (entry.key() == key)
      return entry.value();
  return {};
}

/// How torch.export writes a name into an identifier.
std::string identifier(llvm::StringRef name) {
  std::string result = name.str();
  for (char &c : result)
    if (!llvm::isAlnum(c))
      c = '_';
  return result;
}

/// The quoted words of a list as Python prints it: "['', 'm', 'm.lm_head', 'linear']".
std::vector<llvm::StringRef> quotedWords(llvm::StringRef list) {
  std::vector<llvm::StringRef> words;
  for (size_t open = list.find('\''); open != llvm::StringRef::npos; open = list.find('\'', open)) {
    size_t close = list.find('\'', open + 1);
    if (close == llvm::StringRef::npos)
      break;
    words.push_back(list.slice(open + 1, close));
    open = close + 1;
  }
  return words;
}

/// The parameters among the operands of a call as torch.fx prints it, without their prefix: "a_b_weight".
std::vector<llvm::StringRef> parametersOf(llvm::StringRef call) {
  constexpr llvm::StringLiteral prefix = "%p_";
  std::vector<llvm::StringRef> names;
  for (size_t at = call.find(prefix); at != llvm::StringRef::npos; at = call.find(prefix, at)) {
    at += prefix.size();
    names.push_back(call.substr(at).take_while([](char c) { return llvm::isAlnum(c) || c == '_'; }));
  }
  return names;
}

/// Whether operand `index` of the node is the transposed weight of a linear layer, which PyTorch keeps as [out, in].
bool isTransposedWeight(const onnx::NodeProto &node, int index, const onnx::TensorProto &tensor) {
  if (tensor.dims_size() != 2 || index != 1)
    return false;
  if (node.op_type() == "MatMul")
    return true;
  if (node.op_type() != "Gemm")
    return false;
  for (const onnx::AttributeProto &attribute : node.attribute())
    if (attribute.name() == "transB")
      return attribute.i() == 0;
  return true;
}

/// From the metadata of torch.export; empty if they do not name one parameter alone.
std::string nameFromTrace(const Model &model, const onnx::NodeProto &node) {
  std::vector<llvm::StringRef> scopes = quotedWords(metadataOf(node, "pkg.torch.onnx.name_scopes"));
  std::string result;
  for (llvm::StringRef parameter : parametersOf(metadataOf(node, "pkg.torch.onnx.fx_node"))) {
    // The innermost module that the identifier begins with holds the parameter; what follows is its name there.
    llvm::StringRef owner;
    for (llvm::StringRef scope : scopes)
      if (scope.size() > owner.size() && parameter.starts_with(identifier(scope) + "_"))
        owner = scope;
    if (owner.empty())
      continue;
    std::string name = (owner + "." + parameter.drop_front(owner.size() + 1)).str();
    if (model.initializer(name))
      continue;
    if (!result.empty())
      return {};
    result = name;
  }
  return result;
}

/// "/a/b/MatMul" of the TorchScript exporter: the weight of the layer a.b.
std::string nameFromPath(const onnx::NodeProto &node, llvm::StringRef initializer) {
  llvm::StringRef path = node.name();
  if (!initializer.starts_with("onnx::") || !path.consume_front("/"))
    return {};
  auto [scope, operation] = path.rsplit('/');
  if (operation.empty() || !operation.starts_with(node.op_type()))
    return {};
  std::string name = scope.str();
  std::replace(name.begin(), name.end(), '/', '.');
  return name + ".weight";
}

/// The nodes of the graph that read each initializer, and as which operand.
using Readers = std::map<std::string, std::vector<std::pair<const onnx::NodeProto *, int>>>;

Readers readersOf(const Model &model) {
  Readers readers;
  for (const onnx::NodeProto &node : model.graph().node())
    for (int i = 0; i < node.input_size(); ++i)
      if (model.initializer(node.input(i)))
        readers[node.input(i)].emplace_back(&node, i);
  return readers;
}

ExportName originalName(const Model &model, const std::string &initializer, const Readers &readers) {
  const onnx::TensorProto *tensor = model.initializer(initializer);
  auto found = readers.find(initializer);
  if (!tensor || found == readers.end() || llvm::StringRef(initializer).contains('.'))
    return {initializer};
  for (auto [node, index] : found->second) {
    const bool transposed = isTransposedWeight(*node, index, *tensor);
    std::string name = nameFromTrace(model, *node);
    if (name.empty() && transposed)
      name = nameFromPath(*node, initializer);
    if (!name.empty() && !model.initializer(name))
      return {name, transposed};
  }
  return {initializer};
}

} // namespace

ExportName originalName(const Model &model, const std::string &initializer) {
  return originalName(model, initializer, readersOf(model));
}

DictionaryAttr exportNames(const Model &model, ModuleOp module, llvm::ArrayRef<Tie> ties) {
  const Readers readers = readersOf(model);
  struct Candidate {
    ExportName found, fallback;
  };
  std::map<std::string, std::vector<Candidate>> names;
  std::map<std::string, int> uses;
  for (ir::StateOp state : module.getOps<ir::StateOp>()) {
    if (state.getKind() != ir::StateKind::Parameter && state.getKind() != ir::StateKind::Frozen)
      continue;
    const std::string own = state.getSymName().str();
    std::vector<Candidate> &list = names[own];
    list.push_back({originalName(model, own, readers), {own}});
    for (const Tie &tie : ties)
      if (tie.source == own) {
        ExportName target = originalName(model, tie.target, readers);
        list.push_back({{target.name, target.transposed != tie.transposed}, {tie.target, tie.transposed}});
      }
    for (const Candidate &candidate : list)
      ++uses[candidate.found.name];
  }
  Builder b(module.getContext());
  SmallVector<NamedAttribute> entries;
  for (auto &[own, list] : names) {
    SmallVector<Attribute> written;
    bool different = list.size() > 1;
    for (const Candidate &candidate : list) {
      // Of two tensors with one name, neither name is sure.
      const ExportName &name = uses[candidate.found.name] > 1 ? candidate.fallback : candidate.found;
      different |= !(name == ExportName{own});
      SmallVector<int64_t> order;
      if (name.transposed)
        order = {1, 0};
      written.push_back(b.getArrayAttr({b.getStringAttr(name.name), b.getDenseI64ArrayAttr(order)}));
    }
    if (different)
      entries.push_back(b.getNamedAttr(own, b.getArrayAttr(written)));
  }
  return b.getDictionaryAttr(entries);
}

} // namespace moe::frontend
