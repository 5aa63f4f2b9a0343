//===- Lanes.h - Waits and signals between the lanes of a program -----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_CODEGEN_PLAN_LANES_H
#define MOEC_CODEGEN_PLAN_LANES_H

#include "ir/Ops.h"
#include "runtime/plan/plan.pb.h"

namespace moe::codegen {

/// Distributes the steps of one program among lanes as its operations come.
///
/// A collective that is started waits for the last step of computation before it: for what makes its operands, and for
/// all that used the memory of its results before. The first step of computation after `moe.done` waits for the
/// collective. What is ordered already, since a lane keeps its order, is not waited for again; what nobody waits for
/// raises no signal.
class Lanes {
public:
  /// `program` must outlive this; steps that it has already are those of its inputs.
  explicit Lanes(plan::Program &program) : program(program) {}

  /// The steps that have been added since the last call are those of `op`. Of a collective in another lane it is the
  /// last one that communicates; those before it prepare its operands.
  void take(mlir::Operation *op);

private:
  void compute(int step);
  void start(int step, uint32_t lane);
  void await(int step, int earlier);

  plan::Program &program;
  /// Steps of the collectives that have been started.
  llvm::DenseMap<mlir::Operation *, int> started;
  int taken = 0;
  /// Steps: the last one of computation; the last collective that is done; the last ones that the lane of computation
  /// and that of communication have waited for.
  int lastComputed = -1, lastDone = -1, computeAwaited = -1, communicationAwaited = -1;
};

} // namespace moe::codegen

#endif // MOEC_CODEGEN_PLAN_LANES_H
