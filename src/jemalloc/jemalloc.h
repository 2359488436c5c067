/* jemalloc's interface, as jemalloc(3) describes it in version 5.3: what programs call that were written for
 * it. All are weak: where a program has one of these names itself, preloaded or linked with libarenal.a, that
 * is the one. Not so where one of its libraries has it: preloaded, ours come before those. */
#ifndef JEMALLOC_JEMALLOC_H
#define JEMALLOC_JEMALLOC_H

#include "api/api.h"

#define WEAK_EXPORT __attribute__((weak, visibility("default")))

/* What programs that ask for the version compare with: whose interface it is, and whose library. */
#define JEMALLOC_VERSION_TOLD "5.3.0-0-garenal-" ARENAL_VERSION_STRING

WEAK_EXPORT void *PUBLIC(mallocx)(size_t size, int flags);
WEAK_EXPORT void *PUBLIC(rallocx)(void *block, size_t size, int flags);
WEAK_EXPORT size_t PUBLIC(xallocx)(void *block, size_t size, size_t extra, int flags);
WEAK_EXPORT size_t PUBLIC(sallocx)(const void *block, int flags);
WEAK_EXPORT void PUBLIC(dallocx)(void *block, int flags);
WEAK_EXPORT void PUBLIC(sdallocx)(void *block, size_t size, int flags);
WEAK_EXPORT size_t PUBLIC(nallocx)(size_t size, int flags);

WEAK_EXPORT int PUBLIC(mallctl)(const char *name, void *old, size_t *old_length, void *new,
                                size_t new_length);
WEAK_EXPORT int PUBLIC(mallctlnametomib)(const char *name, size_t *mib, size_t *depth);
WEAK_EXPORT int PUBLIC(mallctlbymib)(const size_t *mib, size_t depth, void *old, size_t *old_length,
                                     void *new, size_t new_length);

/* NULL for the function: malloc_message, or stderr. */
WEAK_EXPORT void PUBLIC(malloc_stats_print)(void (*write)(void *opaque, const char *text), void *opaque,
                                            const char *options);
extern void (*PUBLIC(malloc_message))(void *opaque, const char *text);

#endif
