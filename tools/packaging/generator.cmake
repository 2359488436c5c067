# What each generator of cpack has for itself.
if(CPACK_GENERATOR STREQUAL "DEB")
  # The first line of each package's description is its summary.
  unset(CPACK_PACKAGE_DESCRIPTION_SUMMARY)
endif()
