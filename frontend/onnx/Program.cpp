//===- Program.cpp ------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Program.h"
#include "frontend/onnx/Limits.h"
#include "frontend/onnx/NodeContext.h"
#include "frontend/onnx/OpTable.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// Nesting of function calls; the reader has already refused recursion.
constexpr size_t kMaxDepth = 64;

/// A copy of `node` whose references to attributes of the function are replaced by the values of the call.
onnx::NodeProto withCallAttributes(const onnx::NodeProto &node, const onnx::NodeProto &call,
                                   const onnx::FunctionProto &function) {
  onnx::NodeProto copy = node;
  copy.clear_attribute();
  for (const onnx::AttributeProto &attribute : node.attribute()) {
    if (attribute.ref_attr_name().empty()) {
      onnx::AttributeProto &own = *copy.add_attribute();
      own = attribute;
      if (own.has_g())
        for (onnx::NodeProto &inner : *own.mutable_g()->mutable_node())
          inner = withCallAttributes(inner, call, function);
      continue;
    }
    // The call's own value wins over the function's default; without either the attribute is absent.
    const onnx::AttributeProto *value = nullptr;
    for (const onnx::AttributeProto &candidate : function.attribute_proto())
      if (candidate.name() == attribute.ref_attr_name())
        value = &candidate;
    for (const onnx::AttributeProto &candidate : call.attribute())
      if (candidate.name() == attribute.ref_attr_name())
        value = &candidate;
    if (value) {
      onnx::AttributeProto &bound = *copy.add_attribute();
      bound = *value;
      bound.set_name(attribute.name());
      // What the call says about the exact value holds for the copy too.
      for (const onnx::StringStringEntryProto &entry : call.metadata_props())
        if (entry.key() == kExactPrefix + attribute.ref_attr_name()) {
          onnx::StringStringEntryProto &exact = *copy.add_metadata_props();
          exact.set_key(kExactPrefix + attribute.name());
          exact.set_value(entry.value());
        }
    }
  }
  return copy;
}

} // namespace

std::string nodeName(const onnx::NodeProto &node) {
  return node.name().empty() && node.output_size() > 0 ? node.output(0) : node.name();
}

DenseElementsAttr toAttribute(RankedTensorType type, const std::string &elements) {
  llvm::ArrayRef<char> bytes(elements.data(), elements.size());
  Type element = type.getElementType();
  if (element.isInteger(1)) {
    llvm::SmallVector<bool> bits;
    for (char byte : bytes)
      bits.push_back(byte != 0);
    return DenseElementsAttr::get(type, bits);
  }
  return DenseElementsAttr::getFromRawBuffer(type, bytes);
}

Program::Program(ImportSession &session, Mode mode, const Bindings &bindings)
    : session(session), mode(mode), builder(session.module.getContext()), bindings(bindings),
      empty(ModuleOp::create(builder.getUnknownLoc())), noState(*empty) {
  std::string written;
  if (session.options.routingGroups > 0) {
    groups = session.options.routingGroups;
  } else if (const onnx::TensorProto *tensor = session.model.initializer("routing_groups")) {
    if (tensor->data_type() == onnx::TensorProto::INT64 && session.model.readElements(*tensor, written) &&
        written.size() == sizeof(int64_t))
      std::memcpy(&groups, written.data(), sizeof(groups));
  }
}

Type elementType(int32_t dataType, Builder &builder) {
  switch (dataType) {
  case onnx::TensorProto::FLOAT:
    return builder.getF32Type();
  case onnx::TensorProto::DOUBLE:
    return builder.getF64Type();
  case onnx::TensorProto::FLOAT16:
    return builder.getF16Type();
  case onnx::TensorProto::BFLOAT16:
    return builder.getBF16Type();
  case onnx::TensorProto::INT64:
    return builder.getI64Type();
  case onnx::TensorProto::INT32:
    return builder.getI32Type();
  case onnx::TensorProto::INT16:
    return builder.getIntegerType(16);
  case onnx::TensorProto::INT8:
    return builder.getIntegerType(8);
  case onnx::TensorProto::UINT32:
    return builder.getIntegerType(32, /*isSigned=*/false);
  case onnx::TensorProto::UINT16:
    return builder.getIntegerType(16, /*isSigned=*/false);
  case onnx::TensorProto::UINT8:
    return builder.getIntegerType(8, /*isSigned=*/false);
  case onnx::TensorProto::BOOL:
    return builder.getI1Type();
  default:
    return {};
  }
}

bool Program::spend(double cost) {
  work += cost;
  return work <= Work::kLimit;
}

Location Program::location(const Scope &scope, llvm::StringRef name) {
  spend(Work::kNameByte * static_cast<double>(scope.path.size() + name.size()));
  return NameLoc::get(builder.getStringAttr(scope.path + name.str()));
}

//===----------------------------------------------------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------------------------------------------------===//

Value Program::lookup(Scope &scope, llvm::StringRef name) {
  auto found = scope.values.find(name);
  if (found != scope.values.end())
    return found->second;
  if (scope.outer)
    return lookup(*scope.outer, name);
  const onnx::TensorProto *tensor = scope.isGraph ? session.model.initializer(name) : nullptr;
  return tensor ? readInitializer(*tensor) : Value();
}

const Sequence *Program::lookupSequence(const Scope &scope, llvm::StringRef name) const {
  for (const Scope *each = &scope; each && !each->values.contains(name) && !each->absent.contains(name);
       each = each->outer)
    if (auto found = each->sequences.find(name); found != each->sequences.end())
      return &found->second;
  return nullptr;
}

bool Program::isAbsent(const Scope &scope, llvm::StringRef name) const {
  for (const Scope *each = &scope; each && !each->values.contains(name) && !each->sequences.contains(name);
       each = each->outer)
    if (each->absent.contains(name))
      return true;
  return false;
}

void Program::share(Scope &from, llvm::StringRef name, Scope &to, llvm::StringRef alias) {
  if (const Sequence *sequence = lookupSequence(from, name)) {
    spend(Work::kElement * static_cast<double>(sequence->size()));
    to.sequences[alias] = *sequence;
  } else if (isAbsent(from, name)) {
    to.absent.insert(alias);
  } else {
    to.values[alias] = lookup(from, name);
  }
}

Value Program::readInitializer(const onnx::TensorProto &tensor) {
  if (Value known = initializers.lookup(tensor.name()))
    return known;
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&function.getBody().front());
  Location loc = NameLoc::get(builder.getStringAttr(tensor.name()));
  auto type = RankedTensorType::get(llvm::SmallVector<int64_t>(tensor.dims().begin(), tensor.dims().end()),
                                    elementType(tensor.data_type()));
  Value value;
  if (type.getNumElements() == 0) {
    value = withoutElements(type, loc);
  } else if (session.states.isConstant(tensor)) {
    std::string elements;
    DenseElementsAttr attribute;
    if (tensor.name() == "routing_groups" && type.getNumElements() == 1 && type.getElementType().isInteger(64))
      attribute = DenseElementsAttr::get(type, llvm::ArrayRef<int64_t>(groups));
    else if (session.model.readElements(tensor, elements))
      attribute = toAttribute(type, elements);
    if (!attribute) {
      session.diagnostics.push_back({"initializer '" + tensor.name() + "' cannot be read", session.model.path(),
                                     "its elements do not fit its shape and type", "export the model again"});
      return {};
    }
    value = fold(ir::ConstantOp::create(builder, loc, type, attribute).getResult());
  } else if (const Tie *tie = session.states.tie(tensor.name())) {
    value = readInitializer(*session.model.initializer(tie->source));
    if (value && tie->transposed) {
      builder.setInsertionPointAfterValue(value);
      value = ir::TransposeOp::create(builder, loc, value, llvm::ArrayRef<int64_t>{1, 0});
    }
  } else {
    ir::StateOp state = session.states.get(tensor, type);
    value = ir::ReadOp::create(builder, loc, state.getTensorType(), FlatSymbolRefAttr::get(state.getSymNameAttr()));
    if (state.getTensorType() != type)
      value = ir::CastOp::create(builder, loc, value, type.getElementType());
  }
  initializers[tensor.name()] = value;
  return value;
}

Value Program::rng() {
  if (rngValue)
    return rngValue;
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&function.getBody().front());
  ir::StateOp state = session.states.rng();
  rngValue = ir::ReadOp::create(builder, NameLoc::get(builder.getStringAttr(kRngState)), state.getTensorType(),
                                FlatSymbolRefAttr::get(state.getSymNameAttr()));
  return rngValue;
}

//===----------------------------------------------------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------------------------------------------------===//

void Program::reportGap(const Scope &scope, const onnx::NodeProto &node, const std::string &why) {
  // The nodes around one that was too much fail for the same reason.
  if (limitReported)
    return;
  std::string op = node.domain().empty() ? node.op_type() : node.domain() + "." + node.op_type();
  std::string name = scope.path + nodeName(node);
  session.gaps.try_emplace({name, why}, Gap{name, op, node.domain().empty() ? scope.opset : 0, why});
}

void Program::reportLimit(const Scope &scope, const onnx::NodeProto &node) {
  reportGap(scope, node,
            "the program is too large with all of its functions and loops unrolled: moec stops at about " +
                std::to_string(static_cast<int64_t>(Work::kLimit / (Work::kNode + Work::kOperation))) + " nodes");
  limitReported = true;
}

void Program::importNodes(Scope &scope, const google::protobuf::RepeatedPtrField<onnx::NodeProto> &nodes) {
  for (const onnx::NodeProto &node : nodes) {
    const bool standard = node.domain().empty() || node.domain() == "ai.onnx";
    const int64_t opset = standard ? scope.opset : session.model.opset(node.domain());
    const onnx::FunctionProto *callee = session.model.function(node.domain(), node.op_type());
    const OpEntry *entry = findOp(node.domain(), node.op_type(), opset);
    NodeContext context(*this, scope, node, opset);
    if (!context.spend(Work::kNode + Work::kValue * (node.input_size() + node.output_size())))
      return;
    if (entry) {
      entry->handler(context);
      continue;
    }
    if (!callee) {
      int64_t first = firstOpset(node.domain(), node.op_type());
      if (opset == 0)
        context.fail("the model imports no version of the operator set '" + node.domain() + "'");
      else if (first > 0)
        context.fail("moec translates it from opset " + llvm::Twine(first) + " on");
      else
        context.fail("moec has no translation of this operator");
      // Its results exist, though unknown: what reads them is no gap of its own.
      for (int i = 0; i < node.output_size(); ++i)
        if (context.wantsOutput(i))
          context.output(i, {});
      continue;
    }
    importCall(context);
  }
}

void Program::importCall(NodeContext &call) {
  const onnx::NodeProto &node = call.node;
  const onnx::FunctionProto &callee = *session.model.function(node.domain(), node.op_type());
  if (call.scope.depth >= kMaxDepth)
    call.fail("functions are nested too deeply");
  Scope inner;
  inner.path = call.scope.path + nodeName(node) + "/";
  inner.depth = call.scope.depth + 1;
  inner.opset = call.scope.opset;
  for (const onnx::OperatorSetIdProto &set : callee.opset_import())
    if (set.domain().empty() || set.domain() == "ai.onnx")
      inner.opset = set.version();
  for (int i = 0; i < callee.input_size(); ++i)
    if (call.hasInput(i) && (lookupSequence(call.scope, node.input(i)) || isAbsent(call.scope, node.input(i))))
      share(call.scope, node.input(i), inner, callee.input(i));
    else if (call.hasInput(i))
      inner.values[callee.input(i)] = call.input(i);
  call.spend(Work::kRun + Work::kValue * (callee.input_size() + callee.output_size()) +
             Work::kMessageByte * static_cast<double>(callee.ByteSizeLong()));
  if (!call.failed()) {
    google::protobuf::RepeatedPtrField<onnx::NodeProto> body;
    for (const onnx::NodeProto &each : callee.node())
      *body.Add() = withCallAttributes(each, node, callee);
    importNodes(inner, body);
  }
  for (int i = 0; i < callee.output_size(); ++i) {
    if (call.failed())
      call.output(i, {});
    else if (call.wantsOutput(i))
      share(inner, callee.output(i), call.scope, node.output(i));
  }
}

} // namespace moe::frontend
