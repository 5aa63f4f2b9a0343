# Helpers that give every room of the house the same warnings and the same include root.
#
# Headers are included by their path from the repository root ("runtime/plan/Plan.h"). A room sees the headers of MLIR,
# LLVM or a library only through the targets it links, which is what keeps runtime/ free of the compiler.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

# Rooms that sanitizers watch, and whose code counts as coverage, when fuzzing: those of the readers. The rest (code
# generation, backends) is built as ever. Assertions are on, since they check the casts and indexes of MLIR's headers.
set(MOEC_FUZZED_ROOMS ir frontend passes/recompose runtime/plan runtime/data runtime/checkpoint tools/moerun test/fuzz)
set(MOEC_FUZZED_FLAGS -O1 -UNDEBUG -gline-tables-only -fno-sanitize-recover=all)

# Sets `result` to the flags that make sanitizers watch the code of the current folder, if they should.
function(moec_sanitizer_flags result)
  set(flags)
  foreach(sanitizer ${MOEC_SANITIZE})
    list(APPEND flags -fsanitize=${sanitizer} -fno-omit-frame-pointer)
  endforeach()
  if(MOEC_FUZZ)
    file(RELATIVE_PATH folder ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
    set(watched)
    foreach(room ${MOEC_FUZZED_ROOMS})
      if("${folder}/" MATCHES "^${room}/")
        set(watched ${flags} ${MOEC_FUZZED_FLAGS})
      endif()
    endforeach()
    set(flags ${watched})
  endif()
  set(${result} ${flags} PARENT_SCOPE)
endfunction()

function(moec_configure target)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  target_compile_options(${target} PRIVATE -Wall -Wextra -Werror -Wno-unused-parameter -ffp-contract=off)
  moec_sanitizer_flags(flags)
  target_compile_options(${target} PRIVATE ${flags})
  foreach(sanitizer ${MOEC_SANITIZE})
    target_link_options(${target} PRIVATE -fsanitize=${sanitizer})
  endforeach()
endfunction()

# moec_library(name SOURCES ... LINK ...)
function(moec_library target)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${target} STATIC ${ARG_SOURCES})
  moec_configure(${target})
  target_link_libraries(${target} PUBLIC ${ARG_LINK})
endfunction()

# Adds every subfolder that has a CMakeLists.txt, in the order given.
function(moec_subdirectories)
  foreach(folder ${ARGN})
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/CMakeLists.txt AND NOT folder IN_LIST MOEC_SKIP)
      add_subdirectory(${folder})
    endif()
  endforeach()
endfunction()

# moec_unit_test(name SOURCES ... LINK ...): a GoogleTest program registered with CTest and built with `all`.
function(moec_unit_test target)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  find_package(GTest REQUIRED)
  add_executable(${target} ${ARG_SOURCES})
  moec_configure(${target})
  target_link_libraries(${target} PRIVATE ${ARG_LINK} GTest::gtest_main)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test)
  add_test(NAME ${target} COMMAND ${target})
endfunction()
