//===- Dialect.cpp - Registration, attributes and their syntax --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/Dialect.h"
#include "ir/Ops.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace moe::ir;

#include "ir/MoeDialect.cpp.inc"
#include "ir/MoeEnums.cpp.inc"
#include "ir/MoeInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "ir/MoeAttrs.cpp.inc"

namespace {

/// Short names for layouts in dumps: `#layout`.
struct MoeAsmInterface : OpAsmDialectInterface {
  using OpAsmDialectInterface::OpAsmDialectInterface;
  AliasResult getAlias(Attribute attr, raw_ostream &os) const override {
    if (isa<LayoutAttr>(attr)) {
      os << "layout";
      return AliasResult::OverridableAlias;
    }
    return AliasResult::NoAlias;
  }
};

} // namespace

void MoeDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "ir/MoeAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "ir/MoeOps.cpp.inc"
      >();
  addInterfaces<MoeAsmInterface>();
}

Operation *MoeDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type, Location loc) {
  auto elements = dyn_cast<ElementsAttr>(value);
  if (!elements || elements.getType() != type)
    return nullptr;
  return ConstantOp::create(builder, loc, type, elements);
}

//===----------------------------------------------------------------------------------------------------------------===//
// #moe.layout<data = shard(0), expert = replicate>
//===----------------------------------------------------------------------------------------------------------------===//

LayoutAttr LayoutAttr::replicated(MLIRContext *context, ArrayRef<StringAttr> axes) {
  SmallVector<int32_t> kinds(axes.size(), static_cast<int32_t>(AxisKind::Replicate));
  SmallVector<int64_t> dims(axes.size(), 0);
  return get(context, axes, kinds, dims);
}

bool LayoutAttr::isReplicated() const {
  return llvm::all_of(getKinds(), [](int32_t kind) { return static_cast<AxisKind>(kind) == AxisKind::Replicate; });
}

LogicalResult LayoutAttr::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<StringAttr> axes,
                                 ArrayRef<int32_t> kinds, ArrayRef<int64_t> dims) {
  if (axes.size() != kinds.size() || axes.size() != dims.size())
    return emitError() << "layout needs one kind and one dimension per axis";
  for (size_t i = 0; i < axes.size(); ++i) {
    if (!symbolizeAxisKind(kinds[i]))
      return emitError() << "unknown layout kind " << kinds[i];
    if (llvm::is_contained(axes.take_front(i), axes[i]))
      return emitError() << "axis '" << axes[i].getValue() << "' appears twice in the layout";
    if (dims[i] < 0)
      return emitError() << "negative dimension in the layout of axis '" << axes[i].getValue() << "'";
  }
  return success();
}

Attribute LayoutAttr::parse(AsmParser &parser, Type) {
  SmallVector<StringAttr> axes;
  SmallVector<int32_t> kinds;
  SmallVector<int64_t> dims;
  auto parseAxis = [&]() -> ParseResult {
    StringRef axis, kindName;
    int64_t dim = 0;
    SMLoc loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&axis) || parser.parseEqual() || parser.parseKeyword(&kindName))
      return failure();
    std::optional<AxisKind> kind = symbolizeAxisKind(kindName);
    if (!kind)
      return parser.emitError(loc, "expected replicate, shard(dimension) or partial");
    if (*kind == AxisKind::Shard && (parser.parseLParen() || parser.parseInteger(dim) || parser.parseRParen()))
      return failure();
    axes.push_back(StringAttr::get(parser.getContext(), axis));
    kinds.push_back(static_cast<int32_t>(*kind));
    dims.push_back(dim);
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater, parseAxis))
    return {};
  return parser.getChecked<LayoutAttr>(parser.getContext(), axes, kinds, dims);
}

void LayoutAttr::print(AsmPrinter &printer) const {
  printer << "<";
  for (unsigned i = 0; i < getAxes().size(); ++i) {
    printer << (i ? ", " : "") << getAxes()[i].getValue() << " = " << stringifyAxisKind(kind(i));
    if (kind(i) == AxisKind::Shard)
      printer << "(" << getDims()[i] << ")";
  }
  printer << ">";
}

//===----------------------------------------------------------------------------------------------------------------===//
// #moe.mesh<data = 2, expert = 4>
//===----------------------------------------------------------------------------------------------------------------===//

LogicalResult MeshAttr::verify(function_ref<InFlightDiagnostic()> emitError, ArrayRef<StringAttr> axes,
                               ArrayRef<int64_t> sizes) {
  if (axes.size() != sizes.size())
    return emitError() << "mesh needs one size per axis";
  for (int64_t size : sizes)
    if (size < 1)
      return emitError() << "mesh axis of size " << size;
  return success();
}

Attribute MeshAttr::parse(AsmParser &parser, Type) {
  SmallVector<StringAttr> axes;
  SmallVector<int64_t> sizes;
  auto parseAxis = [&]() -> ParseResult {
    StringRef axis;
    int64_t size;
    if (parser.parseKeyword(&axis) || parser.parseEqual() || parser.parseInteger(size))
      return failure();
    axes.push_back(StringAttr::get(parser.getContext(), axis));
    sizes.push_back(size);
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater, parseAxis))
    return {};
  return parser.getChecked<MeshAttr>(parser.getContext(), axes, sizes);
}

void MeshAttr::print(AsmPrinter &printer) const {
  printer << "<";
  for (unsigned i = 0; i < getAxes().size(); ++i)
    printer << (i ? ", " : "") << getAxes()[i].getValue() << " = " << getSizes()[i];
  printer << ">";
}
