/* No part of the library: the configure step compiles it, and shows the #error that it meets. */
#ifndef __linux__
#error "Arenal needs Linux."
#elif !(defined(__x86_64__) || (defined(__aarch64__) && !defined(__AARCH64EB__))) || !defined(__LP64__)
#error "Arenal needs a 64-bit system, x86-64 or little-endian AArch64."
#else
#include <features.h> /* of a libc for such a system */
#if defined(__BIONIC__) || defined(__UCLIBC__) || defined(__dietlibc__)
#error "Arenal needs glibc or musl, and this is another libc."
#elif defined(__GLIBC__) && (__GLIBC__ < 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ < 34))
#error "Arenal needs glibc 2.34 or newer to build (Debian 12, Ubuntu 22.04, RHEL 9); it runs on 2.28."
#endif
#endif

int main(void) { return 0; }
