//===- Widen.cpp - A module of any precision as one of float64 --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Widen.h"
#include "ir/reference/Interpreter.h"
#include "mlir/IR/AttrTypeSubElements.h"

using namespace mlir;

LogicalResult moe::ir::widenToFloat64(ModuleOp module) {
  Type wide = Float64Type::get(module.getContext());
  bool unreadable = false;
  using Replaced = std::optional<std::pair<Attribute, WalkResult>>;
  AttrTypeReplacer replacer;
  replacer.addReplacement([&](FloatType) { return wide; });
  // Attributes that hold numbers are rebuilt, since their storage follows their type.
  replacer.addReplacement([&](FloatAttr attr) -> Replaced {
    return std::pair<Attribute, WalkResult>(FloatAttr::get(wide, attr.getValueAsDouble()), WalkResult::skip());
  });
  replacer.addReplacement([&](ElementsAttr attr) -> Replaced {
    auto type = dyn_cast<RankedTensorType>(attr.getShapedType());
    if (!type || !isa<FloatType>(type.getElementType()))
      return std::nullopt;
    FailureOr<HostTensor> values = toHostTensor(attr);
    if (failed(values)) {
      unreadable = true;
      return std::pair<Attribute, WalkResult>(attr, WalkResult::skip());
    }
    auto wideType = RankedTensorType::get(type.getShape(), wide, type.getEncoding());
    return std::pair<Attribute, WalkResult>(DenseElementsAttr::get(wideType, ArrayRef<double>(values->floats)),
                                            WalkResult::skip());
  });
  // {file = …, stored = f32} describes bytes on disk.
  replacer.addReplacement([](DictionaryAttr attr) -> Replaced {
    if (!attr.contains("stored"))
      return std::nullopt;
    return std::pair<Attribute, WalkResult>(attr, WalkResult::skip());
  });
  replacer.recursivelyReplaceElementsIn(module, /*replaceAttrs=*/true, /*replaceLocs=*/false, /*replaceTypes=*/true);
  if (unreadable)
    return module.emitError() << "has a floating-point constant in a form that cannot be widened to float64";
  return success();
}
