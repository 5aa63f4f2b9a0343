//===- Documents.h - Samples that end where documents do ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_DATA_DOCUMENTS_H
#define MOEC_RUNTIME_DATA_DOCUMENTS_H

#include "runtime/data/Windows.h"

#include <memory>
#include <vector>

namespace moe {

/// Pieces of documents in their order: document d is cut as Windows cuts a stream, and its last piece is padded, so
/// that every token but the first of a document is a label once. Documents of less than two tokens have no piece.
class Documents final : public SampleSource {
public:
  /// Errors: the file says nothing of documents; none has two tokens; the model counts all labels, so that pieces must
  /// not be padded.
  static Expected<std::shared_ptr<const Documents>> create(std::shared_ptr<const TokenFile> tokens,
                                                           const ModelInputs &inputs, const StreamColumns &columns);

  const std::filesystem::path &path() const override { return stream->path(); }
  int64_t count() const override { return pieces.back(); }
  int64_t length() const override { return columns.length(); }
  Status read(int64_t index, Sample &sample) const override;

private:
  std::shared_ptr<const TokenFile> stream;
  StreamColumns columns;
  std::vector<int64_t> pieces; ///< in all documents before d; one entry more than documents
};

} // namespace moe

#endif // MOEC_RUNTIME_DATA_DOCUMENTS_H
