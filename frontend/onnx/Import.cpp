//===- Import.cpp -------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Import.h"
#include "frontend/onnx/ElementWidths.h"
#include "frontend/onnx/ExportNames.h"
#include "frontend/onnx/IndexBounds.h"
#include "frontend/onnx/Limits.h"
#include "frontend/onnx/Program.h"
#include "frontend/onnx/TieWarnings.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include <set>

using namespace mlir;

namespace moe::frontend {
namespace {

/// What the runtime may check and the report may show: tokens below which bound, and which input holds labels. Sets
/// `ignored` to the label that a loss does not count.
DictionaryAttr describeInput(func::FuncOp function, BlockArgument argument, Builder &builder,
                             std::optional<int64_t> &ignored) {
  int64_t vocabulary = indexBound(function, argument);
  bool labels = false;
  llvm::SmallVector<Value> work = {argument};
  while (!work.empty()) {
    Value value = work.pop_back_val();
    for (Operation *user : value.getUsers()) {
      if (auto loss = dyn_cast<ir::SoftmaxCrossEntropyOp>(user); loss && loss.getLabels() == value) {
        const int64_t classes = ir::typeOf(loss.getLogits()).getShape().back();
        vocabulary = vocabulary == 0 ? classes : std::min(vocabulary, classes);
        labels = true;
        ignored = loss.getIgnoreIndex();
      } else if (isa<ir::ReshapeOp, ir::CastOp, ir::SelectOp>(user)) {
        work.push_back(user->getResult(0));
      }
    }
  }
  return builder.getDictionaryAttr({builder.getNamedAttr("vocabulary", builder.getI64IntegerAttr(vocabulary)),
                                    builder.getNamedAttr("labels", builder.getBoolAttr(labels))});
}

void describeModule(ModuleOp module, const Model &model, int64_t groups) {
  Builder builder(module.getContext());
  auto entry = [&](const char *key, Attribute value) { return builder.getNamedAttr(key, value); };
  module->setAttr("moe.model", builder.getDictionaryAttr(
                                   {entry("path", builder.getStringAttr(model.path())),
                                    entry("bytes", builder.getI64IntegerAttr(static_cast<int64_t>(model.bytes()))),
                                    entry("digest", builder.getI64IntegerAttr(static_cast<int64_t>(model.digest()))),
                                    entry("routing_groups", builder.getI64IntegerAttr(groups)),
                                    entry("preset", builder.getStringAttr(model.metadata("ai.moec.preset")))}));
  std::optional<int64_t> ignored;
  llvm::SmallVector<NamedAttribute> inputs;
  if (auto forward = module.lookupSymbol<func::FuncOp>("forward"))
    for (BlockArgument argument : forward.getArguments())
      inputs.push_back(entry(forward.getArgAttrOfType<StringAttr>(argument.getArgNumber(), "moe.name").data(),
                             describeInput(forward, argument, builder, ignored)));
  int64_t pad = -1;
  if (llvm::StringRef(model.metadata("ai.moec.pad_id", "")).getAsInteger(10, pad))
    pad = ignored.value_or(-1);
  module->setAttr("moe.data", builder.getDictionaryAttr(
                                  {entry("pad_id", builder.getI64IntegerAttr(pad)),
                                   entry("tokenizer", builder.getStringAttr(model.metadata("ai.moec.tokenizer"))),
                                   entry("inputs", builder.getDictionaryAttr(inputs))}));
}

void eraseUnreadStates(ModuleOp module) {
  llvm::StringSet<> read;
  module.walk([&](ir::ReadOp op) { read.insert(op.getState()); });
  for (ir::StateOp state : llvm::make_early_inc_range(module.getOps<ir::StateOp>()))
    if (!read.contains(state.getSymName()))
      state.erase();
}

/// A binding of a dimension that no input has is a typing error that would go unnoticed.
void checkBindings(const Model &model, const ImportOptions &options, std::vector<Diagnostic> &diagnostics) {
  std::set<std::string> dimensions;
  for (const onnx::ValueInfoProto &input : model.graph().input())
    for (const onnx::TensorShapeProto::Dimension &dim : input.type().tensor_type().shape().dim())
      if (!dim.dim_param().empty())
        dimensions.insert(dim.dim_param());
  for (const Bindings *bindings : {&options.bindings, &options.evalBindings})
    for (const auto &binding : *bindings)
      if (!dimensions.contains(binding.first))
        diagnostics.push_back({"no input has a dimension '" + binding.first + "'", "--bind",
                               "the symbolic dimensions of " + model.path() + " are: " + llvm::join(dimensions, ", "),
                               "correct the name or leave the binding out"});
}

void reportGaps(const ImportSession &session) {
  for (const auto &entry : session.gaps) {
    if (session.diagnostics.size() >= kMaxMessages)
      return;
    const Gap &gap = entry.second;
    std::string op = gap.op + (gap.opset > 0 ? " (opset " + std::to_string(gap.opset) + ")" : "");
    session.diagnostics.push_back({"cannot import node '" + gap.node + "': " + op, session.model.path(), gap.why,
                                   "`moec inspect` lists what is supported"});
  }
}

} // namespace

Status addBinding(const std::string &text, ImportOptions &options) {
  auto [name, extent] = llvm::StringRef(text).split('=');
  int64_t value = 0;
  if (name.empty() || extent.getAsInteger(10, value) || value < 1)
    return error("cannot bind a dimension by '" + text + "'", "--bind", "the form is NAME=N with N at least 1",
                 "for example --bind batch=4 or --bind eval.batch=1", ExitCode::Usage);
  if (name.consume_front("eval."))
    options.evalBindings[name.str()] = value;
  else
    options.bindings[name.str()] = value;
  return {};
}

void useExactConstants(ModuleOp module) {
  module.walk([](ir::ConstantOp op) {
    auto exact = op->getAttrOfType<FloatAttr>(kExactAttribute);
    if (!exact)
      return;
    OpBuilder builder(op);
    RankedTensorType type = ir::typeOf(op.getResult());
    auto wide = RankedTensorType::get(type.getShape(), builder.getF64Type());
    Value value = ir::ConstantOp::create(builder, op.getLoc(), wide, DenseElementsAttr::get(wide, exact.getValue()));
    op.getResult().replaceAllUsesWith(ir::CastOp::create(builder, op.getLoc(), value, type.getElementType()));
    op.erase();
  });
}

OwningOpRef<ModuleOp> importOnnx(MLIRContext &context, const std::string &path, const ImportOptions &options,
                                 std::vector<Diagnostic> &diagnostics) {
  context.loadDialect<ir::MoeDialect, func::FuncDialect>();
  std::unique_ptr<Model> model = Model::read(path, diagnostics);
  if (!model)
    return {};
  const size_t before = diagnostics.size();
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  checkBindings(*model, options, diagnostics);
  StateTable states(*model, options, *module);
  ImportSession session{*model, options, *module, states, {}, diagnostics};

  Program forward(session, Mode::Training, options.bindings);
  bool complete = forward.import("forward");
  if (options.evaluation) {
    Bindings bindings = options.evalBindings;
    bindings.insert(options.bindings.begin(), options.bindings.end());
    // The messages of a program that failed would be repeated for the other one.
    if (complete)
      complete = Program(session, Mode::Evaluation, bindings).import("eval");
  }
  reportGaps(session);
  states.report(diagnostics);
  if (!complete || diagnostics.size() > before)
    return {};
  eraseUnreadStates(*module);
  if (useKernelTypes(*module))
    diagnostics.push_back({"this model is float64 and will be computed in float32", model->path(),
                           "there are no kernels of float64; weights are trained and saved in float32",
                           "nothing if that will do; `precision.compute` says what is computed in fewer bits",
                           ExitCode::Success});
  describeModule(*module, *model, forward.routingGroups());
  if (DictionaryAttr names = exportNames(*model, *module, options.ties); !names.empty())
    module.get()->setAttr("moe.exports", names);
  if (failed(verify(*module))) {
    diagnostics.push_back({"the imported module is not valid", path, "this is a defect of moec",
                           "please report it with the model", ExitCode::Internal});
    return {};
  }
  warnAboutTies(*model, *module, diagnostics);
  return module;
}

} // namespace moe::frontend
