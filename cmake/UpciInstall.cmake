# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` leaves: libraries, public headers, a CMake package and pkg-config files.
include(CMakePackageConfigHelpers)

get_property(upci_libraries GLOBAL PROPERTY UPCI_LIBRARIES)
list(FILTER upci_libraries EXCLUDE REGEX "^upci_sim_")
if(NOT upci_libraries)
  return()
endif()

set(upci_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/upci")
install(EXPORT upci-targets NAMESPACE upci:: DESTINATION "${upci_package_dir}")
configure_package_config_file(cmake/upci-config.cmake.in "${PROJECT_BINARY_DIR}/upci-config.cmake"
  INSTALL_DESTINATION "${upci_package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/upci-config-version.cmake"
  COMPATIBILITY SameMinorVersion)  # before 1.0 each minor version may break
install(FILES "${PROJECT_BINARY_DIR}/upci-config.cmake" "${PROJECT_BINARY_DIR}/upci-config-version.cmake"
  DESTINATION "${upci_package_dir}")

# A .pc file names each archive after those that need it. The libraries are registered in the order of the layers, lowest
# first, so the reverse is an order that a linker can use; header-only ones have no archive.
function(upci_install_pkgconfig file description requires)
  set(archives "")
  foreach(library IN LISTS ARGN)
    get_target_property(type ${library} TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
      list(PREPEND archives "-l${library}")
    endif()
  endforeach()
  list(JOIN archives " " UPCI_PC_LIBS)
  set(UPCI_PC_NAME "${file}")
  set(UPCI_PC_DESCRIPTION "${description}")
  set(UPCI_PC_REQUIRES "${requires}")
  file(RELATIVE_PATH UPCI_PC_PREFIX  # relative, so that an installed tree can be moved
    "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
  set(UPCI_PC_DEFINES "")
  if(UPCI_CHECK_LIFETIME)
    set(UPCI_PC_DEFINES " -DUPCI_CHECK_LIFETIME")
  endif()
  configure_file(cmake/upci.pc.in "${PROJECT_BINARY_DIR}/${file}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${file}.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endfunction()

upci_install_pkgconfig(upci "${PROJECT_DESCRIPTION}" "spdlog fmt hwloc pciaccess libdw libunwind" ${upci_libraries})
if(TARGET upci_base AND TARGET upci_workqueue)
  upci_install_pkgconfig(upci-workqueue "The kernel's concurrency-managed workqueue, in userspace"
    "spdlog fmt hwloc libdw" upci_base upci_workqueue)
endif()
