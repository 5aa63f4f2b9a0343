//===- EmitPlan.cpp - A module after place becomes a plan file --------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "codegen/plan/EmitPlan.h"

#include "codegen/plan/StateTable.h"
#include "codegen/plan/StepEmitter.h"
#include "codegen/targets/Targets.h"
#include "passes/TrainingAttributes.h"

#include <xxhash.h>

using namespace mlir;
using namespace moe::ir;

namespace moe::codegen {

namespace {

void fillArenas(const BufferTable &table, const plan::Certificate &certificate, plan::Plan &plan) {
  llvm::DenseMap<int, uint32_t> arenaIndex;
  for (const plan::Certificate::Class &entry : certificate.classes()) {
    for (ArenaClass arena : {ArenaClass::State, ArenaClass::Gradients, ArenaClass::Step, ArenaClass::Staging}) {
      if (arenaName(arena) != entry.name())
        continue;
      arenaIndex[static_cast<int>(arena)] = static_cast<uint32_t>(plan.arenas_size());
      plan::Arena *out = plan.add_arenas();
      out->set_name(entry.name());
      constexpr plan::Arena::Class classes[] = {plan::Arena::STATE, plan::Arena::GRADIENTS, plan::Arena::STEP,
                                                plan::Arena::STAGING};
      out->set_class_(classes[static_cast<int>(arena)]);
      out->set_bytes(entry.bytes());
      out->set_alignment(4096);
    }
  }
  for (const BufferEntry &buffer : table.buffers) {
    plan::Buffer *out = plan.add_buffers();
    out->set_name(buffer.name);
    out->set_arena(arenaIndex.lookup(static_cast<int>(buffer.arena)));
    out->set_offset(buffer.offset.value_or(0));
    out->set_bytes(buffer.bytes);
  }
}

/// `moe.model` and the recipe.
void fillHeader(ModuleOp module, const EmitPlanOptions &options, plan::Plan &plan) {
  plan::Header *header = plan.mutable_header();
  header->set_producer(options.producer);
  header->set_recipe(options.recipe);
  header->set_recipe_digest(XXH3_64bits(options.recipe.data(), options.recipe.size()));
  header->set_routing_groups(1);
  auto model = module->getAttrOfType<DictionaryAttr>("moe.model");
  if (!model)
    return;
  if (auto path = model.getAs<StringAttr>("path"))
    header->mutable_model()->set_path(path.str());
  if (auto bytes = model.getAs<IntegerAttr>("bytes"))
    header->mutable_model()->set_bytes(static_cast<uint64_t>(bytes.getInt()));
  if (auto digest = model.getAs<IntegerAttr>("digest"))
    header->mutable_model()->set_digest(static_cast<uint64_t>(digest.getInt()));
  if (auto groups = model.getAs<IntegerAttr>("routing_groups"))
    header->set_routing_groups(groups.getInt());
}

void fillTarget(ModuleOp module, const KernelTarget &machine, plan::Plan &plan) {
  plan::Target *target = plan.mutable_target();
  target->set_device(machine.device().str());
  target->set_name(machine.name().str());
  for (const std::string &feature : machine.features())
    target->add_features(feature);
  target->set_threads(machine.threads());
  if (auto mesh = module->getAttrOfType<MeshAttr>("moe.mesh"))
    for (auto [axis, size] : llvm::zip_equal(mesh.getAxes(), mesh.getSizes())) {
      plan::MeshAxis *out = plan.add_mesh();
      out->set_name(axis.str());
      out->set_size(size);
    }
}

LogicalResult compileKernels(KernelCompiler &compiler, llvm::ArrayRef<StepEmitter::Parameters> parameters,
                             const EmitPlanOptions &options, PlanFile &file) {
  if (compiler.kernels().empty())
    return success();
  CompileOptions compileOptions;
  compileOptions.threads = options.compileThreads;
  FailureOr<KernelImage> image = compiler.compile(compileOptions);
  if (failed(image))
    return failure();
  plan::Image *out = file.plan.add_images();
  out->set_format(image->format);
  out->set_bytes(image->bytes.size());
  file.blobs.push_back(std::move(image->bytes));
  for (auto [kernel, uses] : llvm::zip_equal(compiler.kernels(), parameters)) {
    plan::Kernel *entry = file.plan.add_kernels();
    entry->set_symbol(kernel.symbol);
    entry->set_image(0);
    entry->set_emitter(kernel.emitter);
    entry->set_structural_hash(kernel.structuralHash);
    entry->set_numbers(kernel.numbers);
    for (const plan::KernelParameter &use : uses)
      *entry->add_parameters() = use;
  }
  return success();
}

} // namespace

FailureOr<PlanFile> emitPlan(ModuleOp module, const EmitPlanOptions &options) {
  FailureOr<BufferTable> table = BufferTable::read(module);
  FailureOr<TrainingAttributes> training = TrainingAttributes::read(module);
  auto targetName = module->getAttrOfType<StringAttr>("moe.target");
  auto threads = module->getAttrOfType<IntegerAttr>("moe.threads");
  if (failed(table) || failed(training))
    return failure();
  std::string error;
  std::unique_ptr<KernelTarget> machine =
      targetName && threads ? createTarget(targetName.getValue(), threads.getInt(), error) : nullptr;
  if (!machine)
    return module.emitError() << (error.empty() ? "the module has not passed select" : error);
  FailureOr<plan::Certificate> certificate = makeCertificate(module);
  if (failed(certificate))
    return failure();

  PlanFile file;
  *file.plan.mutable_certificate() = *certificate;
  fillHeader(module, options, file.plan);
  fillTarget(module, *machine, file.plan);
  fillArenas(*table, *certificate, file.plan);
  if (failed(fillStateTables(module, *table, *training, file.plan)))
    return failure();

  KernelCompiler compiler(module.getContext(), *machine);
  StepEmitter steps(module, *table, compiler);
  for (auto function : module.getOps<func::FuncOp>())
    if (failed(steps.emit(function, *file.plan.add_programs())))
      return failure();
  if (failed(compileKernels(compiler, steps.kernelParameters(), options, file)))
    return failure();
  return file;
}

} // namespace moe::codegen
