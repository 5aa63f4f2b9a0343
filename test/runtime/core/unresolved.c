//===- unresolved.c - A library that calls what nobody defines ----------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===--------------------------------------------------------------------------------------------------------------===//

#include "runtime/abi/KernelAbi.h"

#include <string.h>

void moe_missing_one(void);
void moe_missing_two(void);

void kernel(const MoeKernelArgs *args, int64_t begin, int64_t end) {
  memset(args->pointers[0], 0, (size_t)end);
  moe_missing_one();
  moe_missing_two();
}
