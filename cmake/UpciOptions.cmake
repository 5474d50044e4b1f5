# SPDX-License-Identifier: Apache-2.0
# What holds for every target: language, flags, sanitizers, the compiler cache, where programs go.

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

# Reports name functions and lines: every build type has line tables and frame pointers. -g1 is enough for both and keeps
# the programs small.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release or Debug" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")
add_compile_options(-fno-omit-frame-pointer)
# elfutils finds a line by the address ranges, which clang leaves out unless it is asked.
add_compile_options($<$<CXX_COMPILER_ID:Clang>:-gdwarf-aranges>)

# gtest, fmt and the rest come from the distribution without a sanitizer, which both sanitizers can live with.
if(UPCI_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
elseif(UPCI_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
  set(UPCI_BUILD_SIM OFF)
elseif(UPCI_SANITIZE)
  message(FATAL_ERROR "UPCI_SANITIZE is '${UPCI_SANITIZE}'; it can be 'address', 'thread' or empty")
endif()

# These folders tell the fuzzer where it has been; what they stand on would only be noise. Only the fuzz targets are linked
# with libFuzzer (tests/fuzz).
set(UPCI_FUZZED pci virtio virtio_pci virtio_net)
if(UPCI_FUZZ AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "UPCI_FUZZ needs clang, for libFuzzer: use the preset fuzz")
endif()

# The optimizer is most of the time that a build takes, and with a sanitizer the more: only what users run gets all of it.
# upci_sim_* and sanitized libraries get a little (they execute much); test programs by themselves, and sanitized programs,
# none.
set(UPCI_SIM_OPTIONS $<$<CONFIG:Release>:-O1>)
set(UPCI_TEST_OPTIONS $<$<CONFIG:Release>:-O0>)
if(UPCI_SANITIZE)
  add_compile_options($<$<CONFIG:Release>:-O1>)
  set(UPCI_PROGRAM_OPTIONS ${UPCI_TEST_OPTIONS})
else()
  set(UPCI_PROGRAM_OPTIONS "")
endif()

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(UPCI_CCACHE ccache)
  if(UPCI_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${UPCI_CCACHE}")
  endif()
endif()

# Not here, because they cry wolf: -Wuseless-cast (std::size_t is std::uint64_t on this machine and not on the next),
# -Wnull-dereference (GCC 12 sees null where libstdc++ has checked).
add_library(upci_warnings INTERFACE)
target_compile_options(upci_warnings INTERFACE
  -Werror -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wold-style-cast -Wcast-align -Wformat=2 -Wimplicit-fallthrough
  $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond -Wlogical-op>
  # Debian's spdlog and gtest headers are SYSTEM, but GCC warns there about code that it has inlined from ours.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
  # std::expected and friends make GCC 12 report non-existing overflows at -O2.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow -Wno-array-bounds -Wno-restrict>)

# Warnings for a target of this project. They are copied, not linked, so that what is installed does not ask for them.
function(upci_use_warnings target)
  target_compile_options(${target} PRIVATE $<TARGET_PROPERTY:upci_warnings,INTERFACE_COMPILE_OPTIONS>)
endfunction()
