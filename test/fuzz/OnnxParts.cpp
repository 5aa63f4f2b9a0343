//===- OnnxParts.cpp - Changes in single parts of a model ---------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "test/fuzz/OnnxParts.h"

#include "frontend/onnx/OpTables.h"

#include <cstring>
#include <string>

namespace moe::fuzz {
namespace {

using onnx::AttributeProto;
using onnx::TensorProto;

/// Names of attributes that handlers in frontend/onnx/ops ask for.
constexpr const char *kAttributes[] = {"activation",
                                       "allowzero",
                                       "alpha",
                                       "approximate",
                                       "auto_pad",
                                       "axes",
                                       "axis",
                                       "batch_dims",
                                       "beta",
                                       "bias",
                                       "body",
                                       "capacity_factor",
                                       "causal",
                                       "ceil_mode",
                                       "detect_negative",
                                       "detect_positive",
                                       "dilations",
                                       "direction",
                                       "dropout",
                                       "dtype",
                                       "end",
                                       "ends",
                                       "epsilon",
                                       "equation",
                                       "exclusive",
                                       "fmod",
                                       "gamma",
                                       "group",
                                       "ignore_index",
                                       "interleaved",
                                       "is_causal",
                                       "k",
                                       "keepdims",
                                       "kernel_shape",
                                       "kv_num_heads",
                                       "largest",
                                       "lambd",
                                       "left_window_size",
                                       "mode",
                                       "new_axis",
                                       "noop_with_empty_axes",
                                       "num_experts",
                                       "num_groups",
                                       "num_heads",
                                       "num_outputs",
                                       "p",
                                       "pads",
                                       "perm",
                                       "q_num_heads",
                                       "qk_matmul_output_mode",
                                       "ratio",
                                       "reduction",
                                       "reverse",
                                       "rotary_embedding_dim",
                                       "scale",
                                       "seed",
                                       "select_last_index",
                                       "shape",
                                       "softcap",
                                       "sorted",
                                       "split",
                                       "start",
                                       "starts",
                                       "stash_type",
                                       "strides",
                                       "to",
                                       "top_k",
                                       "transA",
                                       "transB",
                                       "transpose",
                                       "upper",
                                       "value",
                                       "value_float",
                                       "value_floats",
                                       "value_int",
                                       "value_ints"};

/// Texts that attributes have, among them equations of Einsum.
constexpr const char *kTexts[] = {"",
                                  "mean",
                                  "sum",
                                  "none",
                                  "tanh",
                                  "constant",
                                  "reflect",
                                  "edge",
                                  "wrap",
                                  "SAME_UPPER",
                                  "VALID",
                                  "NOTSET",
                                  "add",
                                  "mul",
                                  "max",
                                  "min",
                                  "linear",
                                  "ij,jk->ik",
                                  "bhij,bhjd->bhid",
                                  "ii->i",
                                  "...i->...",
                                  "ij->j",
                                  "ab,ab->",
                                  "->",
                                  "i,,j",
                                  "abc,cd->abd",
                                  "sec,sm->ecm"};

const std::vector<const frontend::OpEntry *> &operators() {
  static const std::vector<const frontend::OpEntry *> all = [] {
    std::vector<const frontend::OpEntry *> entries;
    for (llvm::ArrayRef<frontend::OpEntry> table : frontend::opTables())
      for (const frontend::OpEntry &entry : table)
        entries.push_back(&entry);
    return entries;
  }();
  return all;
}

int drawType(Random &random) {
  constexpr int common[] = {TensorProto::FLOAT,   TensorProto::INT64,    TensorProto::BOOL,  TensorProto::INT32,
                            TensorProto::FLOAT16, TensorProto::BFLOAT16, TensorProto::DOUBLE};
  return random.oneIn(6) ? int(random.below(28)) : random.pick(common);
}

int64_t drawExtent(Random &random) {
  return random.oneIn(5) ? random.integer() : int64_t(random.below(6));
}

void setValue(AttributeProto &attribute, Random &random) {
  switch (random.below(7)) {
  case 0:
  case 1:
    attribute.set_type(AttributeProto::INT);
    attribute.set_i(random.oneIn(4) ? random.integer() : int64_t(random.below(7)) - 3);
    break;
  case 2:
    attribute.set_type(AttributeProto::FLOAT);
    attribute.set_f(float(random.real()));
    break;
  case 3:
    attribute.set_type(AttributeProto::STRING);
    attribute.set_s(random.pick(kTexts));
    break;
  case 4:
    attribute.set_type(AttributeProto::TENSOR);
    *attribute.mutable_t() = smallTensor(random);
    break;
  default:
    attribute.set_type(AttributeProto::INTS);
    attribute.clear_ints();
    for (size_t i = random.below(5); i > 0; --i)
      attribute.add_ints(random.oneIn(6) ? random.integer() : int64_t(random.below(7)) - 3);
  }
}

void setExternal(TensorProto &tensor, Random &random) {
  constexpr const char *places[] = {
      "weights.bin", "weights.bin", "weights.bin", "../weights.bin", "/dev/zero", "model.onnx", ".", "", "missing"};
  constexpr const char *keys[] = {"location", "offset", "length", "checksum"};
  if (tensor.data_location() != TensorProto::EXTERNAL || tensor.external_data_size() == 0) {
    tensor.set_data_location(TensorProto::EXTERNAL);
    tensor.clear_raw_data();
    onnx::StringStringEntryProto &location = *tensor.add_external_data();
    location.set_key("location");
    location.set_value(random.pick(places));
    return;
  }
  onnx::StringStringEntryProto &entry =
      random.oneIn(3) ? *tensor.add_external_data()
                      : *tensor.mutable_external_data(int(random.below(size_t(tensor.external_data_size()))));
  entry.set_key(random.pick(keys));
  entry.set_value(entry.key() == "location" ? random.pick(places) : std::to_string(random.integer()));
}

} // namespace

void setOperator(onnx::NodeProto &node, Random &random) {
  const frontend::OpEntry &entry = *random.pick(operators());
  node.set_op_type(entry.name);
  node.set_domain(entry.domain);
}

void mutateAttribute(onnx::NodeProto &node, Random &random) {
  const int count = node.attribute_size();
  if (count == 0 || random.oneIn(3)) {
    AttributeProto &added = *node.add_attribute();
    added.set_name(random.pick(kAttributes));
    setValue(added, random);
    return;
  }
  const int at = int(random.below(size_t(count)));
  AttributeProto &attribute = *node.mutable_attribute(at);
  switch (random.below(6)) {
  case 0:
    node.mutable_attribute()->DeleteSubrange(at, 1);
    break;
  case 1:
    attribute.set_name(random.pick(kAttributes));
    break;
  case 2:
    setValue(attribute, random);
    break;
  default:
    if (attribute.has_t() && random.oneIn(2))
      mutateTensor(*attribute.mutable_t(), random);
    else if (attribute.type() == AttributeProto::INTS && random.oneIn(3))
      attribute.add_ints(random.integer());
    else
      mutateWritten(attribute, random);
  }
}

void mutateInput(onnx::ValueInfoProto &input, Random &random) {
  onnx::TypeProto::Tensor &type = *input.mutable_type()->mutable_tensor_type();
  onnx::TensorShapeProto &shape = *type.mutable_shape();
  const int rank = shape.dim_size();
  switch (random.below(6)) {
  case 0:
    type.set_elem_type(drawType(random));
    break;
  case 1:
    shape.add_dim()->set_dim_value(drawExtent(random));
    break;
  case 2:
    if (rank > 0)
      shape.mutable_dim()->RemoveLast();
    break;
  case 3:
    if (rank > 0)
      shape.mutable_dim(int(random.below(size_t(rank))))->set_dim_param(random.oneIn(2) ? "batch" : "length");
    break;
  case 4:
    // It may be no tensor any more afterwards.
    if (random.oneIn(8))
      return mutateWritten(*input.mutable_type(), random);
    break;
  default:
    if (rank > 0)
      shape.mutable_dim(int(random.below(size_t(rank))))->set_dim_value(drawExtent(random));
  }
  if (type.elem_type() == 0 && !random.oneIn(16))
    type.set_elem_type(TensorProto::FLOAT);
}

void mutateTensor(TensorProto &tensor, Random &random) {
  const int rank = tensor.dims_size();
  switch (random.below(8)) {
  case 0:
    if (rank > 0)
      tensor.set_dims(int(random.below(size_t(rank))), drawExtent(random));
    break;
  case 1:
    tensor.add_dims(random.oneIn(2) ? 1 : drawExtent(random));
    break;
  case 2:
    if (rank > 0)
      tensor.mutable_dims()->RemoveLast();
    break;
  case 3:
    tensor.set_data_type(drawType(random));
    break;
  case 4:
    setExternal(tensor, random);
    break;
  case 5:
    if (tensor.has_raw_data())
      tensor.mutable_raw_data()->resize(random.below(tensor.raw_data().size() + 16));
    else
      mutateWritten(tensor, random);
    break;
  default:
    // Another number, as an index, an axis or an extent reads it.
    if (tensor.data_type() == TensorProto::INT64 && tensor.raw_data().size() >= sizeof(int64_t)) {
      const int64_t value = random.integer();
      const size_t at = random.below(tensor.raw_data().size() / sizeof(value)) * sizeof(value);
      std::memcpy(tensor.mutable_raw_data()->data() + at, &value, sizeof(value));
    } else {
      mutateWritten(tensor, random);
    }
  }
}

TensorProto smallTensor(Random &random) {
  TensorProto tensor;
  const bool scalar = random.oneIn(4);
  const size_t count = scalar ? 1 : random.below(5);
  tensor.set_data_type(random.oneIn(4) ? drawType(random) : int(TensorProto::INT64));
  if (!scalar)
    tensor.add_dims(int64_t(count));
  for (size_t i = 0; i < count; ++i) {
    const int64_t value = random.oneIn(5) ? random.integer() : int64_t(random.below(7)) - 3;
    if (tensor.data_type() == TensorProto::INT64)
      tensor.add_int64_data(value);
    else if (tensor.data_type() == TensorProto::FLOAT)
      tensor.add_float_data(float(random.real()));
    else if (tensor.data_type() == TensorProto::DOUBLE)
      tensor.add_double_data(random.real());
    else
      tensor.add_int32_data(int32_t(value));
  }
  return tensor;
}

} // namespace moe::fuzz
