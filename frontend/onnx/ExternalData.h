//===- ExternalData.h - Where initializers outside of the ONNX file may lie ---------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_ONNX_EXTERNALDATA_H
#define MOEC_FRONTEND_ONNX_EXTERNALDATA_H

#include "frontend/onnx/Model.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem/UniqueID.h"

namespace moe::frontend {

/// Checks the places of external data, one tensor after the other: they must lie in files below the folder of the
/// model, symbolic links followed, within these files, and two tensors have the same bytes or none in common. Nothing
/// is read.
class ExternalDataCheck {
public:
  /// `model` is the path of the ONNX file, `diagnostics` takes what is wrong.
  ExternalDataCheck(const std::string &model, std::vector<Diagnostic> &diagnostics);

  /// Checks the place of one initializer but for overlaps. A file that is missing or too short is reported once, not
  /// for each tensor in it.
  void add(const onnx::TensorProto &tensor, const Storage &place);
  /// Checks the tensors added so far for overlaps; reports the first of each file.
  void finish();

private:
  struct Range {
    llvm::sys::fs::UniqueID file;
    uint64_t begin, end; ///< bytes, `end` excluded
    std::string tensor, location;
  };
  void refuse(const std::string &tensor, std::string why, std::string remedy);
  bool isInside(llvm::StringRef path) const;

  std::string model, folder;
  std::vector<std::string> roots; ///< real paths of the folders in which data may lie
  std::vector<Diagnostic> &diagnostics;
  llvm::StringSet<> damaged;
  std::vector<Range> ranges;
};

} // namespace moe::frontend

#endif // MOEC_FRONTEND_ONNX_EXTERNALDATA_H
