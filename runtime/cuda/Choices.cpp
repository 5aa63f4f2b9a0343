//===- Choices.cpp - Algorithms that were chosen, on record -------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/cuda/Choices.h"

#include "runtime/checkpoint/AtomicFile.h"

#include <charconv>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace moe::cuda {
namespace {

using Json = nlohmann::json;

std::string hexText(uint64_t word) {
  std::array<char, 17> text;
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(word));
  return text.data();
}

std::optional<Choices::Algorithm> readAlgorithm(const Json &words) {
  Choices::Algorithm algorithm{};
  if (!words.is_array() || words.size() != algorithm.size())
    return {};
  for (size_t i = 0; i < algorithm.size(); ++i) {
    if (!words[i].is_string())
      return {};
    const auto &text = words[i].get_ref<const std::string &>();
    auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), algorithm[i], 16);
    if (code != std::errc() || end != text.data() + text.size())
      return {};
  }
  return algorithm;
}

} // namespace

Expected<Choices> Choices::open(const std::filesystem::path &path, const std::string &library,
                                const std::string &device) {
  Choices result;
  result.path = path;
  result.library = library;
  result.device = device;
  std::ifstream file(path);
  if (path.empty() || !file)
    return result;
  std::ostringstream text;
  text << file.rdbuf();
  Json record = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  auto damaged = [&] {
    return error("the record of chosen algorithms is damaged", path.string(), "it is not what moerun writes",
                 "delete it: algorithms are then chosen anew, and the last bits of results may differ");
  };
  if (!record.is_object() || !record.contains("products") || !record["products"].is_object())
    return damaged();
  if (record.value("library", Json()) != library || record.value("device", Json()) != device)
    return result;
  for (const auto &[product, words] : record["products"].items()) {
    auto algorithm = readAlgorithm(words);
    if (!algorithm)
      return damaged();
    result.products[product] = *algorithm;
  }
  return result;
}

std::optional<Choices::Algorithm> Choices::find(const std::string &product) const {
  auto found = products.find(product);
  return found == products.end() ? std::nullopt : std::optional(found->second);
}

void Choices::add(const std::string &product, const Algorithm &algorithm) {
  products[product] = algorithm;
  changed = true;
}

uint64_t Choices::digest() const {
  std::string text;
  for (const auto &[product, algorithm] : products) {
    text += product;
    for (uint64_t word : algorithm)
      text += ' ' + hexText(word);
  }
  return std::hash<std::string>()(text);
}

Status Choices::save() {
  if (path.empty() || !changed)
    return {};
  Json record = {{"library", library}, {"device", device}, {"products", Json::object()}};
  for (const auto &[product, algorithm] : products)
    for (uint64_t word : algorithm)
      record["products"][product].push_back(hexText(word));
  std::string text = record.dump(1) + "\n";
  std::error_code code;
  std::filesystem::create_directories(path.parent_path(), code); // whose failure the next line reports
  auto file = AtomicFile::create(path);
  if (!file)
    return tl::unexpected(std::move(file.error()));
  if (Status status = file->write(std::as_bytes(std::span(text))); !status)
    return status;
  changed = false;
  return file->commit();
}

} // namespace moe::cuda
