//===- StepEmitter.cpp - Operations with slots become plan steps ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/plan/StepEmitter.h"

#include "codegen/analysis/Product.h"
#include "codegen/plan/Lanes.h"
#include "codegen/plan/PlanLayout.h"
#include "codegen/plan/Work.h"
#include "ir/RetypeTensors.h"
#include "passes/TrainingAttributes.h"
#include "runtime/plan/Collectives.h"

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

void setSlice(plan::Slice *slice, Slot slot, uint64_t bytes) {
  slice->set_buffer(static_cast<uint32_t>(slot.buffer));
  slice->set_offset(static_cast<uint64_t>(slot.offset));
  slice->set_bytes(bytes);
}

namespace {

plan::Operand *addOperand(plan::Step &step, RankedTensorType type, Slot slot, plan::Operand::Access access) {
  plan::Operand *operand = step.add_operands();
  setSlice(operand->mutable_slice(), slot, tensorBytes(type));
  operand->set_access(access);
  operand->set_dtype(toPlanType(type.getElementType()));
  for (int64_t extent : type.getShape())
    operand->add_shape(extent);
  return operand;
}

void addScratch(plan::Step &step, Operation *op, uint64_t bytes, plan::Operand::Access access) {
  plan::Operand *operand = step.add_operands();
  setSlice(operand->mutable_slice(), {op->getAttrOfType<IntegerAttr>(kScratchAttr).getInt(), 0}, bytes);
  operand->set_access(access);
}

} // namespace

StepEmitter::StepEmitter(ModuleOp module, const BufferTable &table, KernelCompiler &compiler)
    : module(module), table(table), compiler(compiler), aliases(module) {
  for (auto [i, buffer] : llvm::enumerate(table.buffers))
    if (buffer.arena == ArenaClass::State || buffer.arena == ArenaClass::Gradients)
      stateBuffers[buffer.name] = static_cast<int64_t>(i);
}

LogicalResult StepEmitter::emit(func::FuncOp function, plan::Program &program) {
  FailureOr<llvm::DenseMap<Value, Slot>> found = readSlots(function);
  if (failed(found))
    return failure();
  slots = std::move(*found);
  program.set_name(function.getSymName().str());
  if (failed(emitStagedInputs(function, program)))
    return failure();
  Lanes lanes(program);
  for (Operation &op : function.getBody().front().without_terminator()) {
    if (failed(emitOp(&op, program)))
      return failure();
    lanes.take(&op);
  }
  Operation *terminator = function.getBody().front().getTerminator();
  for (auto [i, value] : llvm::enumerate(terminator->getOperands())) {
    plan::Output *output = program.add_outputs();
    auto name = function.getResultAttrOfType<StringAttr>(i, kNameAttr);
    output->set_name(name ? name.str() : std::to_string(i));
    output->set_dtype(toPlanType(typeOf(value).getElementType()));
    setLayout(module, typeOf(value), function.getResultAttrOfType<LayoutAttr>(i, kLayoutAttr), *output);
    setSlice(output->mutable_slice(), slots[value], tensorBytes(typeOf(value)));
  }
  program.set_collectives(collectiveDigest(program));
  return success();
}

LogicalResult StepEmitter::emitStagedInputs(func::FuncOp function, plan::Program &program) {
  std::optional<Slot> progress;
  for (BlockArgument argument : function.getArguments()) {
    Slot slot = slots[argument];
    if (table.buffers[slot.buffer].arena != ArenaClass::Step)
      continue;
    if (!progress) {
      auto state = module.lookupSymbol<StateOp>(kProgressState);
      if (!state)
        return function.emitError() << "reads one of several micro-batches, but there is no state " << kProgressState;
      progress = Slot{stateBuffers.at(kProgressState), 0};
    }
    auto type = cast<RankedTensorType>(argument.getType());
    auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(), kNameAttr);
    plan::Step *step = program.add_steps();
    step->set_name(name.str());
    for (auto [i, buffer] : llvm::enumerate(table.buffers))
      if (buffer.arena == ArenaClass::Staging && buffer.name == name.getValue()) {
        plan::Operand *source = step->add_operands();
        setSlice(source->mutable_slice(), {static_cast<int64_t>(i), 0}, buffer.bytes);
        source->set_access(plan::Operand::READ);
        source->set_dtype(toPlanType(type.getElementType()));
      }
    addOperand(*step, type, slot, plan::Operand::WRITE);
    // The second number of the progress is the index of the micro-batch.
    plan::Operand *index = step->add_operands();
    setSlice(index->mutable_slice(), {progress->buffer, sizeof(int64_t)}, sizeof(int64_t));
    index->set_access(plan::Operand::READ);
    index->set_dtype(plan::I64);
    step->mutable_copy()->set_index(true);
  }
  return success();
}

LogicalResult StepEmitter::emitOp(Operation *op, plan::Program &program) {
  switch (cast<MoeOpInterface>(op).getBufferUse().kind) {
  case BufferUse::Kind::View:
  case BufferUse::Kind::Read:
    return success();
  case BufferUse::Kind::Write:
    if (op->hasAttr(kCopyAttr)) {
      auto write = cast<WriteOp>(op);
      StateAliases::Place place = aliases.place(write.getStateAttr());
      unsigned width = elementBytes(place.state.getTensorType().getElementType());
      emitCopy(op, typeOf(write.getValue()), slots[write.getValue()],
               {stateBuffers.at(place.storage.getValue()), place.offset * width}, program);
    }
    return success();
  case BufferUse::Kind::Compute:
    break;
  }
  if (auto join = dyn_cast<BucketJoinOp>(op)) {
    emitJoin(join, program);
    return success();
  }
  if (auto fused = dyn_cast<FusedOp>(op))
    return isProduct(fused) ? emitProduct(fused, program) : emitFused(fused, program);
  return emitLibrary(op, program);
}

void StepEmitter::emitCopy(Operation *op, RankedTensorType type, Slot from, Slot to, plan::Program &program) {
  plan::Step *step = program.add_steps();
  step->set_name(locationName(op->getLoc()));
  step->mutable_copy();
  addOperand(*step, type, from, plan::Operand::READ);
  addOperand(*step, type, to, plan::Operand::WRITE);
}

void StepEmitter::emitJoin(BucketJoinOp op, plan::Program &program) {
  const Slot bucket = slots[op.getBucket()];
  const unsigned width = elementBytes(op.getType().getElementType());
  plan::Step *fill = program.add_steps();
  fill->set_name(locationName(op->getLoc()));
  fill->mutable_fill();
  addOperand(*fill, op.getType(), bucket, plan::Operand::WRITE);
  for (auto [member, offset] : llvm::zip_equal(op.getMembers(), op.getOffsets()))
    emitCopy(op, typeOf(member), slots[member], {bucket.buffer, bucket.offset + offset * width}, program);
}

LogicalResult StepEmitter::emitFused(FusedOp op, plan::Program &program) {
  FailureOr<llvm::SmallVector<unsigned, 2>> kernels = compiler.add(op);
  FailureOr<FusedPlan> plan = compiler.getTarget().plan(op);
  if (failed(kernels) || failed(plan))
    return failure();
  for (auto [number, call] : llvm::enumerate(plan->calls)) {
    plan::Step *step = program.add_steps();
    step->set_name(locationName(op.getLoc()));
    step->set_flops(number == 0 ? plan->cost.flops : 0);
    plan::KernelCall *kernel = step->mutable_kernel();
    kernel->set_kernel((*kernels)[number]);
    if (call.blocks > 0) {
      kernel->mutable_launch()->set_blocks(call.blocks);
      kernel->mutable_launch()->set_threads(call.threads);
      kernel->mutable_launch()->set_shared_bytes(call.sharedBytes);
    } else {
      kernel->set_extent(call.extent);
      kernel->set_grain(call.grain);
    }
    kernel->mutable_numbers()->Assign(plan->numbers.begin(), plan->numbers.end());
    Parameters uses;
    for (const PlannedOperand &planned : call.operands)
      addPointer(op, *plan, number, planned, *step, uses);
    if (parameters.size() <= kernel->kernel())
      parameters.resize(kernel->kernel() + 1);
    parameters[kernel->kernel()] = std::move(uses);
  }
  return success();
}

void StepEmitter::addPointer(FusedOp op, const FusedPlan &plan, unsigned call, const PlannedOperand &planned,
                             plan::Step &step, Parameters &uses) {
  plan::KernelCall *kernel = step.mutable_kernel();
  plan::KernelParameter &use = uses.emplace_back();
  if (planned.kind == PlannedOperand::Kind::Scratch) {
    kernel->add_pointers(step.operands_size());
    use.set_access(plan.calls.size() == 1 ? plan::Operand::SCRATCH
                   : call == 0            ? plan::Operand::WRITE
                                          : plan::Operand::READ);
    use.set_bytes(plan.scratchBytes);
    return addScratch(step, op, plan.scratchBytes, use.access());
  }
  bool isInput = planned.kind == PlannedOperand::Kind::Input;
  Value value = isInput ? op.getInputs()[planned.index] : op.getOutputs()[planned.index];
  Slot slot = slots[value];
  use.set_access(isInput ? plan::Operand::READ : plan::Operand::WRITE);
  use.set_bytes(tensorBytes(typeOf(value)));
  // An output that lies in an input's memory is the same operand, read and written.
  for (int i = 0; i < step.operands_size(); ++i) {
    plan::Operand &operand = *step.mutable_operands(i);
    const plan::Slice &slice = operand.slice();
    if (slice.buffer() != slot.buffer || slice.offset() != static_cast<uint64_t>(slot.offset) ||
        slice.bytes() != use.bytes())
      continue;
    if (operand.access() != use.access())
      operand.set_access(plan::Operand::READ_WRITE);
    return kernel->add_pointers(i);
  }
  kernel->add_pointers(step.operands_size());
  addOperand(step, typeOf(value), slot, use.access());
}

LogicalResult StepEmitter::emitLibrary(Operation *op, plan::Program &program) {
  BufferUse use = cast<MoeOpInterface>(op).getBufferUse();
  if (use.mustBeInPlace && op->hasAttr(kCopyAttr))
    for (auto [result, operand] : use.inPlace)
      emitCopy(op, typeOf(op->getResult(result)), slots[op->getOperand(operand)], slots[op->getResult(result)],
               program);
  plan::Step *step = program.add_steps();
  step->set_name(locationName(op->getLoc()));
  if (failed(fillLibraryWork(op, compiler.getTarget(), *step)))
    return failure();
  auto updated = [&](bool result, unsigned index) {
    return use.mustBeInPlace &&
           llvm::any_of(use.inPlace, [&](auto pair) { return (result ? pair.first : pair.second) == index; });
  };
  for (auto [i, operand] : llvm::enumerate(op->getOperands()))
    if (!updated(false, i))
      addOperand(*step, typeOf(operand), slots[operand], plan::Operand::READ);
  for (auto [i, result] : llvm::enumerate(op->getResults()))
    addOperand(*step, typeOf(result), slots[result],
               updated(true, i) ? plan::Operand::READ_WRITE : plan::Operand::WRITE);
  if (uint64_t bytes = scratchBytes(*step))
    addScratch(*step, op, bytes, plan::Operand::SCRATCH);
  return success();
}

LogicalResult StepEmitter::emitProduct(FusedOp op, plan::Program &program) {
  FailureOr<Product> product = Product::of(op);
  if (failed(product))
    return op.emitOpError("does not hold what a library computes with a matrix product");
  Value result = op.getOutputs()[0];
  if (product->accumulator)
    if (Value sum = op.getInputs()[*product->accumulator]; slots[sum] != slots[result])
      emitCopy(op, typeOf(sum), slots[sum], slots[result], program);
  plan::Step *step = program.add_steps();
  step->set_name(locationName(op.getLoc()));
  if (failed(fillLibraryWork(op, compiler.getTarget(), *step)))
    return failure();
  auto read = [&](unsigned input) {
    Value value = op.getInputs()[input];
    addOperand(*step, typeOf(value), slots[value], plan::Operand::READ);
  };
  read(product->lhs);
  read(product->rhs);
  addOperand(*step, typeOf(result), slots[result],
             product->accumulator ? plan::Operand::READ_WRITE : plan::Operand::WRITE);
  if (product->bias)
    read(*product->bias);
  if (uint64_t bytes = scratchBytes(*step))
    addScratch(*step, op, bytes, plan::Operand::SCRATCH);
  return success();
}

} // namespace moe::codegen
