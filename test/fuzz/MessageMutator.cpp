//===- MessageMutator.cpp - Changes in any field of any protobuf message ------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/fuzz/MessageMutator.h"

#include <google/protobuf/descriptor.h>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace moe::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

/// A field that is set, or (rarely) one of the schema that is not.
struct Site {
  Message *message = nullptr;
  const FieldDescriptor *field = nullptr;
  int index = -1; ///< of the element in a list
};

class Sites {
public:
  explicit Sites(Random &random) : random(random) {}

  void collect(Message &message) {
    const Reflection &reflection = *message.GetReflection();
    std::vector<const FieldDescriptor *> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor *field : fields) {
      const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
      for (int i = 0; i < count; ++i) {
        offer({&message, field, field->is_repeated() ? i : -1});
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING)
          offerText(field->is_repeated() ? reflection.GetRepeatedString(message, field, i)
                                         : reflection.GetString(message, field));
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE)
          collect(field->is_repeated() ? *reflection.MutableRepeatedMessage(&message, field, i)
                                       : *reflection.MutableMessage(&message, field));
      }
    }
    const google::protobuf::Descriptor &type = *message.GetDescriptor();
    if (type.field_count() > 0 && random.oneIn(8))
      offer({&message, type.field(int(random.below(size_t(type.field_count())))), -1});
  }

  const Site &site() const { return chosen; }
  const std::string &text() const { return other; }

private:
  /// Keeps one of all that are offered, each with the same probability.
  void offer(const Site &site) {
    if (random.oneIn(++offered))
      chosen = site;
  }
  void offerText(const std::string &text) {
    if (text.size() <= 200 && random.oneIn(++texts))
      other = text;
  }

  Random &random;
  Site chosen;
  std::string other;
  size_t offered = 0, texts = 0;
};

int64_t changed(int64_t value, Random &random) {
  switch (random.below(5)) {
  case 0:
    return int64_t(uint64_t(value) + 1);
  case 1:
    return int64_t(uint64_t(value) - 1);
  case 2:
    return int64_t(uint64_t(value) << (1 + random.below(8)));
  case 3:
    return value / int64_t(2 + random.below(7));
  default:
    return random.integer();
  }
}

std::string changed(std::string text, const std::string &other, Random &random) {
  const size_t at = random.below(text.size() + 1);
  switch (random.below(5)) {
  case 0:
    return other;
  case 1:
    return text.substr(0, at);
  case 2:
    return text.insert(at, other.substr(0, 1 + random.below(8)));
  case 3:
    text.erase(at, 1 + random.below(4));
    return text;
  default:
    // Text of protobuf is UTF-8: other bytes would only end in front of its parser.
    if (at < text.size())
      text[at] = char(random.below(128));
    return text;
  }
}

/// Sets a field that holds one value (or element `index` of a list) to another value of its type.
void change(const Site &site, const std::string &other, Random &random) {
  Message &message = *site.message;
  const FieldDescriptor *field = site.field;
  const Reflection &reflection = *message.GetReflection();
  const bool element = site.index >= 0;
#define MOE_CHANGE(Name, value)                                                                                        \
  {                                                                                                                    \
    const auto old =                                                                                                   \
        element ? reflection.GetRepeated##Name(message, field, site.index) : reflection.Get##Name(message, field);     \
    static_cast<void>(old);                                                                                            \
    if (element)                                                                                                       \
      reflection.SetRepeated##Name(&message, field, site.index, value);                                                \
    else                                                                                                               \
      reflection.Set##Name(&message, field, value);                                                                    \
    return;                                                                                                            \
  }
  switch (field->cpp_type()) {
  case FieldDescriptor::CPPTYPE_INT32:
    MOE_CHANGE(Int32, int32_t(changed(old, random)))
  case FieldDescriptor::CPPTYPE_INT64:
    MOE_CHANGE(Int64, changed(old, random))
  case FieldDescriptor::CPPTYPE_UINT32:
    MOE_CHANGE(UInt32, uint32_t(changed(int64_t(old), random)))
  case FieldDescriptor::CPPTYPE_UINT64:
    MOE_CHANGE(UInt64, uint64_t(changed(int64_t(old), random)))
  case FieldDescriptor::CPPTYPE_FLOAT:
    MOE_CHANGE(Float, float(random.real()))
  case FieldDescriptor::CPPTYPE_DOUBLE:
    MOE_CHANGE(Double, random.real())
  case FieldDescriptor::CPPTYPE_BOOL:
    MOE_CHANGE(Bool, !old)
  case FieldDescriptor::CPPTYPE_ENUM:
    MOE_CHANGE(EnumValue, int(random.below(size_t(field->enum_type()->value_count()) + 2)))
  case FieldDescriptor::CPPTYPE_STRING:
    MOE_CHANGE(String, changed(old, other, random))
  case FieldDescriptor::CPPTYPE_MESSAGE:
    (element ? reflection.MutableRepeatedMessage(&message, field, site.index)
             : reflection.MutableMessage(&message, field))
        ->Clear();
  }
#undef MOE_CHANGE
}

/// Appends an element of no value.
void append(Message &message, const FieldDescriptor *field) {
  const Reflection &reflection = *message.GetReflection();
  switch (field->cpp_type()) {
  case FieldDescriptor::CPPTYPE_INT32:
    return reflection.AddInt32(&message, field, 0);
  case FieldDescriptor::CPPTYPE_INT64:
    return reflection.AddInt64(&message, field, 0);
  case FieldDescriptor::CPPTYPE_UINT32:
    return reflection.AddUInt32(&message, field, 0);
  case FieldDescriptor::CPPTYPE_UINT64:
    return reflection.AddUInt64(&message, field, 0);
  case FieldDescriptor::CPPTYPE_FLOAT:
    return reflection.AddFloat(&message, field, 0);
  case FieldDescriptor::CPPTYPE_DOUBLE:
    return reflection.AddDouble(&message, field, 0);
  case FieldDescriptor::CPPTYPE_BOOL:
    return reflection.AddBool(&message, field, false);
  case FieldDescriptor::CPPTYPE_ENUM:
    return reflection.AddEnumValue(&message, field, 0);
  case FieldDescriptor::CPPTYPE_STRING:
    return reflection.AddString(&message, field, "");
  case FieldDescriptor::CPPTYPE_MESSAGE:
    reflection.AddMessage(&message, field);
  }
}

void changeList(const Site &site, Random &random) {
  Message &message = *site.message;
  const Reflection &reflection = *message.GetReflection();
  const int last = reflection.FieldSize(message, site.field) - 1;
  switch (random.below(3)) {
  case 0: // drop
    reflection.SwapElements(&message, site.field, site.index, last);
    reflection.RemoveLast(&message, site.field);
    break;
  case 1: // move
    reflection.SwapElements(&message, site.field, site.index, int(random.below(size_t(last) + 1)));
    break;
  default: // double
    append(message, site.field);
    if (site.field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message &copy = *reflection.MutableRepeatedMessage(&message, site.field, last + 1);
      copy.CopyFrom(reflection.GetRepeatedMessage(message, site.field, site.index));
    }
    reflection.SwapElements(&message, site.field, int(random.below(size_t(last) + 1)), last + 1);
  }
}

} // namespace

int64_t Random::integer() {
  constexpr int64_t small[] = {0, 1, 2, 3, 4, 5, 7, 8, 16, -1, -2, 100};
  constexpr int64_t ends[] = {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(),
                              std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min(),
                              std::numeric_limits<uint32_t>::max()};
  switch (below(8)) {
  case 0:
    return pick(ends);
  case 1:
    return int64_t((uint64_t(1) << below(64)) - below(2));
  case 2:
    return -int64_t(below(16));
  default:
    return pick(small);
  }
}

double Random::real() {
  constexpr double values[] = {0.0,
                               -0.0,
                               1.0,
                               -1.0,
                               0.5,
                               1e-5,
                               -1e9,
                               1e30,
                               std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity(),
                               std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::denorm_min()};
  return pick(values);
}

void mutateField(Message &message, Random &random) {
  Sites sites(random);
  sites.collect(message);
  const Site &site = sites.site();
  if (!site.field)
    return;
  const Reflection &reflection = *site.message->GetReflection();
  if (site.field->is_repeated() && site.index < 0)
    append(*site.message, site.field);
  else if (site.index >= 0 && (site.field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE || random.oneIn(3)))
    changeList(site, random);
  else if (site.index < 0 && random.oneIn(12))
    reflection.ClearField(site.message, site.field);
  else
    change(site, sites.text(), random);
}

} // namespace moe::fuzz
