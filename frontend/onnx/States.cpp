//===- States.cpp -------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/States.h"
#include "frontend/onnx/ElementWidths.h"
#include "frontend/onnx/Program.h"
#include "frontend/recipe/RecipeNames.h"
#include "ir/StateElements.h"
#include "ir/StateFacts.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace moe::frontend {
namespace {

/// Integers above this are tables, not shapes.
constexpr int64_t kConstantLimit = 4096;
/// Larger tensors that no plan can read from the file stay out of the module: those stored as lists of numbers, which
/// exporters write as raw data, and those of float64.
constexpr int64_t kInlineLimit = int64_t(1) << 22;
/// Masks of more elements (2048 x 2048) are not looked at.
constexpr int64_t kMaskLimit = int64_t(1) << 22;

bool isFloat(const onnx::TensorProto &tensor) {
  switch (tensor.data_type()) {
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::DOUBLE:
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
    return true;
  default:
    return false;
  }
}

/// "[2, 3]"
std::string shapeText(const onnx::TensorProto &tensor) {
  std::string shape;
  for (int64_t extent : tensor.dims())
    shape += (shape.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + shape + "]";
}

template <typename Entries> std::string find(const Entries &entries, llvm::StringRef key) {
  for (const onnx::StringStringEntryProto &entry : entries)
    if (entry.key() == key)
      return entry.value();
  return {};
}

const onnx::AttributeProto *attribute(const onnx::NodeProto &node, llvm::StringRef name) {
  for (const onnx::AttributeProto &attribute : node.attribute())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

double real(const onnx::NodeProto &node, llvm::StringRef name, double otherwise) {
  const onnx::AttributeProto *found = attribute(node, name);
  return found ? static_cast<double>(found->f()) : otherwise;
}

/// The element of a one-element float tensor.
std::optional<double> element(const onnx::TensorProto &tensor) {
  if (tensor.data_type() != onnx::TensorProto::FLOAT)
    return std::nullopt;
  if (tensor.float_data_size() == 1)
    return tensor.float_data(0);
  float value;
  if (tensor.raw_data().size() != sizeof(value))
    return std::nullopt;
  std::memcpy(&value, tensor.raw_data().data(), sizeof(value));
  return value;
}

} // namespace

bool matchesGlob(llvm::StringRef pattern, llvm::StringRef name) {
  // Greedy matching with one point of return: linear in practice, never exponential.
  size_t p = 0, n = 0, star = llvm::StringRef::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] == name[n] && pattern[p] != '*'))) {
      ++p;
      ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
    } else if (star != llvm::StringRef::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

//===----------------------------------------------------------------------------------------------------------------===//
// Initialization
//===----------------------------------------------------------------------------------------------------------------===//

Initialization::Initialization(const Model &model) {
  allZero = true;
  for (const onnx::TrainingInfoProto &info : model.proto().training_info()) {
    for (const onnx::NodeProto &node : info.initialization().node())
      for (const std::string &output : node.output())
        producers[output] = &node;
    for (const onnx::StringStringEntryProto &binding : info.initialization_binding()) {
      bindings[binding.key()] = binding.value();
      const onnx::TensorProto *tensor = model.initializer(binding.key());
      allZero = allZero && tensor && model.isZero(*tensor);
    }
  }
}

std::optional<std::vector<int64_t>> Initialization::integers(llvm::StringRef value) const {
  const onnx::NodeProto *node = producer(value);
  if (node && node->op_type() == "Reshape" && node->input_size() > 0)
    node = producer(node->input(0));
  const onnx::AttributeProto *list = node && node->op_type() == "Constant" ? attribute(*node, "value_ints") : nullptr;
  if (!list)
    return std::nullopt;
  return std::vector<int64_t>(list->ints().begin(), list->ints().end());
}

Attribute Initialization::initial(llvm::StringRef name, Builder &builder) const {
  const onnx::NodeProto *node = producer(bindings.lookup(name));
  std::vector<int64_t> zeroRows;
  // ScatterND(drawn, rows, zeros) clears rows of a table.
  if (node && node->op_type() == "ScatterND" && node->input_size() == 3) {
    std::optional<std::vector<int64_t>> rows = integers(node->input(1));
    const onnx::NodeProto *zeros = producer(node->input(2));
    if (!rows || !zeros || zeros->op_type() != "ConstantOfShape")
      return {};
    const onnx::AttributeProto *value = attribute(*zeros, "value");
    if (value && element(value->t()) != 0.0)
      return {};
    zeroRows = *rows;
    node = producer(node->input(0));
  }
  if (!node)
    return {};
  auto pair = [&](const char *key, double first, double second) {
    return builder.getNamedAttr(key, builder.getF64ArrayAttr({first, second}));
  };
  llvm::SmallVector<NamedAttribute> entries;
  if (node->op_type() == "RandomNormal") {
    entries.push_back(pair("normal", real(*node, "mean", 0.0), real(*node, "scale", 1.0)));
  } else if (node->op_type() == "RandomUniform") {
    entries.push_back(pair("uniform", real(*node, "low", 0.0), real(*node, "high", 1.0)));
  } else if (node->op_type() == "ConstantOfShape") {
    const onnx::AttributeProto *value = attribute(*node, "value");
    std::optional<double> number = value ? element(value->t()) : 0.0;
    if (!number || !zeroRows.empty())
      return {};
    return builder.getF64FloatAttr(*number);
  } else {
    return {};
  }
  if (!zeroRows.empty())
    entries.push_back(builder.getNamedAttr("zero_rows", builder.getI64ArrayAttr(zeroRows)));
  return builder.getDictionaryAttr(entries);
}

//===----------------------------------------------------------------------------------------------------------------===//
// StateTable
//===----------------------------------------------------------------------------------------------------------------===//

StateTable::StateTable(const Model &model, const ImportOptions &options, ModuleOp module)
    : model(model), options(options), builder(module.getBodyRegion()), initialization(model) {}

static bool matchesAny(const std::vector<std::string> &patterns, llvm::StringRef name) {
  return llvm::any_of(patterns, [&](const std::string &pattern) { return matchesGlob(pattern, name); });
}

bool StateTable::isConstant(const onnx::TensorProto &tensor) const {
  if (initialization.isBound(tensor.name()) || llvm::is_contained(options.parameters.train, tensor.name()) ||
      llvm::is_contained(options.parameters.freeze, tensor.name()))
    return false;
  int64_t count = elementCount(tensor).value_or(0);
  return isFloat(tensor) ? count <= 1 : count <= kConstantLimit;
}

std::optional<ir::StateKind> StateTable::kind(const onnx::TensorProto &tensor) {
  using ir::StateKind;
  if (!isFloat(tensor))
    return StateKind::Frozen;
  const std::string &name = tensor.name();
  if (matchesAny(options.parameters.train, name))
    return StateKind::Parameter;
  if (matchesAny(options.parameters.freeze, name))
    return StateKind::Frozen;
  if (options.parameters.standard != ParameterPolicy::Standard::File)
    return options.parameters.standard == ParameterPolicy::Standard::Train ? StateKind::Parameter : StateKind::Frozen;
  if (initialization.isBound(name))
    return StateKind::Parameter;
  // The exporter of PyTorch says what a tensor was in the signature of the exported program.
  constexpr const char *kKind = "pkg.torch.export.graph_signature.InputSpec.kind";
  std::string torchKind = find(tensor.metadata_props(), kKind);
  for (const onnx::ValueInfoProto &info : model.graph().value_info())
    if (torchKind.empty() && info.name() == name)
      torchKind = find(info.metadata_props(), kKind);
  if (!torchKind.empty())
    return llvm::StringRef(torchKind).contains("PARAMETER") ? StateKind::Parameter : StateKind::Frozen;
  if (!initialization.empty())
    return StateKind::Frozen;
  return std::nullopt;
}

Attribute StateTable::initial(const onnx::TensorProto &tensor, RankedTensorType type) {
  if (initialization.isBound(tensor.name()) && initialization.draws()) {
    Attribute drawn = initialization.initial(tensor.name(), builder);
    // Its zeros in the file are a placeholder, never a value to train from.
    if (!drawn)
      undrawable.push_back(&tensor);
    return drawn;
  }
  std::optional<Storage> place = model.storage(tensor);
  // Plans read floats of up to 32 bits, and integers as they hold them.
  const Type stored = type.getElementType();
  if (place && (isa<FloatType>(stored) ? !stored.isF64() : stored == heldElement(stored)))
    return builder.getDictionaryAttr(
        {builder.getNamedAttr("file", builder.getStringAttr(place->location)),
         builder.getNamedAttr("offset", builder.getI64IntegerAttr(static_cast<int64_t>(place->offset))),
         builder.getNamedAttr("bytes", builder.getI64IntegerAttr(static_cast<int64_t>(place->bytes))),
         builder.getNamedAttr("stored", TypeAttr::get(stored))});
  std::string elements;
  if (type.getNumElements() > kInlineLimit || !model.readElements(tensor, elements)) {
    unreadable.push_back(&tensor);
    return {};
  }
  return builder.getDictionaryAttr({builder.getNamedAttr("data", toAttribute(type, elements))});
}

/// The elements of a frozen matrix that could be a mask: booleans, zeros and ones, or numbers of which some are far
/// below zero, as the state holds them. Null for all else.
ElementsAttr StateTable::maskElements(const onnx::TensorProto &tensor, RankedTensorType type) {
  bool isDrawn = initialization.isBound(tensor.name()) && initialization.draws();
  if (isDrawn || type.getRank() < 2 || type.getNumElements() > kMaskLimit)
    return {};
  std::string elements;
  const Type element = type.getElementType();
  const bool isFloat = isa<FloatType>(element);
  if ((!isFloat && element.getIntOrFloatBitWidth() > 8) || !model.readElements(tensor, elements))
    return {};
  DenseElementsAttr attribute = toAttribute(type, elements);
  if (!isFloat)
    return llvm::all_of(attribute.getValues<APInt>(), [](const APInt &value) { return value.ule(1); })
               ? heldElements(attribute)
               : ElementsAttr();
  bool isFlags = true, hides = false;
  for (const APFloat &element : attribute.getValues<APFloat>()) {
    double value = element.convertToDouble();
    isFlags = isFlags && (value == 0 || value == 1);
    hides = hides || value <= -1e4;
  }
  return isFlags || hides ? heldElements(attribute) : ElementsAttr();
}

/// Elements of a list in the file as the state holds them.
static Attribute asHeld(Attribute initial, Builder &builder) {
  auto entries = dyn_cast_if_present<DictionaryAttr>(initial);
  auto data = entries ? entries.getAs<DenseElementsAttr>("data") : DenseElementsAttr();
  return data ? builder.getDictionaryAttr({builder.getNamedAttr("data", heldElements(data))}) : initial;
}

/// Whether a vector of numbers is 0, 1, 2, …: exporters fold ranges into initializers.
bool StateTable::counts(const onnx::TensorProto &tensor, RankedTensorType type) const {
  std::string elements;
  if (type.getRank() != 1 || !type.getElementType().isF32() || type.getNumElements() > kConstantLimit ||
      !model.readElements(tensor, elements))
    return false;
  auto values = dyn_cast_if_present<DenseElementsAttr>(toAttribute(type, elements));
  float next = 0;
  return values && llvm::all_of(values.getValues<float>(), [&](float value) { return value == next++; });
}

ir::StateOp StateTable::get(const onnx::TensorProto &tensor, RankedTensorType type) {
  ir::StateOp &state = states[tensor.name()];
  if (state)
    return state;
  std::optional<ir::StateKind> stateKind = kind(tensor);
  if (!stateKind)
    ambiguous.push_back(&tensor);
  Location loc = NameLoc::get(builder.getStringAttr(tensor.name()));
  // What the file keeps in 16 or 64 bits is trained, and saved, in float32.
  auto held = RankedTensorType::get(type.getShape(), heldElement(type.getElementType()));
  state = ir::StateOp::create(builder, loc, builder.getStringAttr(tensor.name()), TypeAttr::get(held),
                              ir::StateKindAttr::get(builder.getContext(), stateKind.value_or(ir::StateKind::Frozen)),
                              asHeld(initial(tensor, type), builder), /*of=*/nullptr,
                              /*bucket=*/nullptr, /*offset=*/nullptr,
                              /*checkpointed=*/stateKind == ir::StateKind::Parameter ? builder.getUnitAttr() : nullptr,
                              /*members=*/nullptr);
  if (stateKind == ir::StateKind::Frozen)
    if (ElementsAttr elements = maskElements(tensor, type))
      state->setAttr(ir::kElementsAttr, elements);
  if (stateKind == ir::StateKind::Frozen && counts(tensor, type))
    state->setAttr(ir::kCountsAttr, builder.getUnitAttr());
  return state;
}

ir::StateOp StateTable::rng() {
  ir::StateOp &state = states[kRngState];
  if (!state)
    state =
        ir::StateOp::create(builder, NameLoc::get(builder.getStringAttr(kRngState)), builder.getStringAttr(kRngState),
                            TypeAttr::get(RankedTensorType::get({2}, builder.getI64Type())),
                            ir::StateKindAttr::get(builder.getContext(), ir::StateKind::Control),
                            builder.getI64IntegerAttr(0), nullptr, nullptr, nullptr, nullptr, nullptr);
  return state;
}

/// Whether both tensors exist and have, one possibly transposed, the same type and shape.
bool StateTable::fits(const Tie &tie) const {
  const onnx::TensorProto *source = model.initializer(tie.source), *target = model.initializer(tie.target);
  if (!source || !target || source->data_type() != target->data_type())
    return false;
  llvm::SmallVector<int64_t> shape(source->dims().begin(), source->dims().end());
  if (tie.transposed && shape.size() != 2)
    return false;
  if (tie.transposed)
    std::swap(shape[0], shape[1]);
  return llvm::equal(shape, target->dims());
}

const Tie *StateTable::tie(llvm::StringRef name) const {
  for (const Tie &tie : options.ties)
    if (tie.target == name)
      return fits(tie) ? &tie : nullptr;
  return nullptr;
}

void StateTable::reportTies(std::vector<Diagnostic> &diagnostics) const {
  std::vector<std::string> names;
  for (const onnx::TensorProto &tensor : model.graph().initializer())
    names.push_back(tensor.name());
  auto describe = [&](const std::string &name) {
    const onnx::TensorProto &tensor = *model.initializer(name);
    return "'" + name + "' has type " + onnx::TensorProto::DataType_Name(tensor.data_type()) + " and shape " +
           shapeText(tensor);
  };
  for (const Tie &tie : options.ties) {
    bool known = true;
    for (const std::string &name : {tie.source, tie.target})
      if (!model.initializer(name)) {
        known = false;
        diagnostics.push_back({"the model has no initializer '" + name + "'", "key tie",
                               "`moec inspect` lists the names", suggestion(name, names)});
      }
    if (known && !fits(tie))
      diagnostics.push_back(
          {"cannot tie '" + tie.target + "' to '" + tie.source + "'" + (tie.transposed ? " transposed" : ""), "key tie",
           describe(tie.source) + ", " + describe(tie.target),
           "tie tensors of one type and shape, or of two dimensions swapped as [a, b^T]"});
  }
}

void StateTable::report(std::vector<Diagnostic> &diagnostics) const {
  auto check = [&](const std::vector<std::string> &patterns, const char *key) {
    for (const std::string &pattern : patterns)
      if (llvm::none_of(model.graph().initializer(),
                        [&](const onnx::TensorProto &tensor) { return matchesGlob(pattern, tensor.name()); }))
        diagnostics.push_back({"no initializer matches '" + pattern + "'", std::string("key parameters.") + key, "",
                               "`moec inspect` lists the names"});
  };
  check(options.parameters.train, "train");
  check(options.parameters.freeze, "freeze");
  reportTies(diagnostics);
  for (const onnx::TensorProto *tensor : undrawable)
    diagnostics.push_back({"cannot tell how '" + tensor->name() + "' is initialised", model.path(),
                           "its TrainingInfoProto is none of RandomNormal, RandomUniform and ConstantOfShape, "
                           "possibly with rows cleared by ScatterND",
                           "store initial values in the file instead"});
  for (const onnx::TensorProto *tensor : unreadable)
    diagnostics.push_back(
        {"a plan cannot take '" + tensor->name() + "' " + shapeText(*tensor) + " from the file", model.path(),
         onnx::TensorProto::DataType_Name(tensor->data_type()) + " stored as " +
             (tensor->has_raw_data() || tensor->external_data_size() > 0 ? "raw data" : "a list") + "; of more than " +
             std::to_string(kInlineLimit) +
             " elements, plans read raw data of float32, bfloat16, float16, int64, int32 and booleans",
         isFloat(*tensor) ? "export the weights in float32 as raw data" : "export it in int32 or int64 as raw data"});
  if (ambiguous.empty())
    return;
  std::string list;
  for (const onnx::TensorProto *tensor : ambiguous) {
    std::string users;
    for (const onnx::NodeProto &node : model.graph().node())
      if (llvm::is_contained(node.input(), tensor->name()))
        users += (users.empty() ? "" : ", ") + nodeName(node) + " (" + node.op_type() + ")";
    list += "\n  " + tensor->name() + " " + shapeText(*tensor) + " used by " + users;
  }
  diagnostics.push_back(
      {"it is not known whether these tensors are trained:" + list, model.path(),
       "the file does not tell weights from masks and tables",
       "export with torch.onnx.export(…, optimize=False), which keeps PyTorch's parameters apart, or say "
       "so in the recipe: parameters: {default: train, freeze: [PATTERNS]}"});
}

} // namespace moe::frontend
