# MLIR and LLVM 22 as Debian ships them: two shared libraries, built without assertions and without RTTI.
# The version file of the package rejects "22", so the version is checked here.
find_package(MLIR REQUIRED CONFIG PATHS /usr/lib/llvm-22/lib/cmake/mlir)
find_package(LLD REQUIRED CONFIG PATHS /usr/lib/llvm-22/lib/cmake/lld)
if(NOT LLVM_VERSION_MAJOR EQUAL 22)
  message(FATAL_ERROR "moec needs MLIR/LLVM 22, found ${LLVM_PACKAGE_VERSION} in ${LLVM_DIR}. Run tools/setup.")
endif()
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)

add_library(moec_mlir INTERFACE)
target_include_directories(moec_mlir SYSTEM INTERFACE ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
target_compile_definitions(moec_mlir INTERFACE ${LLVM_DEFINITIONS_LIST})
target_compile_options(moec_mlir INTERFACE -fno-rtti)
target_link_libraries(moec_mlir INTERFACE MLIR LLVM)
