//===- Control.cpp - Branches and loops whose course is known at compile time -------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Limits.h"
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
  n.spend(Work::kRun + Work::kValue * (body.input_size() + body.output_size()));
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

/// The tensors, which have one shape, along a new dimension `axis`.
Value stacked(NodeContext &n, Sequence elements, int64_t axis) {
  if (!n.failed() && elements.empty())
    n.fail("a result of a loop that does not run has no known shape");
  if (n.failed() || llvm::is_contained(elements, Value()))
    return {};
  axis = n.normalizeAxis(axis, n.rank(elements.front()) + 1);
  for (Value &value : elements) {
    Shape shape = n.shape(value);
    if (static_cast<int64_t>(shape.size()) < axis)
      n.fail("the elements of a result differ in rank");
    if (n.failed())
      return {};
    shape.insert(shape.begin() + axis, 1);
    value = n.reshape(value, shape);
  }
  return elements.size() == 1 ? elements.front() : n.make<ir::ConcatOp>(ValueRange(elements), axis);
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
  const size_t gaps = n.program.session.gaps.size();
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
    // What cannot be imported once cannot be the next time, and one message is enough.
    if (n.program.session.gaps.size() > gaps)
      break;
  }
  for (int i = 0; i < carried; ++i)
    passOutput(n, previous ? *previous : n.scope, names[static_cast<size_t>(i)], i);
  for (int i = 0; i < scanned; ++i)
    n.output(carried + i, n.wantsOutput(carried + i) ? stacked(n, elements[static_cast<size_t>(i)], 0) : Value());
}

/// `num_scan_inputs` operands are read element by element along an axis each, forwards or backwards; the body maps
/// (states, elements) to (states, elements of the remaining outputs).
void scan(NodeContext &n) {
  const onnx::GraphProto *body = graph(n, "body");
  const auto scans = static_cast<int>(std::clamp<int64_t>(n.integer("num_scan_inputs", 0), 0, n.node.input_size()));
  const int states = n.node.input_size() - scans, outputs = body ? body->output_size() - states : 0;
  if (body && (scans < 1 || body->input_size() != n.node.input_size() || outputs < 0 ||
               n.node.output_size() > body->output_size()))
    n.fail("its body does not fit its operands and results");
  auto perScan = [&](const char *name, int count) {
    Shape list = n.integerList(name).value_or(Shape(static_cast<size_t>(std::max(count, 0)), 0));
    if (static_cast<int>(list.size()) != count)
      n.fail("'" + llvm::Twine(name) + "' has another length than there are such values");
    return list;
  };
  Shape axes = perScan("scan_input_axes", scans), backwards = perScan("scan_input_directions", scans);
  Shape outputAxes = perScan("scan_output_axes", outputs), reversed = perScan("scan_output_directions", outputs);
  int64_t length = 0;
  for (int i = 0; i < scans && !n.failed(); ++i) {
    Value x = n.input(states + i);
    int64_t &axis = axes[static_cast<size_t>(i)];
    axis = n.normalizeAxis(axis, n.rank(x));
    const int64_t extent = n.failed() ? 0 : n.shape(x)[axis];
    if (i > 0 && extent != length)
      n.fail("the operands that it scans differ in length");
    length = extent;
  }
  if (length > kMaxIterations)
    n.fail("it runs " + llvm::Twine(length) + " times, too many to unroll");
  std::unique_ptr<Scope> previous;
  const size_t gaps = n.program.session.gaps.size();
  std::vector<Sequence> elements(static_cast<size_t>(std::max(outputs, 0)));
  for (int64_t step = 0; step < length && !n.failed(); ++step) {
    auto inner = std::make_unique<Scope>(scopeOf(n, *body, std::to_string(step)));
    for (int i = 0; i < states; ++i)
      n.program.share(previous ? *previous : n.scope, previous ? body->output(i).name() : n.node.input(i), *inner,
                      body->input(i).name());
    for (int i = 0; i < scans; ++i) {
      const auto at = static_cast<size_t>(i);
      Value x = n.input(states + i);
      const int64_t place = backwards[at] != 0 ? length - 1 - step : step;
      Shape shape = n.shape(x);
      shape.erase(shape.begin() + axes[at]);
      inner->values[body->input(states + i).name()] = n.reshape(slicePart(n, x, axes[at], place, place + 1), shape);
    }
    n.program.importNodes(*inner, body->node());
    for (int i = 0; i < outputs; ++i)
      elements[static_cast<size_t>(i)].push_back(n.program.lookup(*inner, body->output(states + i).name()));
    previous = std::move(inner);
    // What cannot be imported once cannot be the next time, and one message is enough.
    if (n.program.session.gaps.size() > gaps)
      break;
  }
  for (int i = 0; i < states && i < n.node.output_size(); ++i)
    passOutput(n, previous ? *previous : n.scope, previous ? body->output(i).name() : n.node.input(i), i);
  for (int i = 0; i < outputs; ++i) {
    const auto at = static_cast<size_t>(i);
    if (!n.failed() && reversed[at] != 0)
      std::reverse(elements[at].begin(), elements[at].end());
    n.output(states + i,
             n.wantsOutput(states + i) ? stacked(n, elements[at], n.failed() ? 0 : outputAxes[at]) : Value());
  }
}

/// The body maps elements of sequences at the same place, and tensors that are the same for all, to elements.
void sequenceMap(NodeContext &n) {
  const onnx::GraphProto *body = graph(n, "body");
  if (body && (body->input_size() != n.node.input_size() || n.node.output_size() > body->output_size()))
    n.fail("its body does not fit its operands and results");
  const size_t length = n.sequence(0).size(), gaps = n.program.session.gaps.size();
  std::vector<Sequence> results(static_cast<size_t>(n.node.output_size()));
  for (size_t place = 0; place < length && !n.failed(); ++place) {
    Scope inner = scopeOf(n, *body, std::to_string(place));
    for (int i = 0; i < body->input_size(); ++i) {
      Sequence each = n.isSequence(i) ? n.sequence(i) : Sequence(length, n.input(i));
      if (each.size() != length)
        n.fail("its sequences differ in length");
      inner.values[body->input(i).name()] = n.failed() ? Value() : each[place];
    }
    n.program.importNodes(inner, body->node());
    for (size_t i = 0; i < results.size(); ++i)
      results[i].push_back(n.program.lookup(inner, body->output(static_cast<int>(i)).name()));
    if (n.program.session.gaps.size() > gaps)
      break;
  }
  for (size_t i = 0; i < results.size(); ++i)
    n.outputSequence(static_cast<int>(i), std::move(results[i]));
}

constexpr OpEntry kOps[] = {
    {"", "If", 1, branch},
    {"", "Loop", 11, loop},
    {"", "Scan", 9, scan},
    {"", "SequenceMap", 17, sequenceMap},
};

} // namespace

llvm::ArrayRef<OpEntry> controlOps() {
  return kOps;
}

} // namespace moe::frontend
