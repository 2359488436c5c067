/* Arenal: a malloc for multithreaded Linux servers.
 *
 * Programs need none of this to run on Arenal: preloading or linking the library replaces malloc and operator
 * new. This header is for programs that want to ask the allocator something, or to steer it.
 *
 * Every function here may be called from any thread at any time, but not from a signal handler. */
#ifndef ARENAL_H
#define ARENAL_H

#include <stddef.h>
#include <stdint.h>

#define ARENAL_VERSION_MAJOR 0
#define ARENAL_VERSION_MINOR 1
#define ARENAL_VERSION_PATCH 0
#define ARENAL_VERSION_STRING "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ARENAL_API __attribute__((visibility("default")))
#else
#define ARENAL_API
#endif

/* The version of the library that is loaded, "MAJOR.MINOR.PATCH". A static string. Compare it with
 * ARENAL_VERSION_STRING to see whether the program runs on the version it was compiled against. */
ARENAL_API const char *arenal_version(void);

/* Gives every free page back to the kernel now, whatever lazy_purge says: the caches of all threads are
 * emptied (of others, one block of each size class stays), free runs and the free pages inside partly used
 * spans are purged, the break is lowered, regions that are free are unmapped but for one of each kind.
 * Returns the number of bytes that were given back (an upper bound of what the resident set loses). Takes the
 * time of a walk over the heap; other threads go on meanwhile. */
ARENAL_API size_t arenal_purge(void);

/* How long something took: counts[0] times up to 128 ns, counts[i] times up to (128 << i) ns and longer than
 * what the one before counts, and the last one all that took longer than 2^29 ns, half a second. */
#define ARENAL_TIMES 24
struct arenal_times {
	uint64_t counts[ARENAL_TIMES];
	uint64_t nanoseconds; /* all of them together */
};

/* What the allocator holds, in bytes unless said otherwise. The counters of running threads are read without
 * stopping them, so the figures of one call belong to slightly different moments, and are exact while no
 * thread allocates or frees. In any one call, each of these is the one before and parts that are not
 * negative:
 *
 *     allocated <= active <= resident <= mapped
 *
 *     active   = allocated + cached + free blocks in spans, without their holes (whole pages of them that
 *                were purged)
 *     resident = active + dirty + what was purged lazily + free parts of huge pages that are in use
 *     mapped   = resident + what was purged or never used */
struct arenal_stats {
	/* in blocks the program holds, sizes rounded up to their size class, whether it ever wrote to them or
	 * not. Blocks above mmap_threshold: their whole mapping. Guarded blocks: as asked for; what surrounds
	 * them on their pages is active. Hardened mode's canaries are part of blocks */
	size_t allocated;
	size_t cached; /* in blocks that lie in thread caches, ready for malloc, or in their quarantines */
	size_t active; /* in spans, slice runs and huge mappings that are in use, without holes */
	size_t dirty;  /* free slices and freed mappings that the kernel still backs with memory and that wait for
	                  reuse, those that went lazily not included */
	/* address space that Arenal holds for blocks: brk heap, regions as far as they are opened, huge mappings,
	 * also freed ones that wait, pages of guarded blocks. Guards and metadata are not part of it */
	size_t mapped;
	size_t metadata;        /* memory for Arenal's own records, at most this much of it resident */
	size_t brk_bytes;       /* part of `mapped` that lies in the brk heap */
	size_t huge_bytes;      /* part of `mapped` in direct mappings */
	size_t huge_blocks;     /* number of direct mappings */
	size_t regions;         /* number of 64 MiB regions from mmap */
	size_t arenas;          /* number of arenas in use, the main arena included; not those that a hardened
	                           child inherited */
	size_t threads;         /* number of threads that have a cache now */
	uint64_t purged_total;  /* given back to the kernel by madvise, munmap and the break since the start; what
	                           went lazily and then at once counts twice */
	uint64_t refills;       /* times a thread cache took a batch from an arena since the start */
	uint64_t flushes;       /* times a thread cache gave a batch back since the start */
	size_t guarded;         /* number of blocks that lie between inaccessible pages now (the tunable
	                           guard_sample) */
	uint64_t guarded_total; /* and since the start */
	size_t resident;        /* at most so much of `mapped` is backed by memory. It is less by what the program
	                           never wrote to, by what the kernel took of what went lazily, and by what it
	                           swapped out */
	uint64_t failures_total; /* allocations since the start that there was no memory for, also after all that
	                            was free had gone back */
	uint64_t purges_total;   /* times since the start that the kernel took free memory back by madvise, */
	uint64_t purge_nanoseconds_total; /* and the time that this took, of all threads together */
	uint64_t pressure; /* 0: none; 1: the process is near its memory limit, or the system is short of memory;
	                      2: the limit is reached but for a thirty-second. Free memory is not kept then */
	uint64_t lock_waits_total; /* times since the start that a thread had to sleep for a lock of the
	                              allocator's, */
	uint64_t lock_wait_nanoseconds_total; /* and how long, all threads together */
	uint64_t sampling; /* the heap profile is on, and samples one byte in so many; 0: it is off */
	uint64_t cap;      /* bytes: the tunable `cap`, beyond which allocations fail; 0: there is none */
	uint64_t
	    cap_used; /* bytes that count for it: resident and metadata, but for the free parts of huge pages */
	/* Each time since the start that a thread had to sleep for a lock of the allocator's, and each call of
	 * madvise that asked the kernel to take memory back, refused ones too. */
	struct arenal_times lock_wait, purge;
	/* Calls of malloc, free, realloc and their relatives that the thread's cache could not serve at once.
	 * Each thread times one of 16 of these calls, any one of each 16 in a row: counts and nanoseconds are of
	 * those that were timed, and a sixteenth of the whole, on average. Small: of blocks up to 32 KiB, by
	 * batches; free_small counts guarded blocks as well. realloc_large: of large blocks that stay such; when
	 * they are copied, that is a malloc and a free.
	 * None of the times in a program that has locked itself in (the tunable sandbox) are counted. */
	struct arenal_times malloc_small, free_small, malloc_large, free_large, realloc_large;
};

/* Fills the first `size` bytes of *out: pass sizeof(struct arenal_stats). A later version may append fields;
 * a program compiled against an older header gets the fields it knows. Returns 0, or EINVAL when out is NULL
 * or size is 0. */
ARENAL_API int arenal_stats_get(struct arenal_stats *out, size_t size);

/* Writes the table of ARENAL_STATS=1 to the file descriptor `fd`. Returns 0, or the errno of the write that
 * failed. */
ARENAL_API int arenal_stats_print(int fd);

/* The heap profile: a sample of all allocations with the stack of each, from which it is estimated what the
 * blocks of each stack hold now, and have held since the profile was started. About one byte in `bytes` is
 * looked at, at most 1 GiB; 0: in what the tunable profile_sample says (512 KiB). Starting forgets what was
 * collected before. At most 16,383 stacks are told apart, in 9 MiB: what further ones hold or have held is
 * counted as that of one stack, "(other)". Returns 0; EINVAL when `bytes` is too large; ENOMEM; or ENOTSUP in
 * programs that are linked statically at a fixed address, whose stacks cannot be taken. */
ARENAL_API int arenal_profile_start(size_t bytes);

/* No more blocks are sampled from now on. What was collected stays, but for the blocks that are freed. */
ARENAL_API void arenal_profile_stop(void);

/* Writes what was collected to the file descriptor `fd`, for `arenal profile` to read. Other threads go on
 * meanwhile. Returns 0, or the errno of the write that failed. */
ARENAL_API int arenal_profile_dump(int fd);

/* Reads the tunable `name` ("arena_max", "mmap_threshold", ...; the README lists them) into *value. Sizes are
 * in bytes, switches are 0 or 1, the words of misuse are 0 (ignore), 1 (report) and 2 (end). Returns 0,
 * ENOENT when there is no such tunable, or EINVAL when a pointer is NULL. */
ARENAL_API int arenal_get(const char *name, int64_t *value);

/* Sets the tunable `name` for allocations from now on. Returns 0, ENOENT when there is no such tunable,
 * EINVAL when the value is out of its range, or EPERM when the tunable only counts at start-up. The old value
 * is kept on error. */
ARENAL_API int arenal_set(const char *name, int64_t value);

#ifdef __cplusplus
}
#endif
#endif
