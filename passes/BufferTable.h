//===- BufferTable.h - Buffers and slots as attributes of a module ----------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//

//
// From `bufferize` on, the module attribute `moe.buffers` lists all buffers, and every operation that makes values says
// in `moe.slots` where its results lie: (buffer, byte offset) for each. Arguments have the attribute `moe.slot`.
//
//===----------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_PASSES_BUFFERTABLE_H
#define MOEC_PASSES_BUFFERTABLE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

#include <optional>
#include <string>
#include <vector>

namespace moe::ir {

inline constexpr llvm::StringLiteral kBuffersAttr = "moe.buffers";
inline constexpr llvm::StringLiteral kSlotsAttr = "moe.slots";
inline constexpr llvm::StringLiteral kSlotAttr = "moe.slot";
/// Buffer of an operation's scratch.
inline constexpr llvm::StringLiteral kScratchAttr = "moe.scratch";
/// Bytes of scratch, written by `select`.
inline constexpr llvm::StringLiteral kScratchBytesAttr = "moe.scratch_bytes";
/// On a `moe.write` whose value is not computed in place: the value is copied.
inline constexpr llvm::StringLiteral kCopyAttr = "moe.copy";
/// Lane of an operation that is a step, written by `schedule`. Collectives that exchange data have one of their own:
/// they are started where they stand, and `moe.done` is where computation waits for them.
inline constexpr llvm::StringLiteral kLaneAttr = "moe.lane";
inline constexpr int64_t kComputeLane = 0, kCommunicationLane = 1;
/// On a function: peak bytes of values that are live at once, the lower bound of its step arena.
inline constexpr llvm::StringLiteral kLowerBoundAttr = "moe.live_lower_bound";

/// Name of a location as users know it: the ONNX value; empty if it has none.
std::string locationName(mlir::Location loc);

enum class ArenaClass { State, Gradients, Step, Staging };
llvm::StringRef arenaName(ArenaClass arena);

/// Memory alignment of buffers in arenas.
inline constexpr uint64_t kBufferAlignment = 64;

struct BufferEntry {
  std::string name;
  ArenaClass arena = ArenaClass::Step;
  /// Function whose step arena holds the buffer; empty for the other arenas.
  std::string program;
  uint64_t bytes = 0;
  /// Offset in the arena; set by `place`.
  std::optional<uint64_t> offset;
};

struct Slot {
  int64_t buffer = -1;
  int64_t offset = 0;
  bool operator==(const Slot &) const = default;
};

struct BufferTable {
  std::vector<BufferEntry> buffers;

  static mlir::FailureOr<BufferTable> read(mlir::ModuleOp module);
  void write(mlir::ModuleOp module) const;
  int64_t add(BufferEntry entry);
};

/// Slots of all values of `function`, read from its attributes.
mlir::FailureOr<llvm::DenseMap<mlir::Value, Slot>> readSlots(mlir::func::FuncOp function);

/// For every step arena buffer of `function`: first and last position (operation index in the block; the terminator
/// counts) at which it holds something.
struct Lifetime {
  int64_t first = -1, last = -1;
};
mlir::FailureOr<llvm::DenseMap<int64_t, Lifetime>> lifetimes(mlir::func::FuncOp function, const BufferTable &table);

} // namespace moe::ir

#endif // MOEC_PASSES_BUFFERTABLE_H
