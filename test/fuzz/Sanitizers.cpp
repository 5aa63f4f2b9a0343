//===- Sanitizers.cpp - How the sanitizers of the fuzz targets run ------------------------------------------------===//
//
// Part of the moec project, under the Apache License v2.0.
//
//===----------------------------------------------------------------------------------------------------------------===//
//
// The shared libraries of LLVM, MLIR and protobuf know nothing of sanitizers, but their headers are compiled into code
// that does. What headers tell the sanitizer about memory is therefore only half of the truth: a container that
// instrumented code has annotated may grow in a library, and an allocator of LLVM that poisons what it has not given
// away yet may give it away there. Both would be reported though nothing is wrong, so these two kinds of annotations
// are ignored. Heap, stack and global memory are watched as ever.
//
//===----------------------------------------------------------------------------------------------------------------===//

// The names and the type are the sanitizer's.
extern "C" const char *__asan_default_options();
extern "C" const char *__asan_default_options() {
  return "detect_container_overflow=0:allow_user_poisoning=0:detect_stack_use_after_return=0";
}
