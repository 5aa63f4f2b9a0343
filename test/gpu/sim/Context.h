//===- Context.h - Stacks and the switch between them -------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//
//
// x86-64, System V. A context that does not run is its stack pointer, below which lie the registers that a function
// call preserves. AddressSanitizer is told of every switch.
//
//===--------------------------------------------------------------------------------------------------------------===//

#ifndef MOEC_TEST_GPU_SIM_CONTEXT_H
#define MOEC_TEST_GPU_SIM_CONTEXT_H

#include <cstddef>

namespace moe::sim {

/// A place to run: the stack of the host thread (default-constructed) or one of its own.
class Context {
public:
  Context() = default;
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;
  ~Context();

  /// Whether it has a stack of its own; `allocate` gives it one (false: out of memory), an inaccessible page below it.
  bool hasStack() const { return stack != nullptr; }
  bool allocate();

  /// The next switch to this context calls `entry(argument)` on an empty stack; `entry` never returns.
  void prepare(void (*entry)(void *), void *argument);

  /// Leaves `from`, which runs, and continues `to`. With `forGood`, `from` will be prepared anew before it runs again.
  static void switchTo(Context &from, Context &to, bool forGood = false);

private:
  static void enter();
  void arrived();
  static thread_local Context *leaving, *arriving; ///< for the first moments on the other stack

  void *stackPointer = nullptr;
  unsigned char *stack = nullptr; ///< lowest byte, that of the inaccessible page
  void (*entry)(void *) = nullptr;
  void *argument = nullptr;
  // For AddressSanitizer:
  void *fakeStack = nullptr;
  const void *bottom = nullptr; ///< of the stack
  size_t size = 0;
};

} // namespace moe::sim

#endif // MOEC_TEST_GPU_SIM_CONTEXT_H
