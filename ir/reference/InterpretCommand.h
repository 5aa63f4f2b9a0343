//===- InterpretCommand.h - moe-opt --interpret -----------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_IR_REFERENCE_INTERPRETCOMMAND_H
#define MOEC_IR_REFERENCE_INTERPRETCOMMAND_H

namespace mlir {
class DialectRegistry;
}

namespace moe::ir {

/// `moe-opt FILE --interpret[=FUNCTION] [--float64]`: runs a function (default: the only one, or `main`) and prints its
/// results, one line each. Arguments are filled with a fixed sequence: element i of argument a is
/// ((i + 31 a) * 37 mod 101 - 50) / 50 for floats and (i + a) mod 5 for integers. Returns the exit code.
int runInterpretCommand(mlir::DialectRegistry &registry, int argc, char **argv);

} // namespace moe::ir

#endif // MOEC_IR_REFERENCE_INTERPRETCOMMAND_H
