//===- OnnxMutator.cpp - Other models of the same form ------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/fuzz/OnnxParts.h"

#include <algorithm>
#include <string>
#include <vector>

namespace moe::fuzz {
namespace {

using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

/// A list of nodes and, unless it is that of a function, the graph it belongs to.
struct Body {
  Nodes *nodes = nullptr;
  onnx::GraphProto *graph = nullptr;
  onnx::FunctionProto *function = nullptr;
};

void collect(onnx::GraphProto &graph, std::vector<Body> &bodies) {
  bodies.push_back({graph.mutable_node(), &graph, nullptr});
  for (onnx::NodeProto &node : *graph.mutable_node())
    for (onnx::AttributeProto &attribute : *node.mutable_attribute())
      if (attribute.has_g())
        collect(*attribute.mutable_g(), bodies);
}

/// One mutation: draws what it needs from a body of the model.
class ModelMutation {
public:
  ModelMutation(onnx::ModelProto &model, Random &random) : model(model), random(random) {
    std::vector<Body> bodies;
    collect(*model.mutable_graph(), bodies);
    for (onnx::FunctionProto &function : *model.mutable_functions())
      bodies.push_back({function.mutable_node(), nullptr, &function});
    // The main graph is where most happens.
    body = random.oneIn(2) ? bodies.front() : random.pick(bodies);
    names = namesIn(body);
  }

  void apply() {
    using Step = void (ModelMutation::*)();
    static constexpr Step steps[] = {
        &ModelMutation::swapOperator, &ModelMutation::swapOperator,   &ModelMutation::changeAttribute,
        &ModelMutation::rewire,       &ModelMutation::rewire,         &ModelMutation::changeAttribute,
        &ModelMutation::insertNode,   &ModelMutation::insertNode,     &ModelMutation::changeAttribute,
        &ModelMutation::dropNode,     &ModelMutation::duplicateNode,  &ModelMutation::moveNode,
        &ModelMutation::changeInput,  &ModelMutation::changeInput,    &ModelMutation::changeOperands,
        &ModelMutation::changeWeight, &ModelMutation::changeWeight,   &ModelMutation::addConstant,
        &ModelMutation::changeOpset,  &ModelMutation::changeOutput,   &ModelMutation::nest,
        &ModelMutation::callFunction, &ModelMutation::changeMetadata, &ModelMutation::changeAny,
        &ModelMutation::addInput,     &ModelMutation::addConstant,    &ModelMutation::changeAny};
    (this->*random.pick(steps))();
  }

private:
  static std::vector<std::string> namesIn(const Body &body) {
    std::vector<std::string> names;
    if (body.graph) {
      for (const onnx::ValueInfoProto &input : body.graph->input())
        names.push_back(input.name());
      for (const onnx::TensorProto &tensor : body.graph->initializer())
        names.push_back(tensor.name());
    } else {
      names.assign(body.function->input().begin(), body.function->input().end());
    }
    for (const onnx::NodeProto &node : *body.nodes)
      names.insert(names.end(), node.output().begin(), node.output().end());
    return names;
  }

  onnx::NodeProto *node() {
    return body.nodes->empty() ? nullptr : &(*body.nodes)[int(random.below(size_t(body.nodes->size())))];
  }
  std::string name() { return names.empty() || random.oneIn(40) ? std::string() : random.pick(names); }
  std::string fresh() { return "new" + std::to_string(random.below(1 << 20)); }

  void swapOperator() {
    if (onnx::NodeProto *at = node())
      setOperator(*at, random);
  }

  void changeAttribute() {
    if (onnx::NodeProto *at = node())
      mutateAttribute(*at, random);
  }

  /// Another operand, from before or (a cycle) from behind.
  void rewire() {
    onnx::NodeProto *at = node();
    if (at && at->input_size() > 0)
      at->set_input(int(random.below(size_t(at->input_size()))), name());
  }

  void changeOperands() {
    onnx::NodeProto *at = node();
    if (!at)
      return;
    switch (random.below(4)) {
    case 0:
      at->add_input(name());
      break;
    case 1:
      at->add_output(random.oneIn(8) ? name() : fresh());
      break;
    case 2:
      if (at->input_size() > 0)
        at->mutable_input()->RemoveLast();
      break;
    default:
      if (at->output_size() > 1)
        at->mutable_output()->RemoveLast();
    }
  }

  /// A new node after the one at `position`, read by one that follows or by the graph's result.
  void insertNode() {
    const int count = body.nodes->size(), position = int(random.below(size_t(count) + 1));
    onnx::NodeProto &added = *body.nodes->Add();
    setOperator(added, random);
    for (size_t i = 1 + random.below(3); i > 0; --i)
      added.add_input(name());
    for (size_t i = random.below(3); i > 0; --i)
      mutateAttribute(added, random);
    added.add_output(fresh());
    const std::string result = added.output(0);
    for (int i = count; i > position; --i)
      body.nodes->SwapElements(i, i - 1);
    if (position < count && random.oneIn(2)) {
      onnx::NodeProto &reader = (*body.nodes)[position + 1 + int(random.below(size_t(count - position)))];
      if (reader.input_size() > 0)
        reader.set_input(int(random.below(size_t(reader.input_size()))), result);
    } else if (body.graph) {
      body.graph->add_output()->set_name(result);
    }
  }

  /// Whoever read the node's result reads its first operand, so that the rest of the graph lives on.
  void dropNode() {
    if (body.nodes->empty())
      return;
    const int at = int(random.below(size_t(body.nodes->size())));
    const onnx::NodeProto dropped = (*body.nodes)[at];
    body.nodes->DeleteSubrange(at, 1);
    if (random.oneIn(4) || dropped.input_size() == 0)
      return;
    for (onnx::NodeProto &reader : *body.nodes)
      for (std::string &input : *reader.mutable_input())
        for (const std::string &output : dropped.output())
          if (input == output)
            input = dropped.input(0);
  }

  void duplicateNode() {
    onnx::NodeProto *at = node();
    if (!at)
      return;
    onnx::NodeProto copy = *at;
    for (std::string &output : *copy.mutable_output())
      if (!random.oneIn(8))
        output = fresh();
    if (body.graph && copy.output_size() > 0)
      body.graph->add_output()->set_name(copy.output(0));
    *body.nodes->Add() = copy;
  }

  void moveNode() {
    if (!body.nodes->empty())
      body.nodes->SwapElements(int(random.below(size_t(body.nodes->size()))),
                               int(random.below(size_t(body.nodes->size()))));
  }

  void changeInput() {
    if (body.graph && body.graph->input_size() > 0)
      mutateInput(*body.graph->mutable_input(int(random.below(size_t(body.graph->input_size())))), random);
  }

  void addInput() {
    if (!body.graph)
      return;
    onnx::ValueInfoProto &added = *body.graph->add_input();
    added.set_name(random.oneIn(8) ? name() : fresh());
    mutateInput(added, random);
    if (onnx::NodeProto *reader = node(); reader && reader->input_size() > 0)
      reader->set_input(int(random.below(size_t(reader->input_size()))), added.name());
  }

  void changeOutput() {
    if (!body.graph)
      return;
    if (body.graph->output_size() > 0 && random.oneIn(2))
      body.graph->mutable_output(int(random.below(size_t(body.graph->output_size()))))->set_name(name());
    else
      body.graph->add_output()->set_name(name());
  }

  void changeWeight() {
    if (body.graph && body.graph->initializer_size() > 0)
      mutateTensor(*body.graph->mutable_initializer(int(random.below(size_t(body.graph->initializer_size())))), random);
    else
      addConstant();
  }

  /// A small tensor, as an initializer or as the result of a `Constant`, that a node reads: axes, shapes and indices.
  void addConstant() {
    onnx::TensorProto tensor = smallTensor(random);
    tensor.set_name(fresh());
    if (onnx::NodeProto *reader = node()) {
      if (reader->input_size() > 0 && !random.oneIn(3))
        reader->set_input(int(random.below(size_t(reader->input_size()))), tensor.name());
      else
        reader->add_input(tensor.name());
    }
    if (body.graph && random.oneIn(2)) {
      *body.graph->add_initializer() = tensor;
      return;
    }
    onnx::NodeProto &constant = *body.nodes->Add();
    constant.set_op_type("Constant");
    constant.add_output(tensor.name());
    onnx::AttributeProto &value = *constant.add_attribute();
    value.set_name("value");
    value.set_type(onnx::AttributeProto::TENSOR);
    *value.mutable_t() = tensor;
    for (int i = body.nodes->size() - 1; i > 0; --i)
      body.nodes->SwapElements(i, i - 1);
  }

  void changeOpset() {
    if (model.opset_import_size() == 0 || random.oneIn(6)) {
      onnx::OperatorSetIdProto &added = *model.add_opset_import();
      added.set_domain(random.oneIn(2) ? "ai.moec" : "");
      added.set_version(1);
      return;
    }
    onnx::OperatorSetIdProto &opset = *model.mutable_opset_import(int(random.below(size_t(model.opset_import_size()))));
    opset.set_version(random.oneIn(8) ? random.integer() : int64_t(1 + random.below(28)));
  }

  /// A node moves into a branch of an `If` or the body of a `Loop`.
  void nest() {
    onnx::NodeProto *at = node();
    if (!at)
      return;
    const onnx::NodeProto inner = *at;
    at->Clear();
    const bool loop = random.oneIn(2);
    at->set_op_type(loop ? "Loop" : "If");
    for (const std::string &output : inner.output())
      at->add_output(output);
    at->add_input(name());
    if (loop) {
      at->add_input(name());
      at->add_input(inner.input_size() > 0 ? inner.input(0) : name());
    }
    for (const char *attribute : {loop ? "body" : "then_branch", "else_branch"}) {
      onnx::AttributeProto &branch = *at->add_attribute();
      branch.set_name(attribute);
      branch.set_type(onnx::AttributeProto::GRAPH);
      onnx::GraphProto &graph = *branch.mutable_g();
      *graph.add_node() = inner;
      std::vector<std::string> results(inner.output().begin(), inner.output().end());
      if (loop) {
        for (const char *input : {"iteration", "condition", "carried"})
          graph.add_input()->set_name(input);
        results.insert(results.begin(), "condition");
      }
      for (const std::string &output : inner.output()) {
        const std::string renamed = output + "_in";
        for (std::string &own : *graph.mutable_node(0)->mutable_output())
          if (own == output)
            own = renamed;
        for (std::string &result : results)
          if (result == output)
            result = renamed;
      }
      for (const std::string &result : results)
        graph.add_output()->set_name(result);
      if (loop)
        break;
    }
  }

  /// A node becomes the call of a function that holds it, or of one that is there already (perhaps of itself).
  void callFunction() {
    onnx::NodeProto *at = node();
    if (!at)
      return;
    onnx::NodeProto inner = *at;
    if (model.functions_size() > 0 && random.oneIn(2)) {
      const onnx::FunctionProto &called = model.functions(int(random.below(size_t(model.functions_size()))));
      at->set_op_type(called.name());
      at->set_domain(called.domain());
      return;
    }
    at->clear_attribute();
    at->set_domain("f");
    at->set_op_type(fresh());
    onnx::FunctionProto &function = *model.add_functions();
    function.set_domain("f");
    function.set_name(at->op_type());
    for (const std::string &input : inner.input())
      function.add_input(input);
    for (const std::string &output : inner.output())
      function.add_output(output);
    for (const onnx::OperatorSetIdProto &opset : model.opset_import())
      *function.add_opset_import() = opset;
    *function.add_node() = inner;
    onnx::OperatorSetIdProto &opset = *model.add_opset_import();
    opset.set_domain("f");
    opset.set_version(1);
  }

  /// What `moec model` and exporters write beside the graph: routing groups, padding, how to draw weights.
  void changeMetadata() {
    static constexpr const char *keys[] = {"ai.moec.preset", "ai.moec.pad_id", "ai.moec.routing_groups",
                                           "ai.moec.tokenizer"};
    if (model.metadata_props_size() == 0 || random.oneIn(4)) {
      onnx::StringStringEntryProto &added = *model.add_metadata_props();
      added.set_key(random.pick(keys));
      added.set_value(std::to_string(random.integer()));
    } else {
      mutateWritten(*model.mutable_metadata_props(int(random.below(size_t(model.metadata_props_size())))), random);
    }
  }

  void changeAny() {
    if (onnx::NodeProto *at = node(); at && random.oneIn(2))
      mutateWritten(*at, random);
    else
      mutateWritten(model, random);
  }

  onnx::ModelProto &model;
  Random &random;
  Body body;
  std::vector<std::string> names;
};

} // namespace

void mutateModel(onnx::ModelProto &model, Random &random) {
  for (size_t changes = 1 + random.below(4); changes > 0; --changes)
    ModelMutation(model, random).apply();
}

void spliceModel(onnx::ModelProto &model, const onnx::ModelProto &other, Random &random) {
  const onnx::GraphProto &donor = other.graph();
  onnx::GraphProto &graph = *model.mutable_graph();
  if (donor.node_size() == 0)
    return;
  const int begin = int(random.below(size_t(donor.node_size())));
  const int end = std::min(donor.node_size(), begin + 1 + int(random.below(8)));
  std::vector<std::string> values;
  for (const onnx::ValueInfoProto &input : graph.input())
    values.push_back(input.name());
  for (const onnx::NodeProto &node : graph.node())
    values.insert(values.end(), node.output().begin(), node.output().end());
  // Names of the donor get an ending of their own; what is not among the nodes taken becomes a value of the model.
  const std::string ending = "_" + std::to_string(random.below(1000));
  std::vector<std::string> taken;
  for (int i = begin; i < end; ++i) {
    onnx::NodeProto copy = donor.node(i);
    for (std::string &input : *copy.mutable_input()) {
      if (input.empty())
        continue;
      const bool computed = std::find(taken.begin(), taken.end(), input) != taken.end();
      const onnx::TensorProto *weight = nullptr;
      for (const onnx::TensorProto &tensor : donor.initializer())
        if (tensor.name() == input)
          weight = &tensor;
      if (weight && !computed) {
        *graph.add_initializer() = *weight;
        taken.push_back(input);
        graph.mutable_initializer()->rbegin()->set_name(input + ending);
      }
      input = computed || weight || values.empty() ? input + ending : random.pick(values);
    }
    for (std::string &output : *copy.mutable_output()) {
      taken.push_back(output);
      output += ending;
    }
    *graph.add_node() = copy;
  }
  if (graph.node_size() > 0 && graph.node().rbegin()->output_size() > 0)
    graph.add_output()->set_name(graph.node().rbegin()->output(0));
}

} // namespace moe::fuzz
