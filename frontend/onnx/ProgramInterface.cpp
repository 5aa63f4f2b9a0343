//===- ProgramInterface.cpp - Arguments and results of a program --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Limits.h"
#include "frontend/onnx/NodeContext.h"
#include "frontend/onnx/Program.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace moe::frontend {

std::optional<llvm::SmallVector<int64_t>> Program::bindShape(const onnx::ValueInfoProto &value) {
  const std::string &path = session.model.path();
  auto refuse = [&](std::string what, std::string why, std::string remedy) {
    // Inputs share their symbolic dimensions; the first one tells.
    if (llvm::any_of(session.diagnostics, [&](const Diagnostic &known) { return known.what == what; }))
      return;
    session.diagnostics.push_back(
        {std::move(what), path + ", input '" + value.name() + "'", std::move(why), std::move(remedy)});
  };
  if (!value.type().has_tensor_type() || !value.type().tensor_type().has_shape()) {
    refuse("the model has an input without a shape", "every shape must be known at compile time",
           "export the model with input shapes (symbolic dimensions are fine)");
    return std::nullopt;
  }
  llvm::SmallVector<int64_t> shape;
  int64_t count = 1;
  if (value.type().tensor_type().shape().dim_size() > kMaxRank) {
    refuse("it has " + std::to_string(value.type().tensor_type().shape().dim_size()) + " dimensions",
           "a tensor has at most " + std::to_string(kMaxRank), "correct the model");
    return std::nullopt;
  }
  bool complete = true;
  for (const auto &[i, dim] : llvm::enumerate(value.type().tensor_type().shape().dim())) {
    int64_t extent = dim.dim_value();
    if (!dim.has_dim_value()) {
      auto bound = bindings.find(dim.dim_param());
      if (dim.dim_param().empty() || bound == bindings.end()) {
        std::string symbol =
            dim.dim_param().empty() ? "of dimension " + std::to_string(i) : "'" + dim.dim_param() + "'";
        refuse("the extent " + symbol + " is not bound", "every shape must be known at compile time",
               dim.dim_param().empty() ? "name or fix the dimension when exporting"
                                       : "add --bind " + dim.dim_param() + "=N");
        complete = false;
        continue;
      }
      extent = bound->second;
      int64_t most = 0;
      std::string limit = session.model.metadata("ai.moec.max." + dim.dim_param());
      if (!llvm::StringRef(limit).getAsInteger(10, most) && extent > most) {
        refuse("the extent '" + dim.dim_param() + "' of " + std::to_string(extent) +
                   " is more than the model has room for",
               "its positions end at " + std::to_string(most), "bind at most that, or write the model anew");
        complete = false;
        continue;
      }
    }
    if (extent < 1 || count > kMaxElements / extent) {
      refuse("the extent " + std::to_string(extent) + " of dimension " + std::to_string(i) + " is out of range",
             "extents are positive and a tensor has at most 2^40 elements", "correct the model or the binding");
      complete = false;
      continue;
    }
    count *= extent;
    shape.push_back(extent);
  }
  if (!complete)
    return std::nullopt;
  if (!shape.empty() && groups > 1 && shape.front() % groups != 0) {
    refuse("the batch of " + std::to_string(shape.front()) + " does not divide into " + std::to_string(groups) +
               " routing groups",
           "a group is a range of batch rows", "bind another batch or set routing_groups in the recipe");
    return std::nullopt;
  }
  return shape;
}

bool Program::addArguments(llvm::SmallVectorImpl<Type> &types, llvm::SmallVectorImpl<std::string> &names) {
  bool complete = true;
  for (const onnx::ValueInfoProto &input : session.model.graph().input()) {
    // Old files list initializers among the inputs.
    if (session.model.initializer(input.name()))
      continue;
    if (session.diagnostics.size() >= kMaxMessages)
      break;
    auto shape = bindShape(input);
    if (!shape) {
      complete = false;
      continue;
    }
    Type element = elementType(input.type().tensor_type().elem_type());
    if (!element) {
      session.diagnostics.push_back({"input '" + input.name() + "' has an element type that moec does not know",
                                     session.model.path(),
                                     onnx::TensorProto::DataType_Name(input.type().tensor_type().elem_type()),
                                     "use floats of 16, 32 or 64 bits, bool, int8 to int64, or uint8 to uint32"});
      complete = false;
      continue;
    }
    types.push_back(RankedTensorType::get(*shape, element));
    names.push_back(input.name());
  }
  return complete;
}

Value Program::meanMoeMetrics() {
  onnx::NodeProto node;
  node.set_name("moe_metrics");
  node.add_output("moe_metrics");
  Scope scope;
  NodeContext context(*this, scope, node, 0);
  Value sum;
  double count = 0;
  for (Value metrics : llvm::make_first_range(moeMetrics)) {
    count += static_cast<double>(context.shape(metrics)[0]);
    Value layer = context.reduce(metrics, ir::ReduceKind::Sum, {0}, false);
    sum = sum ? context.make<ir::AddOp>(sum, layer) : layer;
  }
  return context.make<ir::DivOp>(sum, context.splatLike(sum, count));
}

Value Program::sumDropped() {
  onnx::NodeProto node;
  node.set_name("moe_dropped");
  node.add_output("moe_dropped");
  Scope scope;
  NodeContext context(*this, scope, node, 0);
  Value sum;
  for (Value dropped : llvm::make_second_range(moeMetrics))
    sum = sum ? context.make<ir::AddOp>(sum, dropped) : dropped;
  return sum;
}

bool Program::returnOutputs(func::FuncOp function, Scope &scope) {
  std::vector<std::string> names = session.options.outputs;
  if (names.empty())
    for (const onnx::ValueInfoProto &output : session.model.graph().output())
      names.push_back(output.name());
  llvm::SmallVector<Value> values;
  llvm::SmallVector<std::string> kept;
  bool complete = true;
  for (const std::string &name : names) {
    const bool known = scope.values.count(name) || session.model.initializer(name);
    // An output of the file that has no value behind a gap is none of its own.
    const bool declared = llvm::any_of(session.model.graph().output(),
                                       [&](const onnx::ValueInfoProto &output) { return output.name() == name; });
    Value value = known ? lookup(scope, name) : Value();
    if (!known && !(declared && !session.gaps.empty())) {
      std::string available;
      for (const onnx::ValueInfoProto &output : session.model.graph().output())
        available += (available.empty() ? "" : ", ") + output.name();
      session.diagnostics.push_back({"the model has no output '" + name + "'", session.model.path(),
                                     "its outputs are: " + available, "choose one of them as loss.output"});
    }
    if (!value) {
      complete = false;
      continue;
    }
    if (ir::typeOf(value).getNumElements() == 0) {
      session.diagnostics.push_back({"output '" + name + "' has no elements", session.model.path(),
                                     "one of its extents is 0, and programs give tensors with at least one element",
                                     "remove the output from the graph, or bind its extents to larger ones"});
      complete = false;
      continue;
    }
    values.push_back(value);
    kept.push_back(name);
  }
  for (const char *name : {"loss_weight", "inner_loss_sum"})
    if (std::string inner = session.model.metadata("ai.moec." + std::string(name)); !inner.empty())
      if (Value value = lookup(scope, inner); value && !llvm::is_contained(kept, name)) {
        values.push_back(value);
        kept.push_back(name);
      }
  if (!moeMetrics.empty())
    for (auto [name, value] : {std::pair("moe_metrics", meanMoeMetrics()), std::pair("moe_dropped", sumDropped())})
      if (value && !llvm::is_contained(kept, name)) {
        values.push_back(value);
        kept.emplace_back(name);
      }
  func::ReturnOp::create(builder, function.getLoc(), values);
  llvm::SmallVector<Type> types;
  for (Value value : values)
    types.push_back(value.getType());
  function.setFunctionType(builder.getFunctionType(function.getArgumentTypes(), types));
  for (auto [i, name] : llvm::enumerate(kept))
    function.setResultAttr(static_cast<unsigned>(i), "moe.name", builder.getStringAttr(name));
  return complete;
}

void Program::eraseDead(Block &block) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (!op.hasTrait<OpTrait::IsTerminator>() && op.use_empty() && (isa<ir::ReadOp>(op) || isMemoryEffectFree(&op)))
      op.erase();
}

bool Program::import(llvm::StringRef name) {
  const size_t reported = session.diagnostics.size() + session.gaps.size();
  llvm::SmallVector<Type> types;
  llvm::SmallVector<std::string> names;
  if (!addArguments(types, names))
    return false;
  builder.setInsertionPointToEnd(session.module.getBody());
  function = func::FuncOp::create(builder, NameLoc::get(builder.getStringAttr(name)), name,
                                  builder.getFunctionType(types, {}));
  function->setAttr("moe.program", builder.getStringAttr(name));
  Block *block = function.addEntryBlock();
  builder.setInsertionPointToStart(block);

  Scope scope;
  scope.isGraph = true;
  scope.opset = session.model.opset("");
  for (auto [i, argument] : llvm::enumerate(names)) {
    function.setArgAttr(static_cast<unsigned>(i), "moe.name", builder.getStringAttr(argument));
    block->getArgument(static_cast<unsigned>(i)).setLoc(location(scope, argument));
    scope.values[argument] = block->getArgument(static_cast<unsigned>(i));
  }
  importNodes(scope, session.model.graph().node());
  returnOutputs(function, scope);
  constants.clear();
  eraseDead(*block);
  return session.diagnostics.size() + session.gaps.size() == reported;
}

} // namespace moe::frontend
