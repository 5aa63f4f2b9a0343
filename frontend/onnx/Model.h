//===- Model.h - An ONNX file that has been read and checked ------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_MODEL_H
#define MOEC_FRONTEND_ONNX_MODEL_H

#include "onnx/onnx-ml.pb.h"
#include "runtime/core/Diagnostic.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringRef.h"
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace moe::frontend {

/// Where the elements of an initializer lie: little endian, row-major, contiguous.
struct Storage {
  std::string location; ///< external data file relative to the model's folder; empty: the ONNX file itself
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/// Limits that keep hostile files from exhausting memory or overflowing sizes.
inline constexpr int64_t kMaxElements = int64_t(1) << 40;

class ExternalDataCheck;

class Model {
public:
  /// Reads the message (not the external data) and checks what needs no shapes: topological order, single assignment,
  /// extents of initializers, places of external data (`ExternalDataCheck`), recursion of functions.
  static std::unique_ptr<Model> read(const std::string &path, std::vector<Diagnostic> &diagnostics);

  const onnx::ModelProto &proto() const { return message; }
  const onnx::GraphProto &graph() const { return message.graph(); }
  const std::string &path() const { return file; }
  uint64_t bytes() const { return size; }
  uint64_t digest() const { return hash; }

  /// Version of an operator set; 0 if the model does not import it. The default domain is "".
  int64_t opset(llvm::StringRef domain) const;
  /// The model-local function, or null.
  const onnx::FunctionProto *function(llvm::StringRef domain, llvm::StringRef name) const;
  const onnx::TensorProto *initializer(llvm::StringRef name) const { return initializers.lookup(name); }
  /// Value of a metadata property of the model; `otherwise` if absent.
  std::string metadata(llvm::StringRef key, llvm::StringRef otherwise = "") const;

  /// Place of an initializer's elements in a file; nothing if they are stored as a list of numbers.
  std::optional<Storage> storage(const onnx::TensorProto &tensor) const;
  /// The elements of an initializer or of a `Constant`, little endian and row-major; false if they cannot be read.
  bool readElements(const onnx::TensorProto &tensor, std::string &elements) const;
  /// `bytes` bytes of them from `offset` on, which must lie within; false if they cannot be read.
  bool readElements(const onnx::TensorProto &tensor, uint64_t offset, uint64_t bytes, std::string &elements) const;
  /// True if all elements are zero. Holes of sparse files are skipped without reading.
  bool isZero(const onnx::TensorProto &tensor) const;

private:
  std::string folder() const;
  void checkTensor(const onnx::TensorProto &tensor, ExternalDataCheck &external,
                   std::vector<Diagnostic> &diagnostics) const;
  void checkGraph(std::vector<Diagnostic> &diagnostics) const;
  void checkFunctions(std::vector<Diagnostic> &diagnostics) const;
  void findRawData(llvm::StringRef contents);

  std::string file;
  uint64_t size = 0;
  uint64_t hash = 0;
  onnx::ModelProto message;
  llvm::StringMap<const onnx::FunctionProto *> functions; ///< by "domain:name"
  llvm::StringMap<const onnx::TensorProto *> initializers;
  llvm::StringMap<uint64_t> rawOffsets; ///< place of `raw_data` in the file, by initializer
};

/// Bytes of one element of an ONNX element type that moec knows; 0 for the others.
unsigned onnxElementBytes(int32_t dataType);

/// Number of elements; nothing if an extent is negative or the product exceeds `kMaxElements`.
std::optional<int64_t> elementCount(const onnx::TensorProto &tensor);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_MODEL_H
