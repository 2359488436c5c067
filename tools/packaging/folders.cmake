# An installation is for all users, whatever the umask of who installs: folders that it makes can be read by all. Those that were there stay as they
# are. CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS alone does not do it: the kernel takes the umask from that, too.

# arenal_folders_before(): notes which folders are missing. To be called before anything is installed.
function(arenal_folders_before)
  set(data ${CMAKE_INSTALL_DATADIR})
  set(folders ${CMAKE_INSTALL_BINDIR} ${CMAKE_INSTALL_LIBDIR}/cmake/arenal ${CMAKE_INSTALL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_LIBEXECDIR}/arenal
    ${CMAKE_INSTALL_INCLUDEDIR}/arenal ${data}/arenal/arenal ${data}/arenal/bpftrace ${data}/arenal/monitoring ${CMAKE_INSTALL_DOCDIR}
    ${CMAKE_INSTALL_MANDIR}/man1 ${CMAKE_INSTALL_MANDIR}/man3 ${CMAKE_INSTALL_MANDIR}/man7 ${data}/bash-completion/completions
    ${data}/zsh/site-functions lib/systemd/system)
  list(JOIN folders "\" \"" quoted)
  install(CODE "
    set(ARENAL_MISSING)
    foreach(folder IN ITEMS \"${quoted}\")
      cmake_path(ABSOLUTE_PATH folder BASE_DIRECTORY \"\${CMAKE_INSTALL_PREFIX}\" NORMALIZE)
      set(folder \"\$ENV{DESTDIR}\${folder}\")
      while(folder AND NOT EXISTS \"\${folder}\")
        list(APPEND ARENAL_MISSING \"\${folder}\")
        cmake_path(GET folder PARENT_PATH folder)
      endwhile()
    endforeach()" ALL_COMPONENTS)
endfunction()

# arenal_folders_after(): opens those of them that are there now. To be called last.
function(arenal_folders_after)
  install(CODE "
    list(REMOVE_DUPLICATES ARENAL_MISSING)
    foreach(folder IN LISTS ARENAL_MISSING)
      if(IS_DIRECTORY \"\${folder}\")
        file(CHMOD \"\${folder}\" DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
      endif()
    endforeach()" ALL_COMPONENTS)
endfunction()
