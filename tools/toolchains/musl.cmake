# For Alpine and other systems with musl, built on one with glibc (Debian: musl-tools linux-libc-dev). On Alpine itself no
# toolchain file is needed.
set(CMAKE_C_COMPILER musl-gcc)

# musl-gcc does not look where glibc's headers are, and so not where the kernel's are.
execute_process(COMMAND musl-gcc -print-multiarch OUTPUT_VARIABLE machine OUTPUT_STRIP_TRAILING_WHITESPACE)
set(headers ${CMAKE_BINARY_DIR}/kernel_headers)
file(MAKE_DIRECTORY ${headers})
foreach(folder linux asm-generic ${machine}/asm)
  get_filename_component(name ${folder} NAME)
  file(CREATE_LINK /usr/include/${folder} ${headers}/${name} SYMBOLIC)
endforeach()
set(CMAKE_C_FLAGS_INIT "-idirafter \"${headers}\"")
