//===- HostTensor.cpp - Tensors on the host, conversion and rounding --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "ir/reference/Interpreter.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <cstring>

using namespace mlir;

namespace moe::ir {

static int64_t countElements(llvm::ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

HostTensor::HostTensor(RankedTensorType type) : shape(type.getShape()), isFloat(isa<FloatType>(type.getElementType())) {
  if (isFloat)
    floats.resize(type.getNumElements());
  else
    ints.resize(type.getNumElements());
}

HostTensor::HostTensor(llvm::ArrayRef<int64_t> shape, std::vector<double> values)
    : shape(shape), floats(std::move(values)) {}

HostTensor HostTensor::ofInts(llvm::ArrayRef<int64_t> shape, std::vector<int64_t> values) {
  HostTensor tensor;
  tensor.shape = llvm::SmallVector<int64_t>(shape);
  tensor.isFloat = false;
  tensor.ints = std::move(values);
  return tensor;
}

int64_t HostTensor::size() const {
  return countElements(shape);
}

/// Rounds to `precision` significant bits; `minExponent` is the exponent of the smallest normal number, `largest` the
/// largest finite one.
static double roundToPrecision(double value, int precision, int minExponent, double largest) {
  if (!std::isfinite(value) || value == 0)
    return value;
  int exponent; // |value| lies in [2^(exponent-1), 2^exponent)
  std::frexp(value, &exponent);
  int unit = std::max(exponent - precision, minExponent - precision + 1);
  // The default rounding mode is to nearest, ties to even; scaling by a power of two is exact.
  double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  return std::fabs(rounded) > largest ? std::copysign(INFINITY, value) : rounded;
}

double roundToType(double value, Type type) {
  if (type.isF32())
    return static_cast<float>(value);
  if (type.isBF16())
    return roundToPrecision(value, 8, -126, std::ldexp(255.0, 120));
  if (type.isF16())
    return roundToPrecision(value, 11, -14, 65504.0);
  return value;
}

int64_t wrapToType(int64_t value, Type type) {
  auto integer = dyn_cast<IntegerType>(type);
  if (!integer || integer.getWidth() >= 64)
    return value;
  unsigned width = integer.getWidth();
  uint64_t low = static_cast<uint64_t>(value) & ((uint64_t(1) << width) - 1);
  bool negative = width > 1 && !integer.isUnsigned() && (low >> (width - 1));
  return static_cast<int64_t>(negative ? low | (~uint64_t(0) << width) : low);
}

/// Reads `count` little-endian elements of the raw bytes of a resource; a single element is repeated.
static FailureOr<HostTensor> fromBytes(RankedTensorType type, llvm::ArrayRef<char> bytes) {
  Type elementType = type.getElementType();
  unsigned width = elementType.getIntOrFloatBitWidth();
  size_t stride = width == 1 ? 1 : width / 8;
  int64_t count = type.getNumElements();
  bool splat = bytes.size() == stride;
  if (width > 64 || (!splat && bytes.size() != stride * count))
    return failure();
  HostTensor tensor(type);
  for (int64_t i = 0; i < count; ++i) {
    uint64_t raw = 0;
    std::memcpy(&raw, bytes.data() + (splat ? 0 : i * stride), stride);
    if (auto floatType = dyn_cast<FloatType>(elementType)) {
      bool losesInfo;
      APFloat value(floatType.getFloatSemantics(), APInt(width, raw));
      value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &losesInfo);
      tensor.floats[i] = value.convertToDouble();
    } else {
      tensor.ints[i] = wrapToType(static_cast<int64_t>(raw), elementType);
    }
  }
  return tensor;
}

FailureOr<HostTensor> toHostTensor(ElementsAttr attr) {
  auto type = dyn_cast<RankedTensorType>(attr.getShapedType());
  if (!type || !type.getElementType().isIntOrFloat())
    return failure();
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(attr)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    return blob ? fromBytes(type, blob->getData()) : FailureOr<HostTensor>(failure());
  }
  auto dense = dyn_cast<DenseElementsAttr>(attr);
  if (!dense)
    return failure();
  HostTensor tensor(type);
  if (tensor.isFloat) {
    for (auto [element, value] : llvm::zip_equal(tensor.floats, dense.getValues<APFloat>())) {
      bool losesInfo;
      APFloat wide = value;
      wide.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &losesInfo);
      element = wide.convertToDouble();
    }
  } else {
    for (auto [element, value] : llvm::zip_equal(tensor.ints, dense.getValues<APInt>()))
      element = wrapToType(static_cast<int64_t>(value.getZExtValue()), type.getElementType());
  }
  return tensor;
}

} // namespace moe::ir
