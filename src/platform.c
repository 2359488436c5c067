/* No part of the library: the configure step compiles it, and shows the #error that it meets. */
#include <features.h>

#ifndef __linux__
#error "Arenal needs Linux."
#elif !(defined(__x86_64__) && defined(__LP64__)) && !(defined(__aarch64__) && defined(__LP64__) && !defined(__AARCH64EB__))
#error "Arenal needs a 64-bit system, x86-64 or little-endian AArch64."
#elif !defined(__GLIBC__)
#error "Arenal needs glibc, and this is another libc (musl, for instance)."
#elif __GLIBC__ < 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ < 34)
#error "Arenal needs glibc 2.34 or newer (Debian 12, Ubuntu 22.04, RHEL 9)."
#endif

int main(void) { return 0; }
