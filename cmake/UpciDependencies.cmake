# SPDX-License-Identifier: Apache-2.0
# What others wrote. upci-config.cmake.in finds the same again for whoever uses an installed upci: keep them alike.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(PCIACCESS REQUIRED IMPORTED_TARGET pciaccess)
pkg_check_modules(DW REQUIRED IMPORTED_TARGET libdw)
pkg_check_modules(UNWIND REQUIRED IMPORTED_TARGET libunwind)

# Tracepoints for bpftrace and perf need one header, at build time only.
option(UPCI_USDT "Put USDT probes into the workqueue engine, where <sys/sdt.h> is there" ON)
set(UPCI_HAS_USDT false)
if(UPCI_USDT)
  include(CheckIncludeFileCXX)
  check_include_file_cxx(sys/sdt.h UPCI_SDT_HEADER)
  if(UPCI_SDT_HEADER)
    set(UPCI_HAS_USDT true)
  else()
    message(STATUS "No <sys/sdt.h> (Debian: systemtap-sdt-dev): built without tracepoints")
  endif()
endif()
