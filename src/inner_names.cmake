# cmake -DREADELF= -DOBJCOPY= -DDEFINES=OBJECT -DUSES=OBJECT -P inner_names.cmake: makes the hidden names of both objects local,
# but for those that one has from the other. These become arenal_inner_NAME.
cmake_minimum_required(VERSION 3.21)

# The names of the object's symbols whose lines in readelf's table match.
function(symbols result object pattern)
  execute_process(COMMAND ${READELF} --symbols --wide ${object} OUTPUT_VARIABLE table COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL " ${pattern} +[^ \n]+\n" lines "${table}")
  list(TRANSFORM lines REPLACE "^.* ([^ \n]+)\n$" "\\1")
  set(${result} "${lines}" PARENT_SCOPE)
endfunction()

symbols(hidden ${DEFINES} "GLOBAL HIDDEN +[0-9]+")
set(used)
if(USES) # there are no operators in musl's
  symbols(used ${USES} "GLOBAL [A-Z]+ +UND")
endif()
set(locals)
set(renames)
foreach(name ${hidden})
  if(name IN_LIST used)
    string(APPEND renames "${name} arenal_inner_${name}\n")
  else()
    string(APPEND locals "${name}\n")
  endif()
endforeach()
file(WRITE ${DEFINES}.locals "${locals}")
file(WRITE ${DEFINES}.renames "${renames}")
execute_process(COMMAND ${OBJCOPY} --localize-symbols=${DEFINES}.locals --redefine-syms=${DEFINES}.renames ${DEFINES}
  COMMAND_ERROR_IS_FATAL ANY)
if(USES)
  execute_process(COMMAND ${OBJCOPY} --localize-hidden --redefine-syms=${DEFINES}.renames ${USES} COMMAND_ERROR_IS_FATAL ANY)
endif()
