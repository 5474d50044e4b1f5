# SPDX-License-Identifier: Apache-2.0
# Installs into a folder of its own, moves it, then builds and runs a program against it: by find_package, and by
# pkg-config. The program links the workqueue alone, so it must not need what only PCI and the command line do.
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

function(run_the_program program)
  run("${program}")
  if(NOT output MATCHES "greetings from CPU [0-9]")
    message(FATAL_ERROR "${program} ran, but its works have not:\n${output}")
  endif()
  run(ldd "${program}")
  if(output MATCHES "libpciaccess|libtbb")
    message(FATAL_ERROR "${program} links more than the workqueue needs:\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK}")
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/first")
file(RENAME "${WORK}/first" "${WORK}/prefix")  # nothing may depend on where it was installed at first

# Packages that the workqueue does not need are hidden: whoever has never heard of PCI has not installed them.
run("${CMAKE_COMMAND}" -G Ninja -S "${SOURCE}" -B "${WORK}/by-cmake" "-DCMAKE_PREFIX_PATH=${WORK}/prefix"
  "-DCMAKE_CXX_COMPILER=${CXX}" -DCMAKE_DISABLE_FIND_PACKAGE_CLI11=ON -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
run("${CMAKE_COMMAND}" --build "${WORK}/by-cmake")
run_the_program("${WORK}/by-cmake/workqueue_standalone")

set(ENV{PKG_CONFIG_PATH} "${WORK}/prefix/${LIBDIR}/pkgconfig")
run(pkg-config --cflags --libs upci-workqueue)
separate_arguments(flags UNIX_COMMAND "${output}")
file(MAKE_DIRECTORY "${WORK}/by-pkg-config")
run("${CXX}" -std=c++23 "${SOURCE}/workqueue_standalone.cc" -o "${WORK}/by-pkg-config/workqueue_standalone" ${flags})
run_the_program("${WORK}/by-pkg-config/workqueue_standalone")
run(pkg-config --exists --print-errors upci)

# All of it, as one who drives devices asks for it.
file(WRITE "${WORK}/all/CMakeLists.txt" "cmake_minimum_required(VERSION 3.25)
project(all LANGUAGES CXX)
find_package(upci 0.1 REQUIRED)
foreach(library IN ITEMS workqueue device pci vfio virtio)
  if(NOT TARGET upci::\${library})
    message(FATAL_ERROR \"upci::\${library} is not there\")
  endif()
endforeach()
")
run("${CMAKE_COMMAND}" -G Ninja -S "${WORK}/all" -B "${WORK}/all/build" "-DCMAKE_PREFIX_PATH=${WORK}/prefix"
  "-DCMAKE_CXX_COMPILER=${CXX}")
message(STATUS "installed, moved, found by CMake and by pkg-config, built and run")
