//===- Control.cpp - Branches and loops whose course is known at compile time -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// A loop that runs longer is refused rather than unrolled.
constexpr int64_t kMaxIterations = 1024;

const onnx::GraphProto *graph(NodeContext &n, llvm::StringRef name) {
  const onnx::AttributeProto *attribute = n.attribute(name);
  if (attribute && attribute->has_g())
    return &attribute->g();
  n.fail("its graph '" + name + "' is missing");
  return nullptr;
}

/// The scope of one run of `body`: it sees what surrounds the node.
Scope scopeOf(NodeContext &n, const onnx::GraphProto &body, llvm::StringRef name) {
  Scope inner;
  inner.outer = &n.scope;
  inner.path = n.scope.path + nodeName(n.node) + "/" + name.str() + "/";
  inner.opset = n.scope.opset;
  inner.depth = n.scope.depth + 1;
  for (const onnx::TensorProto &tensor : body.initializer())
    inner.values[tensor.name()] = n.constantOf(tensor);
  return inner;
}

/// Makes output `index` of the node mean what `name` means in `inner`.
void passOutput(NodeContext &n, Scope &inner, llvm::StringRef name, int index) {
  if (n.wantsOutput(index) && n.failed())
    n.output(index, {});
  else if (n.wantsOutput(index))
    n.program.share(inner, name, n.scope, n.node.output(index));
}

void branch(NodeContext &n) {
  std::optional<double> condition = n.scalar(0);
  const onnx::GraphProto *body = condition ? graph(n, *condition != 0.0 ? "then_branch" : "else_branch") : nullptr;
  if (body && body->output_size() != n.node.output_size())
    n.fail("its branch has another number of outputs");
  if (n.failed() || !body) {
    for (int i = 0; i < n.node.output_size(); ++i)
      n.output(i, {});
    return;
  }
  Scope inner = scopeOf(n, *body, *condition != 0.0 ? "then" : "else");
  n.program.importNodes(inner, body->node());
  for (int i = 0; i < body->output_size(); ++i)
    passOutput(n, inner, body->output(i).name(), i);
}

/// Operands: number of iterations, condition, carried values. The body maps (iteration, condition, carried values) to
/// (condition, carried values, elements of the remaining outputs).
void loop(NodeContext &n) {
  const onnx::GraphProto *body = graph(n, "body");
  double limit = n.hasInput(0) ? n.scalar(0).value_or(0.0) : INFINITY;
  bool goesOn = !n.hasInput(1) || n.scalar(1).value_or(0.0) != 0.0;
  const int carried = std::max(n.node.input_size() - 2, 0);
  const int scanned = body ? body->output_size() - 1 - carried : 0;
  if (body && (body->input_size() != carried + 2 || scanned < 0 || n.node.output_size() > carried + scanned))
    n.fail("its body does not fit its operands and results");
  std::vector<Sequence> elements(static_cast<size_t>(std::max(scanned, 0)));
  // Names of the carried values, and the scope in which they mean them.
  std::vector<std::string> names;
  names.reserve(static_cast<size_t>(carried));
  for (int i = 0; i < carried; ++i)
    names.push_back(n.node.input(i + 2));
  std::unique_ptr<Scope> previous;
  for (int64_t iteration = 0; !n.failed() && goesOn && static_cast<double>(iteration) < limit; ++iteration) {
    if (iteration == kMaxIterations) {
      n.fail("it runs more than " + llvm::Twine(kMaxIterations) + " times, too many to unroll");
      break;
    }
    auto inner = std::make_unique<Scope>(scopeOf(n, *body, std::to_string(iteration)));
    Scope &from = previous ? *previous : n.scope;
    for (int i = 0; i < carried; ++i)
      n.program.share(from, names[static_cast<size_t>(i)], *inner, body->input(i + 2).name());
    inner->values[body->input(0).name()] = n.reshape(n.constant({iteration}), {});
    inner->values[body->input(1).name()] = n.splat(RankedTensorType::get({}, n.builder.getI1Type()), 1.0);
    n.program.importNodes(*inner, body->node());
    Value condition = n.program.lookup(*inner, body->output(0).name());
    std::optional<ir::HostTensor> known = condition ? n.program.evaluate(condition) : std::nullopt;
    if (condition && (!known || known->size() != 1)) {
      n.fail("whether it goes on depends on inputs of the model");
      break;
    }
    goesOn = known && known->at(0) != 0.0;
    names.clear();
    for (int i = 0; i < carried; ++i)
      names.push_back(body->output(i + 1).name());
    for (int i = 0; i < scanned; ++i)
      elements[static_cast<size_t>(i)].push_back(n.program.lookup(*inner, body->output(1 + carried + i).name()));
    previous = std::move(inner);
  }
  for (int i = 0; i < carried; ++i)
    passOutput(n, previous ? *previous : n.scope, names[static_cast<size_t>(i)], i);
  for (int i = 0; i < scanned; ++i) {
    Sequence &each = elements[static_cast<size_t>(i)];
    if (!n.failed() && each.empty() && n.wantsOutput(carried + i))
      n.fail("a result of a loop that does not run has no known shape");
    for (Value &value : each) {
      Shape stacked = n.shape(value);
      stacked.insert(stacked.begin(), 1);
      value = n.reshape(value, stacked);
    }
    const bool complete = !n.failed() && !each.empty() && llvm::all_of(each, [](Value value) { return bool(value); });
    n.output(carried + i, !complete ? Value() : each.size() == 1 ? each[0] : n.make<ir::ConcatOp>(ValueRange(each), 0));
  }
}

constexpr OpEntry kOps[] = {
    {"", "If", 1, branch},
    {"", "Loop", 11, loop},
};

} // namespace

llvm::ArrayRef<OpEntry> controlOps() {
  return kOps;
}

} // namespace moe::frontend
