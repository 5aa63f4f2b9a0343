//===- JsonLines.cpp - Samples as lines of JSON ------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "runtime/data/JsonLines.h"

#include "runtime/data/InputBatch.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace moe {
namespace {

constexpr size_t kReportedLines = 20;

/// Receives the events of one line. Lists of integers of wanted fields are kept; whatever is nested in other fields is
/// passed over without memory for it.
class Receiver final : public nlohmann::json_sax<nlohmann::json> {
public:
  explicit Receiver(const std::vector<std::string> &wanted) : wanted(wanted) {}

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a truth value"); }
  bool number_float(double, const std::string &) override { return value("a number with a fraction"); }
  bool string(std::string &) override { return value("text"); }
  bool binary(nlohmann::json::binary_t &) override { return value("bytes"); }
  bool number_integer(int64_t number) override { return integer(number); }
  bool number_unsigned(uint64_t number) override {
    return number > uint64_t(INT64_MAX) ? value("an integer of more than 64 bits") : integer(int64_t(number));
  }
  bool start_object(size_t) override { return depth == 0 ? ++depth > 0 : open("an object, not tokens"); }
  bool start_array(size_t) override {
    if (depth == 0)
      return fail("the line is a list, not an object");
    if (depth == 1 && target) {
      ++depth;
      return true;
    }
    return open("a list within the list");
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string &name) override {
    if (depth != 1)
      return true;
    auto [entry, isNew] = fields.try_emplace(name);
    if (!isNew)
      return fail("the field '" + name + "' occurs twice");
    field = name;
    target = std::ranges::find(wanted, name) == wanted.end() ? nullptr : &entry->second;
    return true;
  }
  bool parse_error(size_t position, const std::string &, const nlohmann::json::exception &) override {
    return fail("it is no JSON from character " + std::to_string(position) + " on");
  }

  JsonFields fields;
  std::string problem;

private:
  bool fail(std::string text) {
    problem = std::move(text);
    return false;
  }
  bool value(const char *what) {
    if (depth == 0)
      return fail(std::string("the line is ") + what + ", not an object");
    return target ? fail("the field '" + field + "' holds " + what + ", not tokens") : true;
  }
  bool integer(int64_t number) {
    if (depth == 0)
      return value("a number");
    if (target)
      target->push_back(number);
    return true;
  }
  bool open(const char *what) {
    ++depth;
    return target ? fail("the field '" + field + "' holds " + what) : true;
  }
  bool close() {
    --depth;
    return true;
  }

  const std::vector<std::string> &wanted;
  std::vector<int64_t> *target = nullptr;
  std::string field;
  int64_t depth = 0;
};

std::string joined(const std::set<std::string> &words) {
  std::string text;
  for (const std::string &word : words)
    text += (text.empty() ? "" : ", ") + word;
  return text;
}

} // namespace

Expected<JsonFields> parseJsonLine(std::string_view line, const std::vector<std::string> &wanted) {
  Receiver receiver(wanted);
  if (!nlohmann::json::sax_parse(line, &receiver))
    return error(receiver.problem.empty() ? "it is no JSON" : receiver.problem);
  return std::move(receiver.fields);
}

std::string_view JsonLines::textAt(uint64_t begin) const {
  std::string_view text(reinterpret_cast<const char *>(file.bytes().data()), file.bytes().size());
  text.remove_prefix(begin);
  return text.substr(0, text.find('\n'));
}

/// Moves the fields into the columns of `sample` and completes it.
Status JsonLines::fill(JsonFields &fields, Sample &sample) const {
  sample.columns.resize(inputs.list().size());
  const int source = inputs.labelSource();
  const bool shifts = inputs.labels() >= 0 && !fields.contains(columns[size_t(inputs.labels())]);
  for (size_t i = 0; i < columns.size(); ++i) {
    auto field = fields.find(columns[i]);
    sample.columns[i].kind = Sample::Column::Kind::Absent;
    if (field == fields.end())
      continue;
    std::vector<int64_t> &values = field->second;
    // Labels that follow from the tokens take one of these more.
    const size_t room = size_t(inputs.list()[i].rowElements) + (shifts && int(i) == source);
    if (truncate && values.size() > room && inputs.list()[i].kind != InputKind::Other)
      values.resize(room);
    sample.columns[i].set(std::move(values));
  }
  return completeSample(inputs, sample);
}

Expected<std::shared_ptr<const JsonLines>> JsonLines::open(const std::filesystem::path &path, const ModelInputs &inputs,
                                                           const JsonOptions &options, std::string &notice) {
  auto mapped = MappedFile::open(path);
  if (!mapped)
    return tl::unexpected(mapped.error());
  auto result = std::make_shared<JsonLines>(std::move(*mapped), inputs);
  result->truncate = options.truncate;
  for (const ModelInput &input : inputs.list()) {
    auto named = options.columns.find(input.name);
    result->columns.push_back(named == options.columns.end() ? input.name : named->second);
  }

  std::string problems;
  size_t bad = 0;
  std::set<std::string> unread;
  Sample sample;
  const uint64_t size = result->file.bytes().size();
  uint64_t number = 0;
  for (uint64_t begin = 0; begin < size; ++number) {
    std::string_view text = result->textAt(begin);
    const Line line = {begin, number + 1};
    begin += text.size() + 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos)
      continue;
    auto fields = parseJsonLine(text, result->columns);
    Status status;
    if (!fields) {
      status = tl::unexpected(fields.error());
    } else {
      for (const auto &[name, values] : *fields)
        if (std::ranges::find(result->columns, name) == result->columns.end() && unread.size() < kReportedLines)
          unread.insert(name);
      status = result->fill(*fields, sample);
    }
    result->lines.push_back(line);
    if (status)
      continue;
    const Diagnostic &problem = status.error();
    if (++bad <= kReportedLines)
      problems += (problems.empty() ? "" : "\n  ") + ("line " + std::to_string(line.number)) + ": " + problem.what +
                  (problem.where.empty() ? "" : " (" + problem.where + ")") +
                  (problem.why.empty() ? "" : ": " + problem.why);
  }
  if (bad > kReportedLines)
    problems += "\n  and " + std::to_string(bad - kReportedLines) + " lines more";
  const std::string fields = unread.empty() ? "" : "the file also has the fields " + joined(unread) + "; ";
  if (bad > 0)
    return error("the data does not fit the model", path.string(), problems,
                 fields + "each line is an object of lists of token ids under the names of the inputs; --columns "
                          "INPUT=FIELD names others, --truncate cuts sequences that are too long");
  if (result->lines.empty())
    return error("the data file is empty", path.string(), "it has no line");
  notice = joined(unread);
  return result;
}

Status JsonLines::read(int64_t index, Sample &sample) const {
  const Line &line = lines[size_t(index)];
  auto fields = parseJsonLine(textAt(line.begin), columns);
  Status status = fields ? fill(*fields, sample) : Status(tl::unexpected(fields.error()));
  if (status)
    return status;
  Diagnostic problem = status.error();
  problem.where = file.path().string() + ", line " + std::to_string(line.number) +
                  (problem.where.empty() ? "" : ", " + problem.where);
  return tl::unexpected(std::move(problem));
}

} // namespace moe
