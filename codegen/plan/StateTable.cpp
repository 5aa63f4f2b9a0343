//===- StateTable.cpp - States, inputs and metrics of a plan ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/plan/StateTable.h"

#include "codegen/plan/PlanLayout.h"
#include "codegen/plan/StepEmitter.h"
#include "codegen/plan/Work.h"
#include "ir/RetypeTensors.h"
#include "passes/StateAliases.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

/// Names of the entries of `moe_metrics`, as fairseq logs them (the order of `moe.route`).
constexpr StringLiteral kMoeMetrics[] = {"entropy_gating",      "overflow_expert1",       "overflow_expert2",
                                         "expert1_balance_top", "expert1_balance_bottom", "unused_expert1_count",
                                         "expert2_balance_top", "expert2_balance_bottom", "unused_expert2_count"};
constexpr StringLiteral kMetricPrefix = "metric.";

double numberAt(ArrayAttr array, unsigned index) {
  if (auto value = dyn_cast<FloatAttr>(array[index]))
    return value.getValueAsDouble();
  return 0;
}

LogicalResult fillInitial(StateOp state, Attribute attr, plan::Initial &initial) {
  if (!attr) {
    initial.mutable_constant()->set_value(0);
    return success();
  }
  if (auto number = dyn_cast<FloatAttr>(attr)) {
    initial.mutable_constant()->set_value(number.getValueAsDouble());
    return success();
  }
  if (auto number = dyn_cast<IntegerAttr>(attr)) {
    initial.mutable_constant()->set_value(static_cast<double>(number.getInt()));
    return success();
  }
  auto dict = dyn_cast<DictionaryAttr>(attr);
  if (!dict)
    return state.emitOpError() << "has an initial value that plans cannot hold: " << attr;
  if (auto rows = dict.getAs<ArrayAttr>("zero_rows"))
    for (Attribute row : rows)
      initial.add_zero_rows(cast<IntegerAttr>(row).getInt());
  if (auto normal = dict.getAs<ArrayAttr>("normal")) {
    initial.mutable_normal()->set_mean(numberAt(normal, 0));
    initial.mutable_normal()->set_stddev(numberAt(normal, 1));
  } else if (auto uniform = dict.getAs<ArrayAttr>("uniform")) {
    initial.mutable_uniform()->set_low(numberAt(uniform, 0));
    initial.mutable_uniform()->set_high(numberAt(uniform, 1));
  } else if (auto location = dict.getAs<StringAttr>("file")) {
    plan::Initial::File *file = initial.mutable_file();
    file->set_location(location.str());
    file->set_offset(static_cast<uint64_t>(dict.getAs<IntegerAttr>("offset").getInt()));
    file->set_bytes(static_cast<uint64_t>(dict.getAs<IntegerAttr>("bytes").getInt()));
    file->set_stored(toPlanType(dict.getAs<TypeAttr>("stored").getValue()));
  } else if (auto data = dict.getAs<DenseElementsAttr>("data")) {
    std::string bytes;
    if (data.isSplat())
      for (int64_t i = 0; i < data.getNumElements(); ++i)
        bytes.append(data.getRawData().data(), data.getRawData().size());
    else
      bytes.assign(data.getRawData().data(), data.getRawData().size());
    initial.mutable_data()->set_data(std::move(bytes));
  } else if (auto constant = dict.getAs<FloatAttr>("constant")) {
    initial.mutable_constant()->set_value(constant.getValueAsDouble());
  } else {
    return state.emitOpError() << "has an initial value that plans cannot hold: " << attr;
  }
  return success();
}

class TableFiller {
public:
  TableFiller(ModuleOp module, const BufferTable &table, plan::Plan &plan)
      : module(module), plan(plan), aliases(module) {
    for (auto [i, buffer] : llvm::enumerate(table.buffers))
      if (buffer.arena != ArenaClass::Step)
        buffers[buffer.name] = static_cast<int64_t>(i);
    for (StateOp state : module.getOps<StateOp>())
      if (state.getBucket())
        storages.insert(state.getBucketAttr().getValue());
  }

  LogicalResult fill(const TrainingAttributes &training) {
    for (StateOp state : module.getOps<StateOp>()) {
      if (storages.contains(state.getSymName()))
        continue;
      if (state.getKind() == StateKind::Metric)
        addMetric(state);
      else if (failed(addState(state)))
        return failure();
    }
    fillInputs();
    fillTraining(training);
    return success();
  }

private:
  Slot slotOf(StateOp state) {
    StateAliases::Place place = aliases.place(FlatSymbolRefAttr::get(state.getSymNameAttr()));
    return {buffers.lookup(place.storage.getValue()),
            place.offset * elementBytes(state.getTensorType().getElementType())};
  }

  LogicalResult addState(StateOp state) {
    StateOp parameter = state.getOf() ? module.lookupSymbol<StateOp>(*state.getOf()) : state;
    if (parameter.getMembers())
      return addStack(state, parameter);
    plan::StateTensor *out = plan.add_state();
    RankedTensorType type = state.getTensorType();
    describe(state, type.getElementType(), *out);
    setLayout(module, type, dyn_cast_if_present<LayoutAttr>(type.getEncoding()), *out);
    setPlace(state, *out);
    setNames(state.getSymName(), state.getOf().value_or(""), *out);
    return fillInitial(state, state.getInitialAttr(), *out->mutable_initial());
  }

  /// What the members of a stack have in common with it.
  static void describe(StateOp state, Type element, plan::StateTensor &out) {
    constexpr plan::StateTensor::Kind kinds[] = {plan::StateTensor::PARAMETER, plan::StateTensor::FROZEN,
                                                 plan::StateTensor::GRADIENT, plan::StateTensor::MOMENT,
                                                 plan::StateTensor::CONTROL};
    out.set_kind(kinds[static_cast<int>(state.getKind())]);
    out.set_dtype(toPlanType(element));
    out.set_checkpointed(state.getCheckpointed());
  }

  /// `name` and, of gradients and moments, the parameter that it is `of` and the slot: what the name says beyond that.
  void setNames(StringRef name, StringRef of, plan::StateTensor &out) {
    out.set_name(name.str());
    if (!of.empty()) {
      out.set_of(of.str());
      if (out.kind() == plan::StateTensor::MOMENT)
        out.set_slot(name.drop_front(of.size() + 1).str());
    }
    addExports(name, out);
  }

  /// The tensors of a stack, each of which lies on the ranks that have its part: in the flat tensor of the memory that
  /// holds the stack on all ranks, one behind the other.
  LogicalResult addStack(StateOp state, StateOp parameter) {
    MeshAttr mesh = MeshAttr::of(module);
    RankedTensorType type = state.getTensorType();
    auto bucket = state.getBucket() ? module.lookupSymbol<StateOp>(*state.getBucket()) : state;
    RankedTensorType memory = bucket.getTensorType();
    auto layout = cast<LayoutAttr>(type.getEncoding()), memoryLayout = cast<LayoutAttr>(memory.getEncoding());
    SmallVector<unsigned> axes;
    int64_t parts = 1;
    for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
      if (layout.kind(axis) == AxisKind::Shard && mesh.getSizes()[axis] > 1) {
        axes.push_back(axis);
        parts *= mesh.getSizes()[axis];
        layout = layout.with(axis, AxisKind::Replicate);
      }
    // Of a bucket [1,n] ranks with the same part of the stack may have parts in turn.
    int64_t stretch = memory.getNumElements();
    for (unsigned axis = 0; state.getBucket() && axis < memoryLayout.getAxes().size(); ++axis)
      if (memoryLayout.kind(axis) == AxisKind::Shard && mesh.getSizes()[axis] > 1 && !llvm::is_contained(axes, axis)) {
        axes.push_back(axis);
        stretch *= mesh.getSizes()[axis];
      }
    const auto first = static_cast<int64_t>(state.getOffset().value_or(0));
    auto member = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
    for (auto [i, attr] : llvm::enumerate(*parameter.getMembers())) {
      auto described = cast<DictionaryAttr>(attr);
      StringRef name = described.getAs<StringAttr>("name").getValue();
      const int64_t part = static_cast<int64_t>(i) / type.getDimSize(0),
                    at = static_cast<int64_t>(i) % type.getDimSize(0);
      plan::StateTensor *out = plan.add_state();
      describe(state, type.getElementType(), *out);
      setLayout(module, member, layout, *out);
      setSlice(out->mutable_slice(), slotOf(bucket), tensorBytes(memory));
      out->mutable_flat()->set_position(part * stretch + first + at * member.getNumElements());
      out->mutable_flat()->set_bucket(parts * stretch);
      for (unsigned axis : axes)
        out->mutable_flat()->add_axes(axis);
      const StringRef suffix =
          state.getSymName().drop_front(state == parameter ? state.getSymName().size() : parameter.getSymName().size());
      setNames((name + suffix).str(), state == parameter ? "" : name, *out);
      if (failed(fillInitial(state, state == parameter ? described.get("initial") : state.getInitialAttr(),
                             *out->mutable_initial())))
        return failure();
    }
    return success();
  }

  /// The memory of a state: its own, or the part of the bucket that a rank has.
  void setPlace(StateOp state, plan::StateTensor &out) {
    auto bucket = state.getBucket() ? module.lookupSymbol<StateOp>(*state.getBucket()) : StateOp();
    if (!bucket || !isSplitBucket(bucket.getTensorType()))
      return setSlice(out.mutable_slice(), slotOf(state), tensorBytes(state.getTensorType()));
    RankedTensorType type = bucket.getTensorType();
    setSlice(out.mutable_slice(), slotOf(bucket), tensorBytes(type));
    MeshAttr mesh = MeshAttr::of(module);
    auto layout = cast<LayoutAttr>(type.getEncoding());
    out.mutable_flat()->set_position(static_cast<int64_t>(*state.getOffset()));
    out.mutable_flat()->set_bucket(wholeType(type, mesh).getShape().back());
    for (unsigned axis = 0; axis < layout.getAxes().size(); ++axis)
      if (mesh.getSizes()[axis] > 1 && layout.kind(axis) == AxisKind::Shard &&
          layout.getDims()[axis] + 1 == type.getRank())
        out.mutable_flat()->add_axes(axis);
  }

  /// From the module attribute `moe.exports` (frontend/onnx/README.md).
  void addExports(StringRef state, plan::StateTensor &out) {
    auto exports = module->getAttrOfType<DictionaryAttr>("moe.exports");
    auto names = exports ? exports.getAs<ArrayAttr>(state) : ArrayAttr();
    if (!names)
      return;
    for (auto entry : names.getAsRange<ArrayAttr>()) {
      plan::ExportName *name = out.add_exports();
      name->set_name(cast<StringAttr>(entry[0]).str());
      for (int64_t dimension : cast<DenseI64ArrayAttr>(entry[1]).asArrayRef())
        name->add_permutation(static_cast<uint32_t>(dimension));
    }
  }

  void addMetric(StateOp state) {
    StringRef name = state.getSymName();
    name.consume_front(kMetricPrefix);
    bool isEval = name.starts_with("eval_");
    RankedTensorType type = state.getTensorType();
    Slot slot = slotOf(state);
    for (int64_t i = 0; i < type.getNumElements(); ++i) {
      plan::Metric *out = plan.add_metrics();
      std::string full = name.str();
      if (type.getRank() != 0)
        full = (isEval ? "eval_" : "") + kMoeMetrics[i].str();
      out->set_name(full);
      out->set_program(isEval ? "eval" : "update");
      out->set_dtype(toPlanType(type.getElementType()));
      unsigned width = elementBytes(type.getElementType());
      setSlice(out->mutable_slice(), {slot.buffer, slot.offset + i * width}, width);
    }
  }

  void fillInputs() {
    auto data = module->getAttrOfType<DictionaryAttr>("moe.data");
    auto info = data ? data.getAs<DictionaryAttr>("inputs") : DictionaryAttr();
    llvm::StringSet<> seen;
    for (auto function : module.getOps<func::FuncOp>())
      for (BlockArgument argument : function.getArguments()) {
        auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(), kNameAttr);
        if (!seen.insert(name.getValue()).second)
          continue;
        plan::Input *out = plan.add_inputs();
        RankedTensorType type = typeOf(argument);
        out->set_name(name.str());
        out->set_dtype(toPlanType(type.getElementType()));
        auto layout = function.getArgAttrOfType<LayoutAttr>(argument.getArgNumber(), kLayoutAttr);
        SmallVector<int64_t> shape(type.getShape());
        MeshAttr mesh = MeshAttr::of(module);
        for (unsigned axis = 0; layout && axis < layout.getAxes().size(); ++axis)
          if (mesh.getSizes()[axis] > 1 && layout.kind(axis) == AxisKind::Shard) {
            out->add_axes(axis);
            shape[0] *= mesh.getSizes()[axis];
          }
        for (int64_t extent : shape)
          out->add_shape(extent);
        int64_t buffer = buffers.lookup(name.getValue());
        setSlice(out->mutable_staging(), {buffer, 0}, plan.buffers(static_cast<int>(buffer)).bytes());
        auto entry = info ? info.getAs<DictionaryAttr>(name.getValue()) : DictionaryAttr();
        if (auto vocabulary = entry ? entry.getAs<IntegerAttr>("vocabulary") : IntegerAttr())
          out->set_vocabulary(vocabulary.getInt());
        if (auto labels = entry ? entry.getAs<BoolAttr>("labels") : BoolAttr())
          out->set_is_labels(labels.getValue());
      }
  }

  void fillTraining(const TrainingAttributes &training) {
    plan::Training *out = plan.mutable_training();
    out->set_accumulate(training.accumulate);
    out->set_seed(static_cast<uint64_t>(training.seed));
    out->set_optimizer(training.optimizer.name);
    for (const plan::Input &input : plan.inputs())
      if (input.vocabulary() > 0 && input.shape_size() == 2 && !input.is_labels()) {
        out->set_micro_batch(input.shape(0));
        out->set_sequence_length(input.shape(1));
        out->set_vocabulary(input.vocabulary());
      }
    auto data = module->getAttrOfType<DictionaryAttr>("moe.data");
    out->set_pad_id(-1);
    if (auto pad = data ? data.getAs<IntegerAttr>("pad_id") : IntegerAttr())
      out->set_pad_id(pad.getInt());
    if (auto tokenizer = data ? data.getAs<StringAttr>("tokenizer") : StringAttr())
      out->set_tokenizer(tokenizer.str());
  }

  ModuleOp module;
  plan::Plan &plan;
  StateAliases aliases;
  llvm::StringMap<int64_t> buffers;
  llvm::StringSet<> storages;
};

} // namespace

LogicalResult fillStateTables(ModuleOp module, const BufferTable &table, const TrainingAttributes &training,
                              plan::Plan &plan) {
  return TableFiller(module, table, plan).fill(training);
}

} // namespace moe::codegen
