# Where the parts of an installation find each other, whatever its folders are called. From the folder of the command, so that the
# installation may be moved or staged (DESTDIR); a folder that was given as an absolute path is where it is, wherever the rest goes.

# arenal_from(VARIABLE FROM FOLDER): CMAKE_INSTALL_FOLDER as CMAKE_INSTALL_FROM sees it.
function(arenal_from variable from folder)
  set(path "${CMAKE_INSTALL_FULL_${folder}}")
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_${folder}}" AND NOT IS_ABSOLUTE "${CMAKE_INSTALL_${from}}")
    file(RELATIVE_PATH path "/prefix/${CMAKE_INSTALL_${from}}" "/prefix/${CMAKE_INSTALL_${folder}}")
  endif()
  set(${variable} "${path}" PARENT_SCOPE)
endfunction()

# The command itself, which knows where its modules are, and the module that knows the rest.
function(arenal_write_installed_tool)
  foreach(folder LIBDIR LIBEXECDIR INCLUDEDIR DATADIR)
    arenal_from(${folder} BINDIR ${folder})
  endforeach()
  file(READ ${PROJECT_SOURCE_DIR}/tools/arenal tool)
  string(REPLACE "\"../share/arenal\"" "\"${DATADIR}/arenal\"" tool "${tool}")
  file(CONFIGURE OUTPUT installed/arenal CONTENT "@tool@" @ONLY)
  file(CONFIGURE OUTPUT installed/installed.py @ONLY CONTENT [[
"""Where the other parts of this installation are, as the folder of the command sees them."""

LIBRARY = "@LIBDIR@"
PROGRAMS = "@LIBEXECDIR@/arenal"
HEADERS = "@INCLUDEDIR@/arenal"
VERSION = "@PROJECT_VERSION@"
]])
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/arenal)
endfunction()
arenal_write_installed_tool()

# arenal_install_monitoring(): what other programs read. Those that name a path of the installation are written when it is known: at the
# installation, which may have another prefix than the build.
function(arenal_install_monitoring)
  set(from ${PROJECT_SOURCE_DIR}/tools)
  set(to ${CMAKE_CURRENT_BINARY_DIR}/installed)
  file(GLOB scripts CONFIGURE_DEPENDS RELATIVE ${from} ${from}/bpftrace/*.bt)
  install(CODE "
    foreach(folder BINDIR=${CMAKE_INSTALL_BINDIR} LIBDIR=${CMAKE_INSTALL_LIBDIR})
      string(REGEX MATCH \"^([A-Z]+)=(.*)$\" found \"\${folder}\")
      cmake_path(ABSOLUTE_PATH CMAKE_MATCH_2 BASE_DIRECTORY \"\${CMAKE_INSTALL_PREFIX}\" OUTPUT_VARIABLE \${CMAKE_MATCH_1})
    endforeach()
    set(CMAKE_INSTALL_FULL_BINDIR \"\${BINDIR}\")
    configure_file(\"${from}/monitoring/arenal.service.in\" \"${to}/arenal.service\" @ONLY)
    foreach(script ${scripts})
      file(READ \"${from}/\${script}\" text)
      string(REPLACE /usr/local/lib/libarenal.so \"\${LIBDIR}/libarenal.so\" text \"\${text}\")
      file(WRITE \"${to}/\${script}\" \"\${text}\")
    endforeach()" COMPONENT tools)
  install(FILES ${to}/arenal.service ${from}/monitoring/arenal.socket DESTINATION lib/systemd/system)
  install(FILES ${from}/monitoring/arenal-rules.yml ${from}/monitoring/grafana-dashboard.json ${from}/monitoring/prometheus.yml
    DESTINATION ${CMAKE_INSTALL_DATADIR}/arenal/monitoring)
  list(TRANSFORM scripts PREPEND ${to}/)
  install(PROGRAMS ${scripts} DESTINATION ${CMAKE_INSTALL_DATADIR}/arenal/bpftrace)
endfunction()

# For arenal.pc. Its own folder says where the prefix is, if it is there.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(pkgconfig_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH pkgconfig_to_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" /prefix)
  set(pkgconfig_prefix "\${pcfiledir}/${pkgconfig_to_prefix}")
endif()
foreach(folder LIBDIR INCLUDEDIR)
  set(pkgconfig_${folder} "${CMAKE_INSTALL_${folder}}")
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_${folder}}")
    string(PREPEND pkgconfig_${folder} "\${prefix}/")
  endif()
endforeach()
