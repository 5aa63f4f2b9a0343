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

/// `moe-opt FILE --interpret[=FUNCTION,…] [--states=PREFIX,…] [--float64]`: runs functions (default: the only one, or
/// `main`) one after the other on the same state and prints their results, one line each, then `NAME = values` for each
/// state whose name starts with one of the prefixes, in the order of the module. Arguments are filled with a fixed
/// sequence: element i of argument a is ((i + 31 a) * 37 mod 101 - 50) / 50 for floats, (i + a) mod 5 for integers and
/// (i + a) mod 2 for booleans. A state that would be drawn or loaded from a file is filled like the argument of its
/// position in the module. Returns the exit code.
int runInterpretCommand(mlir::DialectRegistry &registry, int argc, char **argv);

} // namespace moe::ir

#endif // MOEC_IR_REFERENCE_INTERPRETCOMMAND_H
