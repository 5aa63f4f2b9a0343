//===- Activation.cpp - Activation functions ----------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "frontend/onnx/OpTable.h"
#include "frontend/onnx/ops/Support.h"

using namespace mlir;
using moe::ir::ComparePredicate;

namespace moe::frontend {
namespace {

template <typename Op> void unary(NodeContext &n) {
  n.output(0, n.make<Op>(n.input(0)));
}

void gelu(NodeContext &n) {
  std::string form = n.text("approximate", "none");
  if (form != "none" && form != "tanh")
    n.fail("the approximation '" + form + "' is unknown");
  n.output(0, n.make<ir::GeluOp>(n.input(0), form == "tanh" ? ir::GeluKind::Tanh : ir::GeluKind::Erf));
}

void silu(NodeContext &n) {
  Value x = n.input(0);
  Value slope = n.attribute("alpha") && n.real("alpha", 1.0) != 1.0
                    ? n.make<ir::MulOp>(x, n.splatLike(x, n.real("alpha", 1.0)))
                    : x;
  n.output(0, n.make<ir::MulOp>(x, n.make<ir::SigmoidOp>(slope)));
}

/// The gate's Swish times the values.
void swiGlu(NodeContext &n) {
  Value gate = n.input(0), slope = multiply(n, gate, n.real("alpha", 1.0));
  n.output(0, n.make<ir::MulOp>(n.make<ir::MulOp>(gate, n.make<ir::SigmoidOp>(slope)), n.input(1)));
}

/// log(1 + e^x), without overflow: x/2 + |x|/2 + log(1 + e^-|x|). In this form its derivative at 0 is 1/2.
Value softplusOf(NodeContext &n, Value x) {
  Value size = n.make<ir::AbsOp>(x), positive = multiply(n, n.make<ir::AddOp>(x, size), 0.5);
  return n.make<ir::AddOp>(positive, n.make<ir::LogOp>(add(n, n.make<ir::ExpOp>(n.make<ir::NegOp>(size)), 1.0)));
}

void softplus(NodeContext &n) {
  n.output(0, softplusOf(n, n.input(0)));
}

void mish(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::MulOp>(x, n.make<ir::TanhOp>(softplusOf(n, x))));
}

void softsign(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::DivOp>(x, add(n, n.make<ir::AbsOp>(x), 1.0)));
}

/// `above` for x > 0, else `below`, of which what would overflow is never computed from a positive x.
Value piecewise(NodeContext &n, Value x, Value above, Value below) {
  return n.make<ir::SelectOp>(compare(n, ComparePredicate::GT, x, n.splatLike(x, 0.0)), above, below);
}

/// e^min(x, 0) - 1
Value saturating(NodeContext &n, Value x) {
  return add(n, n.make<ir::ExpOp>(n.make<ir::MinOp>(x, n.splatLike(x, 0.0))), -1.0);
}

void elu(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, piecewise(n, x, x, multiply(n, saturating(n, x), n.real("alpha", 1.0))));
}

void selu(NodeContext &n) {
  Value x = n.input(0);
  Value below = multiply(n, saturating(n, x), n.real("alpha", 1.67326319217681884765625));
  n.output(0, multiply(n, piecewise(n, x, x, below), n.real("gamma", 1.05070102214813232421875)));
}

void celu(NodeContext &n) {
  Value x = n.input(0);
  const double alpha = n.real("alpha", 1.0);
  n.output(0, piecewise(n, x, x, multiply(n, saturating(n, multiply(n, x, 1.0 / alpha)), alpha)));
}

void leakyRelu(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, piecewise(n, x, x, multiply(n, x, n.real("alpha", 0.01))));
}

void parametricRelu(NodeContext &n) {
  Value x = n.input(0), slope = n.input(1);
  n.output(0, n.failed() ? Value() : piecewise(n, x, x, n.make<ir::MulOp>(x, n.broadcastTo(slope, n.shape(x)))));
}

void thresholdedRelu(NodeContext &n) {
  Value x = n.input(0), zero = n.splatLike(x, 0.0);
  Value passes = compare(n, ComparePredicate::GT, x, n.splatLike(x, n.real("alpha", 1.0)));
  n.output(0, n.make<ir::SelectOp>(passes, x, zero));
}

/// 0 within the threshold, beyond it moved towards 0 by the bias.
void shrink(NodeContext &n) {
  Value x = n.input(0);
  const double threshold = n.real("lambd", 0.5), bias = n.real("bias", 0.0);
  Value above = compare(n, ComparePredicate::GT, x, n.splatLike(x, threshold));
  Value below = compare(n, ComparePredicate::LT, x, n.splatLike(x, -threshold));
  Value inner = n.make<ir::SelectOp>(below, add(n, x, bias), n.splatLike(x, 0.0));
  n.output(0, n.make<ir::SelectOp>(above, add(n, x, -bias), inner));
}

Value hardSigmoidOf(NodeContext &n, Value x, double alpha, double beta) {
  Value line = add(n, multiply(n, x, alpha), beta);
  return n.make<ir::MaxOp>(n.make<ir::MinOp>(line, n.splatLike(x, 1.0)), n.splatLike(x, 0.0));
}

void hardSigmoid(NodeContext &n) {
  n.output(0, hardSigmoidOf(n, n.input(0), n.real("alpha", 0.2), n.real("beta", 0.5)));
}

void hardSwish(NodeContext &n) {
  Value x = n.input(0);
  n.output(0, n.make<ir::MulOp>(x, hardSigmoidOf(n, x, 1.0 / 6.0, 0.5)));
}

constexpr OpEntry kOps[] = {
    {"", "Relu", 6, unary<ir::ReluOp>},
    {"", "Sigmoid", 6, unary<ir::SigmoidOp>},
    {"", "Gelu", 20, gelu},
    {"", "Swish", 24, silu},
    {"", "SwiGLU", 28, swiGlu},
    {"", "Softplus", 1, softplus},
    {"", "Mish", 18, mish},
    {"", "Softsign", 1, softsign},
    {"", "Elu", 6, elu},
    {"", "Selu", 6, selu},
    {"", "Celu", 12, celu},
    {"", "LeakyRelu", 6, leakyRelu},
    {"", "PRelu", 7, parametricRelu},
    {"", "ThresholdedRelu", 10, thresholdedRelu},
    {"", "Shrink", 9, shrink},
    {"", "HardSigmoid", 6, hardSigmoid},
    {"", "HardSwish", 14, hardSwish},
};

} // namespace

llvm::ArrayRef<OpEntry> activationOps() {
  return kOps;
}

} // namespace moe::frontend
