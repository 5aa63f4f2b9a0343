//===- RecipeNames.h - The words of a recipe that stand for enumerations ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_FRONTEND_RECIPE_RECIPENAMES_H
#define MOEC_FRONTEND_RECIPE_RECIPENAMES_H

#include "frontend/recipe/Recipe.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

namespace moe::frontend {

template <typename Enum> struct EnumName {
  const char *name;
  Enum value;
};

/// The first name of a value is the canonical one.
template <typename Enum> llvm::ArrayRef<EnumName<Enum>> names();

template <> llvm::ArrayRef<EnumName<OptimizerName>> names();
template <> llvm::ArrayRef<EnumName<ScheduleName>> names();
template <> llvm::ArrayRef<EnumName<DecayShape>> names();
template <> llvm::ArrayRef<EnumName<ComputeType>> names();
template <> llvm::ArrayRef<EnumName<ParameterPolicy::Standard>> names();

template <typename Enum> const char *nameOf(Enum value) {
  for (const EnumName<Enum> &entry : names<Enum>())
    if (entry.value == value)
      return entry.name;
  return "";
}

/// "did you mean 'NAME'?" of the valid name nearest to `word`; empty if there is none.
std::string suggestion(llvm::StringRef word, llvm::ArrayRef<std::string> valid);

} // namespace moe::frontend

#endif // MOEC_FRONTEND_RECIPE_RECIPENAMES_H
