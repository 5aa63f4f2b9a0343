//===- Flags.cpp --------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/models/Flags.h"
#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>

namespace moe::models {
namespace {

Diagnostic usage(std::string what, std::string remedy = {}) {
  return {std::move(what), {}, {}, std::move(remedy), ExitCode::Usage};
}

template <typename T> bool parseNumber(const std::string &text, T &value) {
  const char *begin = text.data(), *end = begin + text.size();
  auto [rest, code] = std::from_chars(begin, end, value);
  return code == std::errc() && rest == end;
}

/// Sets the variable of a flag from `text`; what is wrong with it otherwise.
struct Assign {
  const Flag &flag;
  const std::string &text;

  std::optional<Diagnostic> operator()(int64_t *target) const {
    if (parseNumber(text, *target))
      return std::nullopt;
    return usage(flag.name + " needs a whole number, not '" + text + "'");
  }
  std::optional<Diagnostic> operator()(double *target) const {
    if (parseNumber(text, *target) && std::isfinite(*target))
      return std::nullopt;
    return usage(flag.name + " needs a number, not '" + text + "'");
  }
  std::optional<Diagnostic> operator()(std::string *target) const {
    *target = text;
    return std::nullopt;
  }
  std::optional<Diagnostic> operator()(std::vector<std::string> *target) const {
    target->push_back(text);
    return std::nullopt;
  }
  std::optional<Diagnostic> operator()(bool *) const { return usage(flag.name + " takes no value"); }
};

std::string number(double value) {
  char text[32];
  auto [end, code] = std::to_chars(text, text + sizeof(text), value);
  return {text, end};
}

struct Render {
  std::string operator()(const int64_t *value) const { return std::to_string(*value); }
  std::string operator()(const double *value) const { return number(*value); }
  std::string operator()(const bool *) const { return {}; }
  std::string operator()(const std::string *value) const { return *value; }
  std::string operator()(const std::vector<std::string> *values) const {
    std::string text;
    for (const std::string &value : *values)
      text += (text.empty() ? "" : " ") + value;
    return text;
  }
};

const char *placeholder(const Flag &flag) {
  constexpr const char *names[] = {" N", " X", "", " TEXT", " TEXT"};
  return names[flag.target.index()];
}

/// A dash and no negative number behind it.
bool isFlag(const std::string &word) {
  return word.size() >= 2 && word[0] == '-' && word[1] != '.' && (word[1] < '0' || word[1] > '9');
}

size_t editDistance(const std::string &a, const std::string &b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

} // namespace

std::string nearest(const std::string &word, const std::vector<std::string> &candidates) {
  auto best = std::min_element(candidates.begin(), candidates.end(), [&](const std::string &a, const std::string &b) {
    return editDistance(word, a) < editDistance(word, b);
  });
  return best == candidates.end() ? std::string() : *best;
}

std::vector<Diagnostic> parseFlags(const std::vector<Flag> &flags, const std::vector<std::string> &words,
                                   std::vector<std::string> *positional) {
  std::vector<Diagnostic> found;
  std::vector<std::string> names;
  for (const Flag &flag : flags)
    names.push_back(flag.name);
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string &word = words[i];
    if (!isFlag(word) && positional) {
      positional->push_back(word);
      continue;
    }
    if (!isFlag(word)) {
      found.push_back(usage("'" + word + "' belongs to no flag"));
      continue;
    }
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    auto flag = std::find_if(flags.begin(), flags.end(), [&](const Flag &f) { return f.name == name; });
    if (flag == flags.end()) {
      found.push_back(usage("unknown flag '" + name + "'", "did you mean " + nearest(name, names) + "?"));
      // Its value, if it has one, is not an error of its own.
      if (equals == std::string::npos && i + 1 < words.size() && !isFlag(words[i + 1]))
        ++i;
      continue;
    }
    if (bool *const *target = std::get_if<bool *>(&flag->target); target && equals == std::string::npos) {
      **target = true;
      continue;
    }
    if (equals == std::string::npos && i + 1 == words.size()) {
      found.push_back(usage(name + " needs a value"));
      continue;
    }
    const std::string value = equals == std::string::npos ? words[++i] : word.substr(equals + 1);
    if (std::optional<Diagnostic> problem = std::visit(Assign{*flag, value}, flag->target))
      found.push_back(std::move(*problem));
  }
  return found;
}

std::string describeFlags(const std::vector<Flag> &flags) {
  size_t width = 0;
  for (const Flag &flag : flags)
    width = std::max(width, (flag.name + placeholder(flag)).size());
  std::string text;
  for (const Flag &flag : flags) {
    std::string left = flag.name + placeholder(flag);
    left.resize(width + 2, ' ');
    const std::string value = std::visit(Render{}, flag.target);
    text += "  " + left + flag.help + (value.empty() ? "" : " (" + value + ")") + "\n";
  }
  return text;
}

std::string renderFlags(const std::vector<Flag> &flags) {
  std::string text;
  for (const Flag &flag : flags) {
    if (bool *const *target = std::get_if<bool *>(&flag.target); target && !**target)
      continue;
    const std::string value = std::visit(Render{}, flag.target);
    text += (text.empty() ? "" : " ") + flag.name + (value.empty() ? "" : " " + value);
  }
  return text;
}

} // namespace moe::models
