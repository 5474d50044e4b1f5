# SPDX-License-Identifier: Apache-2.0
# upci_add_test: one GoogleTest program, one ctest entry.
#
#   upci_add_test(<name>
#     SOURCES ...
#     DEPENDS upci::workqueue ...   libraries; with SIM, upci::x is read as upci_sim::x
#     [SIM]                         built against the simulated variant (and left out where that is not built)
#     [LABELS unit|sim|qemu|real..] default: unit, or sim with SIM; tools/test --quick runs unit, sim and house
#     [TIMEOUT seconds]             of the whole program; default 120
#     [SERIAL]                      nothing else runs beside it (it asserts upper bounds on real time)
#     [NO_MAIN])                    it has its own main()
#
# The results of the single tests are left in <build>/test-results/<name>.xml, where tools/test counts them.
# Every program runs under the address sanitizer too, and those that are labelled unit under the thread sanitizer.

set(UPCI_TEST_RESULTS "${PROJECT_BINARY_DIR}/test-results")

function(upci_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SIM;SERIAL;NO_MAIN" "TIMEOUT" "SOURCES;DEPENDS;LABELS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "upci_add_test(${name}): unknown: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_SIM)
    if(NOT UPCI_BUILD_SIM)
      return()
    endif()
    list(TRANSFORM arg_DEPENDS REPLACE "^upci::" "upci_sim::")
    set(label sim)
  else()
    set(label unit)
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS ${label})
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(UPCI_SANITIZE)
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 3")
  endif()

  upci_check_targets(${name} ${arg_DEPENDS})
  add_executable(${name} ${arg_SOURCES})
  upci_use_warnings(${name})
  target_compile_options(${name} PRIVATE ${UPCI_TEST_OPTIONS})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS} GTest::gmock GTest::gtest)
  if(NOT arg_NO_MAIN)
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")

  add_test(NAME ${name} COMMAND ${name} "--gtest_output=xml:${UPCI_TEST_RESULTS}/${name}.xml")
  set_tests_properties(${name} PROPERTIES
    LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT}
    ENVIRONMENT "UPCI_BIN=${PROJECT_BINARY_DIR}/bin/upci;UPCI_SOURCE_DIR=${PROJECT_SOURCE_DIR}")
  if(arg_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
