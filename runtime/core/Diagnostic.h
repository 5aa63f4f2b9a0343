//===- Diagnostic.h - What went wrong, where, why, and what to do
//---------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_RUNTIME_CORE_DIAGNOSTIC_H
#define MOEC_RUNTIME_CORE_DIAGNOSTIC_H

#include <string>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

namespace moe {

/// Exit codes of all programs (design §12).
enum class ExitCode : int { Success = 0, User = 1, Usage = 2, Internal = 70 };

/// One message for a person: `error: WHAT` with the place, the reason and the remedy on lines of their own. One with
/// the code `Success` is a warning: nothing failed.
struct Diagnostic {
  std::string what;   ///< "the plan was compiled for another CPU"
  std::string where;  ///< file, tensor, step, key or rank; may be empty
  std::string why;    ///< may be empty
  std::string remedy; ///< may be empty
  ExitCode code = ExitCode::User;

  /// Rendered over several lines, without a trailing newline.
  std::string str() const;
};

template <typename T> using Expected = tl::expected<T, Diagnostic>;
/// Success or a diagnostic.
using Status = tl::expected<void, Diagnostic>;

inline tl::unexpected<Diagnostic> error(std::string what, std::string where = {}, std::string why = {},
                                        std::string remedy = {}, ExitCode code = ExitCode::User) {
  return tl::unexpected<Diagnostic>(
      Diagnostic{std::move(what), std::move(where), std::move(why), std::move(remedy), code});
}

} // namespace moe

#endif // MOEC_RUNTIME_CORE_DIAGNOSTIC_H
