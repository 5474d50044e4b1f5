# SPDX-License-Identifier: Apache-2.0
# Installs into a folder of its own, moves it, then builds and runs a small program against it: by find_package, and by
# pkg-config.
foreach(variable IN ITEMS BUILD SOURCE WORK CXX LIBDIR)
  if(NOT DEFINED ${variable})
    message(FATAL_ERROR "install_test.cmake needs -D${variable}=")
  endif()
endforeach()

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\nended with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${WORK}")
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/first")
file(RENAME "${WORK}/first" "${WORK}/prefix")  # nothing may depend on where it was installed at first

run("${CMAKE_COMMAND}" -G Ninja -S "${SOURCE}" -B "${WORK}/consumer" "-DCMAKE_PREFIX_PATH=${WORK}/prefix"
  "-DCMAKE_CXX_COMPILER=${CXX}")
run("${CMAKE_COMMAND}" --build "${WORK}/consumer")
run("${WORK}/consumer/consumer")

set(ENV{PKG_CONFIG_PATH} "${WORK}/prefix/${LIBDIR}/pkgconfig")
run(pkg-config --cflags --libs upci-workqueue)
separate_arguments(flags UNIX_COMMAND "${output}")
run("${CXX}" -std=c++23 "${SOURCE}/consumer.cc" -o "${WORK}/consumer-pkg-config" ${flags})
run("${WORK}/consumer-pkg-config")
run(pkg-config --exists --print-errors upci)
message(STATUS "installed, moved, found by CMake and by pkg-config, built and run")
