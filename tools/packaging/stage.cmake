# Between the installation and the packing: what stage.py does with the files of each package.
execute_process(COMMAND ${CPACK_ARENAL_PYTHON} -B ${CMAKE_CURRENT_LIST_DIR}/stage.py ${CPACK_GENERATOR} ${CPACK_TEMPORARY_DIRECTORY}
    --maintainer ${CPACK_PACKAGE_CONTACT} --release ${CPACK_DEBIAN_PACKAGE_RELEASE}
    --objcopy ${CPACK_OBJCOPY_EXECUTABLE} --libdir ${CPACK_ARENAL_LIBDIR}
    library=${CPACK_DEBIAN_LIBRARY_PACKAGE_NAME} dev=${CPACK_DEBIAN_DEV_PACKAGE_NAME} tools=${CPACK_DEBIAN_TOOLS_PACKAGE_NAME}
  COMMAND_ERROR_IS_FATAL ANY)
