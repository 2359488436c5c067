# The CMakeLists.txt of a project that uses an installed Arenal; the install test copies it next to linked_program.c.
cmake_minimum_required(VERSION 3.20)
project(consumer LANGUAGES C)
find_package(arenal REQUIRED)
foreach(variant arenal arenal_static)
  add_executable(consumer_${variant} linked_program.c)
  target_link_libraries(consumer_${variant} PRIVATE arenal::${variant})
endforeach()
