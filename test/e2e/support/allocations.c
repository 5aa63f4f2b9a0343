/*===- allocations.c - Count who allocates -----------------------------------------------------------------------===*\
|*
|* Part of the moec project, under the Apache License v2.0.
|*
|*===------------------------------------------------------------------------------------------------------------===*|
|*
|* A library for LD_PRELOAD. It counts the calls that allocate and free memory by the library that makes them, and
writes
|* lines "LIBRARY ALLOCATIONS FREES" into the file that MOE_ALLOCATIONS names when the program ends. C++'s operators are
|* replaced as well, as the calls of malloc in libstdc++ would hide who wanted the memory.
|*
\*===------------------------------------------------------------------------------------------------------------===*/

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What glibc's own functions are called for those who replace them. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

enum { kCallers = 1 << 14, kNameLength = 48 };

/* One per address from which memory functions are called. Names are looked up at the first call: the library may have
   been closed when the program ends. */
static struct {
  _Atomic uintptr_t address;
  _Atomic long allocations, frees;
  char library[kNameLength];
} callers[kCallers];
static _Atomic long overflow;

static void count(void *address, int allocations, int frees) {
  uintptr_t key = (uintptr_t)address;
  for (uintptr_t i = key * UINT64_C(0x9e3779b97f4a7c15) >> 50, tries = 0; tries < kCallers; ++tries) {
    uintptr_t seen = atomic_load(&callers[i].address);
    if (seen == 0 && atomic_compare_exchange_strong(&callers[i].address, &seen, key)) {
      Dl_info info;
      const char *name = dladdr(address, &info) && info.dli_fname ? info.dli_fname : "?";
      const char *slash = strrchr(name, '/');
      strncpy(callers[i].library, slash ? slash + 1 : name, kNameLength - 1);
      seen = key;
    }
    if (seen == key) {
      atomic_fetch_add(&callers[i].allocations, allocations);
      atomic_fetch_add(&callers[i].frees, frees);
      return;
    }
    i = (i + 1) % kCallers;
  }
  atomic_fetch_add(&overflow, 1);
}

#define HERE __builtin_return_address(0)

void *malloc(size_t bytes) {
  count(HERE, 1, 0);
  return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
  count(HERE, 1, 0);
  return __libc_calloc(n, bytes);
}

void *realloc(void *old, size_t bytes) {
  count(HERE, bytes != 0 || !old, old != NULL);
  return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
  count(HERE, 1, 0);
  return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  count(HERE, 1, 0);
  return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **result, size_t alignment, size_t bytes) {
  count(HERE, 1, 0);
  void *memory = __libc_memalign(alignment, bytes);
  if (!memory)
    return ENOMEM;
  *result = memory;
  return 0;
}

void free(void *memory) {
  if (memory)
    count(HERE, 0, 1);
  __libc_free(memory);
}

/* operator new and delete by their mangled names: plain, array, nothrow (R), aligned (A). */
#define NEW(NAME, ...)                                                                                                 \
  void *NAME(size_t bytes, ##__VA_ARGS__);                                                                             \
  void *NAME(size_t bytes, ##__VA_ARGS__)
#define DELETE(NAME, ...)                                                                                              \
  void NAME(void *memory, ##__VA_ARGS__);                                                                              \
  void NAME(void *memory, ##__VA_ARGS__) {                                                                             \
    if (memory)                                                                                                        \
      count(HERE, 0, 1);                                                                                               \
    __libc_free(memory);                                                                                               \
  }

static void *allocate(void *caller, size_t alignment, size_t bytes, int mayFail) {
  count(caller, 1, 0);
  void *memory = alignment ? __libc_memalign(alignment, bytes) : __libc_malloc(bytes);
  if (!memory && !mayFail)
    abort();
  return memory;
}

NEW(_Znwm) {
  return allocate(HERE, 0, bytes, 0);
}
NEW(_Znam) {
  return allocate(HERE, 0, bytes, 0);
}
NEW(_ZnwmRKSt9nothrow_t, const void *tag) {
  return allocate(HERE, 0, bytes, 1);
}
NEW(_ZnamRKSt9nothrow_t, const void *tag) {
  return allocate(HERE, 0, bytes, 1);
}
NEW(_ZnwmSt11align_val_t, size_t alignment) {
  return allocate(HERE, alignment, bytes, 0);
}
NEW(_ZnamSt11align_val_t, size_t alignment) {
  return allocate(HERE, alignment, bytes, 0);
}
DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvm, size_t bytes)
DELETE(_ZdaPvm, size_t bytes)
DELETE(_ZdlPvSt11align_val_t, size_t alignment)
DELETE(_ZdaPvSt11align_val_t, size_t alignment)
DELETE(_ZdlPvmSt11align_val_t, size_t bytes, size_t alignment)
DELETE(_ZdaPvmSt11align_val_t, size_t bytes, size_t alignment)

__attribute__((destructor)) static void report(void) {
  const char *path = getenv("MOE_ALLOCATIONS");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (!file)
    return;
  for (int i = 0; i < kCallers; ++i)
    if (callers[i].allocations || callers[i].frees)
      fprintf(file, "%s %ld %ld\n", callers[i].library[0] ? callers[i].library : "?", callers[i].allocations,
              callers[i].frees);
  if (overflow)
    fprintf(file, "overflow %ld 0\n", overflow);
  fclose(file);
}
