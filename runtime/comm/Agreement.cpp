//===- Agreement.cpp - What all ranks know after they have talked -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/comm/Agreement.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace moe {
namespace {

/// Gathers one value of a plain type from each rank.
template <typename T> Expected<std::vector<T>> gather(Group &all, const T &own, const char *what) {
  std::vector<T> values(static_cast<size_t>(all.size()));
  std::vector<SendBlock> sends(values.size(), std::as_bytes(std::span(&own, 1)));
  std::vector<ReceiveBlock> receives;
  receives.reserve(values.size());
  for (T &value : values)
    receives.push_back(std::as_writable_bytes(std::span(&value, 1)));
  if (Status status = all.exchange(sends, receives, what); !status)
    return tl::unexpected(std::move(status.error()));
  return values;
}

/// A diagnostic of fixed size, so that nobody need say first how long it is.
struct Message {
  static constexpr size_t kLongest = 1500;
  using Text = std::array<char, kLongest>;

  int32_t failed = 0;
  int32_t code = 0;
  Text what{}, where{}, why{}, remedy{};

  static void store(Text &target, const std::string &text) {
    size_t length = std::min(text.size(), kLongest - 1);
    // Not through the middle of a character of UTF-8.
    while (length < text.size() && length > 0 && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80)
      --length;
    std::memcpy(target.data(), text.data(), length);
  }
};

} // namespace

Agreed agree(Group &all, const Status &own, const char *what) {
  Message message;
  if (!own) {
    message.failed = 1;
    message.code = static_cast<int32_t>(own.error().code);
    Message::store(message.what, own.error().what);
    Message::store(message.where, own.error().where);
    Message::store(message.why, own.error().why);
    Message::store(message.remedy, own.error().remedy);
  }
  auto messages = gather(all, message, what);
  if (!messages)
    return {own ? Status(tl::unexpected(messages.error())) : own, false};
  for (size_t i = 0; i < messages->size(); ++i) {
    const Message &first = (*messages)[i];
    if (!first.failed)
      continue;
    std::string where = first.where.data();
    bool isEverywhere = std::all_of(messages->begin(), messages->end(), [&](const Message &other) {
      return other.failed && std::strcmp(other.what.data(), first.what.data()) == 0 &&
             std::strcmp(other.where.data(), first.where.data()) == 0;
    });
    if (!isEverywhere)
      where.insert(0, "rank " + std::to_string(all.members()[i]) + (where.empty() ? "" : ", "));
    return {error(first.what.data(), where, first.why.data(), first.remedy.data(), static_cast<ExitCode>(first.code)),
            true};
  }
  return {};
}

Expected<bool> anyOf(Group &all, bool own, const char *what) {
  auto flags = gather<uint8_t>(all, own ? 1 : 0, what);
  if (!flags)
    return tl::unexpected(std::move(flags.error()));
  return std::any_of(flags->begin(), flags->end(), [](uint8_t flag) { return flag != 0; });
}

Expected<std::vector<uint64_t>> gatherNumbers(Group &all, uint64_t own, const char *what) {
  return gather<uint64_t>(all, own, what);
}

} // namespace moe
