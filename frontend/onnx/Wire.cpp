//===- Wire.cpp ---------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/Wire.h"
#include "onnx/onnx-ml.pb.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <algorithm>
#include <array>

namespace moe::frontend {
namespace {

/// What a field with a length holds. The schema's own classes are built without descriptors.
enum Content : uint8_t {
  Bytes, ///< or what the schema does not know
  Text,
  Floats,
  Integers,
  Model,
  Graph,
  Node,
  Attribute,
  Tensor,
  SparseTensor,
  Value,
  Type,
  TensorType,
  ElementType, ///< sequences and optionals of a type
  MapType,
  Shape,
  Dimension,
  Opset,
  Entry,
  Function,
  Training,
  Annotation,
  kContents
};

struct Part {
  Content whole;
  uint8_t field;
  Content part;
};

/// Fields of onnx-ml.proto that have a length, except for comments, which may be anything: nobody reads them.
constexpr Part kParts[] = {{Model, 2, Text},
                           {Model, 3, Text},
                           {Model, 4, Text},
                           {Model, 7, Graph},
                           {Model, 8, Opset},
                           {Model, 14, Entry},
                           {Model, 20, Training},
                           {Model, 25, Function},
                           {Graph, 1, Node},
                           {Graph, 2, Text},
                           {Graph, 5, Tensor},
                           {Graph, 11, Value},
                           {Graph, 12, Value},
                           {Graph, 13, Value},
                           {Graph, 14, Annotation},
                           {Graph, 15, SparseTensor},
                           {Graph, 16, Entry},
                           {Node, 1, Text},
                           {Node, 2, Text},
                           {Node, 3, Text},
                           {Node, 4, Text},
                           {Node, 5, Attribute},
                           {Node, 7, Text},
                           {Node, 8, Text},
                           {Node, 9, Entry},
                           {Attribute, 1, Text},
                           {Attribute, 5, Tensor},
                           {Attribute, 6, Graph},
                           {Attribute, 7, Floats},
                           {Attribute, 8, Integers},
                           {Attribute, 10, Tensor},
                           {Attribute, 11, Graph},
                           {Attribute, 14, Type},
                           {Attribute, 15, Type},
                           {Attribute, 21, Text},
                           {Attribute, 22, SparseTensor},
                           {Attribute, 23, SparseTensor},
                           {Tensor, 1, Integers},
                           {Tensor, 4, Floats},
                           {Tensor, 5, Integers},
                           {Tensor, 7, Integers},
                           {Tensor, 8, Text},
                           {Tensor, 10, Floats},
                           {Tensor, 11, Integers},
                           {Tensor, 13, Entry},
                           {Tensor, 16, Entry},
                           {SparseTensor, 1, Tensor},
                           {SparseTensor, 2, Tensor},
                           {SparseTensor, 3, Integers},
                           {Value, 1, Text},
                           {Value, 2, Type},
                           {Value, 4, Entry},
                           {Type, 1, TensorType},
                           {Type, 4, ElementType},
                           {Type, 5, MapType},
                           {Type, 6, Text},
                           {Type, 7, Entry},
                           {Type, 8, TensorType},
                           {Type, 9, ElementType},
                           {TensorType, 2, Shape},
                           {ElementType, 1, Type},
                           {MapType, 2, Type},
                           {Shape, 1, Dimension},
                           {Dimension, 2, Text},
                           {Dimension, 3, Text},
                           {Opset, 1, Text},
                           {Entry, 1, Text},
                           {Entry, 2, Text},
                           {Function, 1, Text},
                           {Function, 4, Text},
                           {Function, 5, Text},
                           {Function, 6, Text},
                           {Function, 7, Node},
                           {Function, 9, Opset},
                           {Function, 10, Text},
                           {Function, 11, Attribute},
                           {Function, 12, Value},
                           {Function, 13, Text},
                           {Function, 14, Entry},
                           {Training, 1, Graph},
                           {Training, 2, Graph},
                           {Training, 3, Entry},
                           {Training, 4, Entry},
                           {Annotation, 1, Text},
                           {Annotation, 2, Entry}};

/// Fields beyond this one are unknown.
constexpr uint32_t kFields = 32;

/// Memory for the parsed message, without the bytes of strings and weights, which take as much as in the file.
constexpr uint64_t kMaxMemory = uint64_t(768) << 20;

/// What a repeated field takes for a string (the object, its pointer, the allocator), for a number, and for a message
/// of few fields.
constexpr uint64_t kStringMemory = 56, kNumberMemory = 16, kSmallMemory = 128;

/// Messages in messages; the parser has the same bound.
constexpr unsigned kMaxDepth = 64;

bool takeVarint(llvm::StringRef &bytes, uint64_t &value) {
  value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(bytes.front());
    bytes = bytes.drop_front();
    value |= uint64_t(byte & 0x7f) << shift;
    if (byte < 0x80)
      return true;
  }
  return false;
}

class WireCheck {
public:
  explicit WireCheck(const std::string &path) : path(path) {
    for (const Part &part : kParts)
      contents[part.whole][part.field] = part.part;
  }

  bool check(llvm::StringRef bytes, Content whole, unsigned depth) {
    if (depth > kMaxDepth)
      return refuse("its graphs or types are nested more than " + std::to_string(kMaxDepth) + " messages deep",
                    "write the model with fewer branches and loops inside of one another");
    const bool complete = forEachField(bytes, [&](const WireField &field) {
      return take(field, field.number < kFields ? contents[whole][field.number] : Bytes, depth) &&
             (memory <= kMaxMemory || refuse("it has so many small parts that they take more than " +
                                                 std::to_string(kMaxMemory >> 20) + " MB of memory",
                                             "split the model, or store its weights as raw or external data"));
    });
    return complete || refuse("the file is truncated, damaged, or of another format",
                              "write the model again with `moec model`, or export it again");
  }

  Status status;

private:
  /// The first reason stays.
  bool refuse(std::string why, std::string remedy) {
    if (status)
      status = error("this is not an ONNX model that can be read", path, std::move(why), std::move(remedy));
    return false;
  }

  /// Counts one field of a message.
  bool take(const WireField &field, Content content, unsigned depth) {
    if (!field.isDelimited) {
      memory += kNumberMemory;
      return true;
    }
    switch (content) {
    case Bytes:
      memory += kStringMemory;
      return true;
    case Text:
      memory += kStringMemory;
      return isText(field.contents);
    case Floats:
      memory += field.contents.size();
      return true;
    case Integers:
      memory += field.contents.size() * sizeof(int64_t);
      return true;
    case Node:
      memory += sizeof(onnx::NodeProto);
      break;
    case Attribute:
      memory += sizeof(onnx::AttributeProto);
      break;
    case Function:
    case Graph:
    case Tensor:
      memory += std::max({sizeof(onnx::FunctionProto), sizeof(onnx::GraphProto), sizeof(onnx::TensorProto)});
      break;
    default:
      memory += kSmallMemory;
      break;
    }
    return check(field.contents, content, depth + 1);
  }

  bool isText(llvm::StringRef text) {
    if (llvm::json::isUTF8(text))
      return true;
    std::string shown;
    llvm::raw_string_ostream(shown).write_escaped(text.take_front(64));
    return refuse("the name or text '" + shown + "' in it is not UTF-8", "export the model with another one");
  }

  const std::string &path;
  uint64_t memory = 0;
  std::array<std::array<Content, kFields>, kContents> contents = {};
};

} // namespace

bool forEachField(llvm::StringRef bytes, llvm::function_ref<bool(const WireField &)> visit) {
  while (!bytes.empty()) {
    uint64_t tag = 0, value = 0;
    if (!takeVarint(bytes, tag) || tag >> 3 == 0 || tag >> 32 != 0)
      return false;
    WireField field{static_cast<uint32_t>(tag >> 3), false, {}};
    switch (tag & 7) {
    case 0:
      if (!takeVarint(bytes, value))
        return false;
      break;
    case 1:
    case 5:
      value = (tag & 7) == 1 ? 8 : 4;
      if (bytes.size() < value)
        return false;
      bytes = bytes.drop_front(value);
      break;
    case 2:
      if (!takeVarint(bytes, value) || value > bytes.size())
        return false;
      field.isDelimited = true;
      field.contents = bytes.take_front(value);
      bytes = bytes.drop_front(value);
      break;
    default:
      return false;
    }
    if (!visit(field))
      return false;
  }
  return true;
}

Status checkWire(llvm::StringRef file, const std::string &path) {
  WireCheck check(path);
  check.check(file, Model, 0);
  return check.status;
}

} // namespace moe::frontend
