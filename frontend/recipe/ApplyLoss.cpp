//===- ApplyLoss.cpp - The recipe in the module -------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/recipe/Recipe.h"
#include "ir/Ops.h"
#include "ir/TensorBuilder.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// The results of one program with their names, and how to find a value by name.
struct Interface {
  func::FuncOp function;
  func::ReturnOp terminator;
  llvm::SmallVector<Value> values;
  llvm::SmallVector<std::string> names;

  explicit Interface(func::FuncOp function) : function(function) {
    terminator = cast<func::ReturnOp>(function.getBody().front().getTerminator());
    for (auto [i, value] : llvm::enumerate(terminator.getOperands())) {
      auto name = function.getResultAttrOfType<StringAttr>(static_cast<unsigned>(i), "moe.name");
      values.push_back(value);
      names.push_back(name ? name.str() : "");
    }
  }

  Value find(llvm::StringRef name) {
    for (auto [value, each] : llvm::zip_equal(values, names))
      if (each == name)
        return value;
    for (BlockArgument argument : function.getArguments()) {
      auto each = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(), "moe.name");
      if (each && each.getValue() == name)
        return argument;
    }
    return {};
  }

  void remove(llvm::StringRef name) {
    for (size_t i = names.size(); i-- > 0;)
      if (names[i] == name) {
        names.erase(names.begin() + i);
        values.erase(values.begin() + i);
      }
  }

  void commit(OpBuilder &builder) {
    llvm::SmallVector<Type> types;
    for (Value value : values)
      types.push_back(value.getType());
    terminator.getOperandsMutable().assign(values);
    // Attributes of results that are gone must not outlive them.
    function.removeResAttrsAttr();
    function.setFunctionType(builder.getFunctionType(function.getArgumentTypes(), types));
    for (auto [i, name] : llvm::enumerate(names))
      function.setResultAttr(static_cast<unsigned>(i), "moe.name", builder.getStringAttr(name));
  }
};

/// Adds an input of class numbers for the rows of `logits`.
Value addLabels(func::FuncOp function, llvm::StringRef name, RankedTensorType logits) {
  Builder b(function.getContext());
  const unsigned index = function.getNumArguments();
  DictionaryAttr attributes = b.getDictionaryAttr(b.getNamedAttr("moe.name", b.getStringAttr(name)));
  if (failed(function.insertArgument(index, RankedTensorType::get(logits.getShape().drop_back(), b.getI64Type()),
                                     attributes, NameLoc::get(b.getStringAttr(name)))))
    return {};
  return function.getArgument(index);
}

/// Tells the runtime what it may find in the input `name`. A model that knows its padding keeps it.
void describeLabels(ModuleOp module, llvm::StringRef name, int64_t classes, int64_t ignored) {
  auto data = module->getAttrOfType<DictionaryAttr>("moe.data");
  if (!data)
    return;
  Builder b(module.getContext());
  NamedAttrList entries(data), inputs(data.getAs<DictionaryAttr>("inputs"));
  inputs.set(name, b.getDictionaryAttr({b.getNamedAttr("vocabulary", b.getI64IntegerAttr(classes)),
                                        b.getNamedAttr("labels", b.getBoolAttr(true))}));
  entries.set("inputs", inputs.getDictionary(b.getContext()));
  if (auto pad = data.getAs<IntegerAttr>("pad_id"); !pad || pad.getInt() == -1)
    entries.set("pad_id", b.getI64IntegerAttr(ignored));
  module->setAttr("moe.data", entries.getDictionary(b.getContext()));
}

Status addCrossEntropy(func::FuncOp function, const Loss::CrossEntropy &options) {
  Interface interface(function);
  Value logits = interface.find(options.logits), labels = interface.find(options.labels);
  const std::string where = "key loss.cross_entropy, program '" + function.getName().str() + "'";
  if (!logits)
    return error("the model has no value '" + options.logits + "'", where,
                 "logits must be an output or input of the model", "`moec inspect` lists them");
  RankedTensorType type = ir::typeOf(logits);
  if (!labels && type.getRank() >= 1)
    labels = addLabels(function, options.labels, type);
  if (!labels)
    return error("the model has no value '" + options.labels + "'", where,
                 "labels cannot be added to logits without dimensions", "choose other values");
  RankedTensorType labelType = ir::typeOf(labels);
  if (type.getRank() < 1 || !isa<FloatType>(type.getElementType()) || !isa<IntegerType>(labelType.getElementType()) ||
      type.getShape().drop_back() != labelType.getShape())
    return error("logits and labels do not fit", where,
                 "logits must be floats of one dimension more than the integer labels, which hold class numbers",
                 "choose other values; labels are not shifted");

  if (isa<BlockArgument>(labels))
    describeLabels(function->getParentOfType<ModuleOp>(), options.labels, type.getShape().back(), options.ignoreIndex);

  OpBuilder builder(interface.terminator);
  auto location = [&](const char *name) { return NameLoc::get(builder.getStringAttr(name)); };
  ir::TensorBuilder b(builder, location("loss"));
  // Rows in float32, whatever the logits are.
  Value scores = b.cast(logits, builder.getF32Type());
  Value rows = b.make<ir::SoftmaxCrossEntropyOp>(scores, labels, options.ignoreIndex);
  Value counted =
      b.cast(b.compare(ir::ComparePredicate::NE, labels, b.splatLike(labels, static_cast<double>(options.ignoreIndex))),
             builder.getF32Type());
  if (options.labelSmoothing > 0.0) {
    // (1 - s) (lse - z_label) + s (lse - mean z). Gradients do not pass the lse of softmax_cross_entropy, so it is
    // computed once more.
    const double s = options.labelSmoothing;
    const auto classes = static_cast<double>(type.getShape().back());
    const int64_t last = type.getRank() - 1;
    Value maximum = b.reduce(ir::ReduceKind::Max, scores, {last});
    Value shifted = b.sub(scores, b.broadcastRows(maximum, scores));
    Value logSum = b.log(b.reduceLast(ir::ReduceKind::Sum, b.exp(shifted)));
    Value uniform = b.sub(logSum, b.mul(b.reduceLast(ir::ReduceKind::Sum, shifted), 1.0 / classes));
    rows = b.add(b.mul(rows, 1.0 - s), b.mul(b.mul(uniform, counted), s));
  }
  b.loc = location("loss_weight");
  Value weight = b.sumAll(counted);
  b.loc = location("loss");
  // A batch without counted labels has loss 0, not 0/0.
  Value loss = b.div(b.sumAll(rows), b.max(weight, b.splatLike(weight, 1.0)));

  interface.remove("loss");
  interface.remove("loss_weight");
  interface.values.insert(interface.values.begin(), loss);
  interface.names.insert(interface.names.begin(), "loss");
  interface.values.push_back(weight);
  interface.names.push_back("loss_weight");
  interface.commit(builder);
  return {};
}

} // namespace

Status applyLoss(ModuleOp module, const Recipe &recipe) {
  if (!recipe.loss.crossEntropy)
    return {};
  for (func::FuncOp function : module.getOps<func::FuncOp>())
    if (function->hasAttr("moe.program"))
      if (Status status = addCrossEntropy(function, *recipe.loss.crossEntropy); !status)
        return status;
  return {};
}

void setTraining(ModuleOp module, const Recipe &recipe) {
  Builder b(module.getContext());
  auto number = [&](const char *key, double value) { return b.getNamedAttr(key, b.getF64FloatAttr(value)); };
  auto integer = [&](const char *key, int64_t value) { return b.getNamedAttr(key, b.getI64IntegerAttr(value)); };
  auto word = [&](const char *key, llvm::StringRef value) { return b.getNamedAttr(key, b.getStringAttr(value)); };
  const Optimizer &o = recipe.optimizer;
  const Schedule &s = recipe.schedule;
  DictionaryAttr optimizer = b.getDictionaryAttr(
      {word("name", name(o.name)), number("lr", o.lr), b.getNamedAttr("betas", b.getF64ArrayAttr({o.beta1, o.beta2})),
       number("eps", o.eps), number("weight_decay", o.weightDecay), number("momentum", o.momentum)});
  DictionaryAttr schedule = b.getDictionaryAttr({word("name", name(s.name)), integer("warmup_updates", s.warmupUpdates),
                                                 integer("total_updates", s.totalUpdates), number("power", s.power),
                                                 number("end_lr", s.endLr), integer("decay_updates", s.decayUpdates),
                                                 word("decay", name(s.decay))});
  module->setAttr("moe.training",
                  b.getDictionaryAttr({word("loss", recipe.loss.crossEntropy ? "loss" : recipe.loss.output),
                                       integer("accumulate", recipe.accumulate), number("clip_norm", recipe.clipNorm),
                                       integer("seed", recipe.seed), b.getNamedAttr("optimizer", optimizer),
                                       b.getNamedAttr("schedule", schedule)}));
}

} // namespace moe::frontend
