//===- Quantised.cpp - Models of rounded integers -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Quantised.h"

#include <llvm/ADT/StringRef.h>
#include <llvm/ADT/StringSet.h>
#include <map>

namespace moe::frontend {
namespace {

bool isQuantised(const onnx::NodeProto &node) {
  static const llvm::StringSet<> standard = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
                                             "QLinearConv",    "QLinearMatMul",    "ConvInteger",
                                             "MatMulInteger"};
  // Those of ONNX Runtime, which writes the standard ones in its own domain, too.
  static const llvm::StringSet<> runtime = {
      "DynamicQuantizeLSTM",  "DynamicQuantizeMatMul", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger16",
      "MatMulIntegerToFloat", "MatMulNBits",           "QAttention", "QGemm",      "QMoE",
      "QOrderedMatMul",       "QuantizeWithOrder"};
  const llvm::StringRef domain = node.domain(), name = node.op_type();
  if (domain.empty() || domain == "ai.onnx")
    return standard.contains(name);
  return domain == "com.microsoft" &&
         (standard.contains(name) || runtime.contains(name) || name.starts_with("QLinear"));
}

/// Kinds of quantised nodes, each with how many there are.
class Search {
public:
  void search(const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes) {
    for (const onnx::NodeProto &node : nodes) {
      if (isQuantised(node)) {
        if (found.empty())
          first = node.name();
        ++found[node.op_type()];
      }
      for (const onnx::AttributeProto &attribute : node.attribute()) {
        search(attribute.g().node());
        for (const onnx::GraphProto &graph : attribute.graphs())
          search(graph.node());
      }
    }
  }

  std::map<std::string, int> found;
  std::string first; ///< name of the first such node
};

} // namespace

Status checkNotQuantised(const onnx::ModelProto &model, const std::string &path) {
  Search all;
  all.search(model.graph().node());
  for (const onnx::FunctionProto &function : model.functions())
    all.search(function.node());
  if (all.found.empty())
    return {};
  std::string kinds;
  for (const auto &[kind, count] : all.found)
    kinds += (kinds.empty() ? "" : ", ") + kind + " (" + std::to_string(count) + ")";
  return error(
      "a quantised model cannot be trained", path,
      "it has " + kinds + (all.first.empty() ? "" : ", first at node '" + all.first + "'") +
          ", whose gradients are zero",
      "export the model before it is quantised; 'precision: {compute: bf16}' in the recipe computes in fewer bits");
}

} // namespace moe::frontend
