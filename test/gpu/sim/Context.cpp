//===- Context.cpp ------------------------------------------------------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "test/gpu/sim/Context.h"

#include <cstdint>
#include <sys/mman.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOE_SIM_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define MOE_SIM_ASAN 1
#endif

#ifdef MOE_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// moe_sim_switch(void **save, void *load): registers that calls preserve go below the stack pointer, which goes to
// *save; then the same backwards from `load`. Rounding modes (mxcsr, x87) are the same in all contexts.
asm(R"(
.text
.p2align 4
.globl moe_sim_switch
.hidden moe_sim_switch
.type moe_sim_switch, @function
moe_sim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size moe_sim_switch, .-moe_sim_switch
)");

extern "C" void moe_sim_switch(void **save, void *load);

namespace moe::sim {
namespace {

#ifdef MOE_SIM_ASAN
constexpr size_t stackBytes = 256 * 1024; // frames are several times as large
#else
constexpr size_t stackBytes = 64 * 1024;
#endif
constexpr size_t guardBytes = 4096;

} // namespace

thread_local Context *Context::leaving = nullptr;
thread_local Context *Context::arriving = nullptr;

Context::~Context() {
  if (stack)
    munmap(stack, guardBytes + stackBytes);
}

bool Context::allocate() {
  void *memory = mmap(nullptr, guardBytes + stackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return false;
  mprotect(memory, guardBytes, PROT_NONE);
  stack = static_cast<unsigned char *>(memory);
  bottom = stack + guardBytes;
  size = stackBytes;
  return true;
}

void Context::prepare(void (*function)(void *), void *data) {
  entry = function;
  argument = data;
  fakeStack = nullptr;
#ifdef MOE_SIM_ASAN
  ASAN_UNPOISON_MEMORY_REGION(bottom, size); // what an abandoned grid left
#endif
  // Six registers and the address that `ret` takes; above it the word in which a caller would have left its own, so
  // that `enter` finds the stack aligned as a call leaves it.
  auto *top = reinterpret_cast<uintptr_t *>(stack + guardBytes + stackBytes);
  top[-1] = 0;
  top[-2] = reinterpret_cast<uintptr_t>(&Context::enter);
  for (int i = 3; i <= 8; ++i)
    top[-i] = 0;
  stackPointer = top - 8;
}

void Context::arrived() {
#ifdef MOE_SIM_ASAN
  const void *previousBottom = nullptr;
  size_t previousSize = 0;
  __sanitizer_finish_switch_fiber(fakeStack, &previousBottom, &previousSize);
  if (!leaving->hasStack()) { // the host thread's own: only now do we learn where it is
    leaving->bottom = previousBottom;
    leaving->size = previousSize;
  }
#endif
}

void Context::enter() {
  Context *self = arriving;
  self->arrived();
  self->entry(self->argument);
  __builtin_trap();
}

void Context::switchTo(Context &from, Context &to, bool forGood) {
  leaving = &from;
  arriving = &to;
#ifdef MOE_SIM_ASAN
  __sanitizer_start_switch_fiber(forGood ? nullptr : &from.fakeStack, to.bottom, to.size);
#endif
  moe_sim_switch(&from.stackPointer, to.stackPointer);
  from.arrived();
}

} // namespace moe::sim
