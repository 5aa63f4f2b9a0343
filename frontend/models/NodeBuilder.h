//===- NodeBuilder.h - Writing ONNX nodes -------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_MODELS_NODEBUILDER_H
#define MOEC_FRONTEND_MODELS_NODEBUILDER_H

#include "onnx/onnx-ml.pb.h"
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace moe::models {

/// The domain of our model-local functions.
inline constexpr const char *kDomain = "ai.moec";

/// metadata_props of a node: this + the attribute's name = shortest decimal that reads back as the exact double.
inline constexpr const char *kExactPrefix = "ai.moec.f64.";

/// metadata_props of a Gather: no gradient reaches the rows that are read at this index (PyTorch's `padding_idx`).
inline constexpr const char *kPaddingIndexKey = "ai.moec.padding_index";

/// Inside a function body: the value of the function's own attribute of that name.
struct AttributeReference {
  std::string name;
  onnx::AttributeProto::AttributeType type;
};

/// A double is stored as a FLOAT. Where that rounds, the node's metadata keeps the exact value (`kExactPrefix`), so
/// that a reader which computes in double loses nothing.
using AttributeValue =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, onnx::TensorProto, AttributeReference>;

struct Attribute {
  std::string name;
  AttributeValue value;
};

using Names = std::vector<std::string>;
using Attributes = std::vector<Attribute>;

/// Appends nodes to a graph or to a function body. Nodes must be added in topological order; every value is named by
/// the caller, and a node is named after its first output.
class NodeBuilder {
public:
  using NodeList = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

  explicit NodeBuilder(NodeList &nodes) : nodes(nodes) {}

  /// A node with one output, of the standard domain. Returns the name of the output.
  std::string add(const std::string &op, const Names &inputs, const std::string &output,
                  const Attributes &attributes = {});

  /// Rows of `table` at `index`; the row `paddingIndex` is read but gets no gradient.
  std::string embedding(const std::string &table, const std::string &index, const std::string &output,
                        int64_t paddingIndex);

  /// A node with any number of outputs, of any domain.
  onnx::NodeProto &addNode(const std::string &domain, const std::string &op, const Names &inputs, const Names &outputs,
                           const Attributes &attributes = {});

  /// `Constant` nodes. A scalar is of shape [], a list of shape [n].
  std::string scalar(int64_t value, const std::string &output);
  std::string scalar(double value, const std::string &output);
  std::string list(const std::vector<int64_t> &values, const std::string &output);
  /// The scalar value of the enclosing function's attribute `attribute` (INT or FLOAT).
  std::string attribute(const std::string &attribute, onnx::AttributeProto::AttributeType type,
                        const std::string &output);

private:
  NodeList &nodes;
};

/// Appends `attribute` to `node`.
void setAttribute(onnx::NodeProto &node, const Attribute &attribute);

} // namespace moe::models

#endif // MOEC_FRONTEND_MODELS_NODEBUILDER_H
