//===- MessageMutator.h - Changes in any field of any protobuf message --------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_FUZZ_MESSAGEMUTATOR_H
#define MOEC_TEST_FUZZ_MESSAGEMUTATOR_H

#include <cstddef>
#include <cstdint>
#include <google/protobuf/message.h>
#include <random>

namespace moe::fuzz {

/// Draws that depend on the seed alone.
class Random {
public:
  explicit Random(unsigned seed) : engine(seed) {}

  /// In [0, bound); 0 if `bound` is 0.
  size_t below(size_t bound) { return bound == 0 ? 0 : size_t(engine() % bound); }
  bool oneIn(size_t count) { return below(count) == 0; }
  /// Numbers at which readers go wrong: small ones, ends of ranges, powers of two and their neighbours.
  int64_t integer();
  double real();
  template <typename List> decltype(auto) pick(List &list) { return list[below(std::size(list))]; }

private:
  std::mt19937_64 engine;
};

/// Changes one field somewhere in `message` or in a message below it: a number becomes another, a string that of
/// another field, an element of a list is dropped, doubled or moved, a message is cleared, a field of the schema
/// appears. Each field that is set is as likely as any other, so that long lists get most of it.
void mutateField(google::protobuf::Message &message, Random &random);

} // namespace moe::fuzz

#endif // MOEC_TEST_FUZZ_MESSAGEMUTATOR_H
