//===- CommandLine.cpp - Flags and help from one table -----------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "tools/moerun/CommandLine.h"

#include <algorithm>
#include <charconv>

namespace moe {

static tl::unexpected<Diagnostic> usage(std::string what, std::string why = {}, std::string remedy = {}) {
  return error(std::move(what), {}, std::move(why), std::move(remedy), ExitCode::Usage);
}

static size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearestName(std::string_view word, const std::vector<std::string_view> &candidates) {
  std::string_view best;
  size_t bestDistance = std::max<size_t>(word.size() / 2, 1) + 1;
  for (std::string_view candidate : candidates)
    if (size_t distance = editDistance(word, candidate); distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  return std::string(best);
}

std::string Arguments::text(std::string_view flag) const {
  auto found = values.find(flag);
  return found == values.end() ? std::string() : found->second;
}

template <typename T> static bool parseWhole(const std::string &text, T &value) {
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && end == text.data() + text.size();
}

Expected<int64_t> Arguments::integer(std::string_view flag, int64_t fallback, int64_t least, int64_t most) const {
  if (!has(flag))
    return fallback;
  int64_t value = 0;
  std::string given = text(flag);
  if (!parseWhole(given, value) || value < least || value > most)
    return usage("--" + std::string(flag) + " needs a whole number" +
                     (most == INT64_MAX ? " of at least " + std::to_string(least)
                                        : " from " + std::to_string(least) + " to " + std::to_string(most)),
                 "it was given '" + given + "'");
  return value;
}

Expected<double> Arguments::real(std::string_view flag, double fallback, double least, double most) const {
  if (!has(flag))
    return fallback;
  double value = 0;
  std::string given = text(flag);
  if (!parseWhole(given, value) || !(value >= least && value < most)) {
    char range[96];
    std::snprintf(range, sizeof(range), " needs a number from %g to below %g", least, most);
    return usage("--" + std::string(flag) + range, "it was given '" + given + "'");
  }
  return value;
}

Expected<Arguments> parseArguments(const Command &command, std::span<const char *const> words) {
  Arguments result;
  if (std::ranges::any_of(words, [](std::string_view word) { return word == "--help" || word == "-h"; })) {
    result.help = true;
    return result;
  }
  const std::string helpHint = "`moerun " + std::string(command.name) + " --help` lists all flags";
  bool hasOperand = false;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (!word.starts_with("-") || word == "-") {
      if (hasOperand || command.operand.empty())
        return usage("unexpected argument '" + std::string(word) + "'",
                     hasOperand ? "the " + std::string(command.operand) + " is '" + result.operand + "'"
                                : "the command takes flags alone",
                     helpHint);
      result.operand = word;
      hasOperand = true;
      continue;
    }
    std::string_view name = word.substr(word.starts_with("--") ? 2 : 1);
    size_t equals = name.find('=');
    std::string_view inlineValue = equals == std::string_view::npos ? std::string_view() : name.substr(equals + 1);
    name = name.substr(0, equals);
    auto flag = std::ranges::find(command.flags, name, &Flag::name);
    if (flag == command.flags.end() || !word.starts_with("--")) {
      std::vector<std::string_view> names;
      names.reserve(command.flags.size());
      for (const Flag &known : command.flags)
        names.push_back(known.name);
      std::string nearest = nearestName(name, names);
      return usage("unknown flag '" + std::string(word.substr(0, word.find('='))) + "' of `moerun " +
                       std::string(command.name) + "`",
                   nearest.empty() ? "" : "did you mean --" + nearest + "?", helpHint);
    }
    std::string value;
    if (equals != std::string_view::npos) {
      if (flag->value.empty())
        return usage("--" + std::string(name) + " takes no value", {}, helpHint);
      value = inlineValue;
    } else if (!flag->value.empty()) {
      if (i + 1 == words.size())
        return usage("--" + std::string(name) + " needs a value (" + std::string(flag->value) + ")", {}, helpHint);
      value = words[++i];
    }
    result.values.insert_or_assign(std::string(name), std::move(value));
  }
  if (!hasOperand && !command.operand.empty())
    return usage("no " + std::string(command.operand) + " given",
                 "the command is `moerun " + std::string(command.name) + " " + std::string(command.operand) +
                     " [flags]`",
                 helpHint);
  std::string missing;
  for (const Flag &flag : command.flags)
    if (flag.required && !result.has(flag.name))
      missing += (missing.empty() ? "--" : ", --") + std::string(flag.name);
  if (!missing.empty())
    return usage("missing flags: " + missing, {}, helpHint);
  return result;
}

/// Breaks `text` at spaces so that lines indented by `indent` stay within 100 columns.
static std::string wrapped(std::string_view text, size_t indent) {
  std::string result;
  size_t column = indent;
  while (!text.empty()) {
    size_t space = text.find(' ');
    std::string_view word = text.substr(0, space);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
    if (column > indent && column + 1 + word.size() > 100) {
      result += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
  }
  return result;
}

std::string helpText(const Command &command) {
  constexpr size_t indent = 34;
  std::string text = "usage: moerun " + std::string(command.name) + (command.operand.empty() ? "" : " ") +
                     std::string(command.operand) + " [flags]\n\n" + wrapped(command.summary, 0) + "\n\n";
  auto row = [&](std::string left, std::string_view help) {
    left = "  " + left;
    if (left.size() + 2 > indent)
      left += "\n" + std::string(indent, ' ');
    else
      left.resize(indent, ' ');
    text += left + wrapped(help, indent) + "\n";
  };
  for (const Flag &flag : command.flags)
    row("--" + std::string(flag.name) + (flag.value.empty() ? "" : " " + std::string(flag.value)),
        std::string(flag.help) + (flag.required ? " (required)" : ""));
  row("--help", "print this and exit");
  if (!command.notes.empty())
    text += "\n" + wrapped(command.notes, 0) + "\n";
  text +=
      "\nOf a repeated flag the last one counts. Exit codes: 0 success, 1 bad input, 2 bad usage, 70 internal error.\n";
  return text;
}

} // namespace moe
