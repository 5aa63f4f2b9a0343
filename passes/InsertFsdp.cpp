//===- InsertFsdp.cpp - State in parts, gathered where it is used -------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

#include "ir/Reshard.h"
#include "passes/Buckets.h"
#include "passes/Passes.h"
#include "passes/TrainingAttributes.h"
#include "llvm/ADT/DenseMap.h"

using namespace mlir;

namespace moe::ir {

#define GEN_PASS_DEF_INSERTFSDP
#include "passes/Passes.h.inc"

namespace {

struct InsertFsdpPass : impl::InsertFsdpBase<InsertFsdpPass> {
  using InsertFsdpBase::InsertFsdpBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (mode != "off" && mode != "optimizer" && mode != "full") {
      module.emitError() << "unknown --fsdp '" << mode << "'; there are off, optimizer, full";
      return signalPassFailure();
    }
    MeshAttr mesh = MeshAttr::of(module);
    if (!mesh) {
      module.emitError("insert-fsdp needs a mesh; run shard first");
      return signalPassFailure();
    }
    if (mode == "off" || mesh.ranks() == 1)
      return;
    module->setAttr(kFsdpAttr, StringAttr::get(&getContext(), mode));
    if (mode != "full")
      return;
    std::vector<BucketMembers> buckets = groupParameters(module, /*split=*/true);
    for (auto [i, bucket] : llvm::enumerate(buckets)) {
      const std::string name = "bucket." + std::to_string(i);
      declareBucket(module, name, splitBucket(bucket.type, mesh), StateKind::Parameter, bucket.states, bucket.offsets);
      for (auto function : module.getOps<func::FuncOp>())
        if (function->hasAttr(kProgramAttr) && failed(gather(function, name, bucket, mesh)))
          return signalPassFailure();
    }
  }

  /// The first operation that uses the result of one of `reads`, and these if nothing does.
  static Operation *firstUse(ArrayRef<ReadOp> reads) {
    Operation *first = nullptr;
    for (ReadOp read : reads)
      for (Operation *user : read->getUsers())
        if (!first || user->isBeforeInBlock(first))
          first = user;
    return first ? first : ReadOp(reads.front()).getOperation();
  }

  /// Reads of members become members of the gathered bucket. It is gathered where the first of them is used, hence its
  /// gradient is reduced where the backward of that is done.
  LogicalResult gather(func::FuncOp function, StringRef name, const BucketMembers &bucket, MeshAttr mesh) {
    llvm::DenseMap<StringRef, size_t> index;
    for (auto [i, member] : llvm::enumerate(bucket.states))
      index[StateOp(member).getSymName()] = i;
    SmallVector<ReadOp> reads;
    for (auto read : function.getOps<ReadOp>())
      if (index.count(read.getState()))
        reads.push_back(read);
    if (reads.empty())
      return success();
    OpBuilder builder(firstUse(reads));
    Location loc = NameLoc::get(builder.getStringAttr(name));
    Value part = ReadOp::create(builder, loc, splitBucket(bucket.type, mesh), name);
    FailureOr<Value> whole = reshard(builder, part, cast<LayoutAttr>(bucket.type.getEncoding()), mesh, getArgument());
    if (failed(whole))
      return failure();
    SmallVector<Type> types;
    for (StateOp member : bucket.states)
      types.push_back(member.getTensorType());
    auto split = BucketSplitOp::create(builder, loc, types, *whole, bucket.offsets);
    for (ReadOp read : reads) {
      read.getResult().replaceAllUsesWith(split.getMembers()[index[read.getState()]]);
      read.erase();
    }
    return success();
  }
};

} // namespace
} // namespace moe::ir
