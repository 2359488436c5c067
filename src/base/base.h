/* What every layer may use: constants of the address space and small helpers without state. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* A slice is the unit of the page heap: 64 KiB, so that every page size of Linux (4, 16, 64 KiB) divides
 * it. */
#define SLICE_SHIFT 16
#define SLICE_SIZE ((size_t)1 << SLICE_SHIFT)

/* A region is a 64 MiB-aligned window of the address space, described by one struct region. */
#define REGION_SHIFT 26
#define REGION_SIZE ((size_t)1 << REGION_SHIFT)
#define REGION_SLICES (REGION_SIZE / SLICE_SIZE)

/* User space ends at 2^47 on x86-64 and at 2^48 on AArch64 (more is only mapped for those who ask for it by
 * address). */
#if defined(__x86_64__)
#define ADDRESS_BITS 47
#else
#define ADDRESS_BITS 48
#endif

/* Every block is aligned for any C type, as malloc promises. */
#define MIN_ALIGN 16
#define CACHE_LINE 64

#define LOW_BITS(n, a) ((__typeof__((n) + (a)))(a)-1) /* as wide as both */
#define ALIGN_UP(n, a) (((n) + LOW_BITS(n, a)) & ~LOW_BITS(n, a))
#define ALIGN_DOWN(n, a) ((n) & ~LOW_BITS(n, a))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* Makes the compiler use what is in memory, not a copy of it in a register: for fast paths, where an
 * instruction that reads and writes memory saves the one that loads it. */
#define USE_IN_MEMORY(x) __asm__("" : "+m"(x))
/* Makes the compiler compute x once, and forget what of: otherwise it may make parts of what follows of other
 * parts of x, which takes more instructions. */
#define KEEP_IN_REGISTER(x) __asm__("" : "+r"(x))
/* What was stored to `before` so far is in memory before anything is stored to `after`, as far as the
 * compiler is concerned: for those who see a thread stopped at any instruction, as the child of a fork
 * does. */
#define STORE_FIRST(before, after) __asm__("" : "+m"(after) : "m"(before))
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((noinline, cold))

static_assert(sizeof(void *) == 8, "Arenal is for 64-bit systems");

/* Fetches what will be read and then written, which another CPU may have written last: in one transaction
 * instead of two. Any address will do. The compilers' own is for reading only, unless they may use what the
 * first x86-64 CPUs had not: those take this one for a nop. */
static inline void prefetch_to_write(const void *p) {
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}
static_assert(sizeof(size_t) == 8, "sizes are 64 bits");
static_assert(_Alignof(max_align_t) <= MIN_ALIGN, "blocks are aligned for every type");
static_assert(REGION_SLICES == 1024, "slice numbers fit the bitmaps of struct region");

static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }
static inline bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

#endif
