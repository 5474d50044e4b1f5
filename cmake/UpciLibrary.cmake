# SPDX-License-Identifier: Apache-2.0
# upci_add_library: one folder, one library, in two variants.
#
#   upci_add_library(<name>
#     [SOURCES ...]        compiled into both variants
#     [REAL_ONLY ...]      sources of the real variant only
#     [SIM_ONLY ...]       sources of the simulated variant only
#     [HEADERS ...]        public headers: installed, and each is tested to compile alone
#     [REAL_HEADERS ...]   public headers that only the real variant can include
#     [SIM_HEADERS ...]    headers that only the simulated variant can include (not installed)
#     [DEPENDS ...]        folders of this project, by target name: base workqueue virtio_spec
#     [REAL_DEPENDS ...]   the same, for the real variant only
#     [LINK ...]           external libraries, both variants
#     [REAL_LINK ...]      external libraries, real variant only
#     [NO_SIM])            there is no simulated variant
#
# makes upci_<name> (alias upci::<name>) and, unless NO_SIM, upci_sim_<name> (alias upci_sim::<name>), which is compiled
# with UPCI_SIM, as is whatever links to it. Without sources it is a library of headers. Paths are relative to the folder.

function(upci_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_SIM" ""
    "SOURCES;REAL_ONLY;SIM_ONLY;HEADERS;REAL_HEADERS;SIM_HEADERS;DEPENDS;REAL_DEPENDS;LINK;REAL_LINK")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "upci_add_library(${name}): unknown: ${arg_UNPARSED_ARGUMENTS}")
  endif()

  upci_add_variant(upci ${name}
    SOURCES ${arg_SOURCES} ${arg_REAL_ONLY}
    HEADERS ${arg_HEADERS} ${arg_REAL_HEADERS}
    DEPENDS ${arg_DEPENDS} ${arg_REAL_DEPENDS}
    LINK ${arg_LINK} ${arg_REAL_LINK})
  install(TARGETS upci_${name} EXPORT upci-targets
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/upci")
  set_property(GLOBAL APPEND PROPERTY UPCI_LIBRARIES upci_${name})

  if(UPCI_BUILD_SIM AND NOT arg_NO_SIM)
    upci_add_variant(upci_sim ${name}
      SOURCES ${arg_SOURCES} ${arg_SIM_ONLY}
      HEADERS ${arg_HEADERS} ${arg_SIM_HEADERS}
      DEPENDS ${arg_DEPENDS}
      LINK ${arg_LINK})
    set_property(GLOBAL APPEND PROPERTY UPCI_LIBRARIES upci_sim_${name})
  endif()
endfunction()

# A name with :: that is no target would otherwise be found out at the end, without saying who asked for it.
function(upci_check_targets user)
  foreach(dependency IN LISTS ARGN)
    if(dependency MATCHES "^upci(_sim)?::" AND NOT TARGET ${dependency})
      message(FATAL_ERROR "${user} depends on ${dependency}, which is not there: is its folder added before?")
    endif()
  endforeach()
endfunction()

# One variant: prefix is upci or upci_sim. Only upci_add_library calls this.
function(upci_add_variant prefix name)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "SOURCES;HEADERS;DEPENDS;LINK")
  set(target ${prefix}_${name})
  if(arg_SOURCES)
    set(scope PUBLIC)
    add_library(${target} STATIC ${arg_SOURCES})
    upci_use_warnings(${target})
    if(UPCI_FUZZ AND name IN_LIST UPCI_FUZZED)
      target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
  else()
    set(scope INTERFACE)
    add_library(${target} INTERFACE)
  endif()
  add_library(${prefix}::${name} ALIAS ${target})
  target_compile_features(${target} ${scope} cxx_std_23)
  if(prefix STREQUAL "upci_sim")
    target_compile_definitions(${target} ${scope} UPCI_SIM)
    if(arg_SOURCES)
      target_compile_options(${target} PRIVATE ${UPCI_SIM_OPTIONS})
    endif()
  endif()
  list(TRANSFORM arg_HEADERS PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  target_sources(${target} ${scope}
    FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}" FILES ${arg_HEADERS})
  list(TRANSFORM arg_DEPENDS PREPEND ${prefix}::)
  upci_check_targets(${target} ${arg_DEPENDS})
  target_link_libraries(${target} ${scope} ${arg_DEPENDS} ${arg_LINK})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} UPCI_PUBLIC_HEADERS "${arg_HEADERS}")
endfunction()

# upci_add_program(<name> SOURCES ... DEPENDS upci::x external::y ...): a program of tools/, bench/ or examples/, in <build>/bin.
function(upci_add_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPENDS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "upci_add_program(${name}): unknown: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  upci_check_targets(${name} ${arg_DEPENDS})
  add_executable(${name} ${arg_SOURCES})
  upci_use_warnings(${name})
  target_compile_options(${name} PRIVATE ${UPCI_PROGRAM_OPTIONS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS})
endfunction()
