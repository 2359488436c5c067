# cpack: three Debian packages (library, dev, tools), their debug symbols, and a tarball of everything. What CPack does not do by itself, stage.cmake
# does between the installation and the packing. The preset "package" builds for it: `cmake --preset package`.
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_PACKAGE_VENDOR Arenal)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_COMPONENTS_ALL library dev tools)
set(CPACK_THREADS 0)
string(TOLOWER ${CMAKE_SYSTEM_NAME} system)
set(CPACK_PACKAGE_FILE_NAME arenal-${PROJECT_VERSION}-${system}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_CURRENT_SOURCE_DIR}/generator.cmake)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/stage.cmake)
set(CPACK_POST_BUILD_SCRIPTS ${CMAKE_CURRENT_SOURCE_DIR}/multi_arch.cmake)

# Who has made the packages, and answers for them: as Debian's tools take it from the environment.
set(CPACK_PACKAGE_CONTACT "Whoever built this package <nobody@arenal.invalid>")
if(NOT "$ENV{DEBFULLNAME}" STREQUAL "" AND NOT "$ENV{DEBEMAIL}" STREQUAL "")
  set(CPACK_PACKAGE_CONTACT "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
endif()

# For stage.cmake.
set(CPACK_ARENAL_SOURCE ${PROJECT_SOURCE_DIR})
set(CPACK_ARENAL_PYTHON "${ARENAL_PYTHON}")
set(CPACK_ARENAL_LIBDIR ${CMAKE_INSTALL_LIBDIR})
set(CPACK_OBJCOPY_EXECUTABLE ${CMAKE_OBJCOPY})
set(CPACK_READELF_EXECUTABLE ${CMAKE_READELF})

# Debian
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SOURCE arenal)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_VERSION ${PROJECT_VERSION})
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE amd64)
elseif(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
  set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE arm64)
endif()
# Which libc is new enough. Of the library, it is said here: it looks some functions up at its start, which dpkg-shlibdeps does not see. Of
# programs, dpkg-shlibdeps tells of this machine's own; for others it is said here, too (packages.contents compares).
set(library_libc "libc6 (>= 2.28)")
set(program_libc "libc6 (>= 2.34)")
if(NOT CMAKE_CROSSCOMPILING)
  set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS ON)
  set(program_libc "")
endif()
set(CPACK_DEBIAN_DEBUGINFO_PACKAGE ON)
set(same "(= ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})")
set(about "Arenal takes the place of libc's malloc in programs that run many threads:
it is fast, gives memory back that is not needed any more, and can be
looked into and steered while a program runs.
")
set(debian ${CMAKE_CURRENT_SOURCE_DIR}/debian)

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libarenal${ARENAL_SOVERSION})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_DEPENDS "${library_libc}")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_RECOMMENDS "")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SUGGESTS "arenal-tools")
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION "malloc for multithreaded servers (library)
${about}
This package has the library. It is used by programs that are linked with
it, and by those that are started with LD_PRELOAD=libarenal.so.${ARENAL_SOVERSION};
by no others.")
# Where no postinst and postrm are given, CPack writes some that call ldconfig, which a trigger does here. So a postrm is given which is not
# there and left out.
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${debian}/library/triggers ${debian}/library/postinst
  ${CMAKE_CURRENT_BINARY_DIR}/none/postrm ${CMAKE_CURRENT_BINARY_DIR}/shlibs)
# Programs that are linked with this version need it or a newer one.
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/shlibs "libarenal ${ARENAL_SOVERSION} libarenal${ARENAL_SOVERSION} (>= ${PROJECT_VERSION})\n")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libarenal-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libarenal${ARENAL_SOVERSION} ${same}, libc6-dev")
set(CPACK_DEBIAN_DEV_DEBUGINFO_PACKAGE OFF)
set(CPACK_DEBIAN_DEV_DESCRIPTION "malloc for multithreaded servers (development files)
${about}
This package has what programs are built with that ask the allocator
something, steer it, or are linked with it: headers, the static library,
and files for pkg-config and CMake.")

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME arenal-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "libarenal${ARENAL_SOVERSION} ${same}, python3 (>= 3.8)")
if(program_libc)
  string(APPEND CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS ", ${program_libc}")
endif()
# Pages and their charts, names of lines, units of systemd.
set(CPACK_DEBIAN_TOOLS_PACKAGE_RECOMMENDS "binutils, libjs-chart.js, python3-jinja2")
set(CPACK_DEBIAN_TOOLS_PACKAGE_SUGGESTS "bpftrace, golang-go, prometheus")
set(CPACK_DEBIAN_TOOLS_DESCRIPTION "malloc for multithreaded servers (tools)
${about}
This package has the command arenal, which runs programs on Arenal, shows
what they hold, sets tunables, and makes heap profiles and traces; and a
service that tells Prometheus and pprof about all of them, which is not
started before somebody enables it.")
set(CPACK_DEBIAN_TOOLS_PACKAGE_CONTROL_EXTRA ${debian}/tools/postinst ${debian}/tools/prerm ${debian}/tools/postrm)

include(CPack)
