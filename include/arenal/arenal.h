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
#define ARENAL_VERSION_MINOR 2
#define ARENAL_VERSION_PATCH 0
#define ARENAL_VERSION_STRING "0.2.0"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ARENAL_API __attribute__((visibility("default")))
#define ARENAL_SIZED(size) __attribute__((__malloc__, size))
#else
#define ARENAL_API
#define ARENAL_SIZED(size)
#endif

/* The version of the library that is loaded, "MAJOR.MINOR.PATCH". A static string. Compare it with
 * ARENAL_VERSION_STRING to see whether the program runs on the version it was compiled against. */
ARENAL_API const char *arenal_version(void);

/* Gives every free page back to the kernel now, whatever lazy_purge says: the caches of all threads are
 * emptied (of others, one block of each size class stays, and what they keep for the heaps that they used
 * last, eight at most, up to 32 KiB of a size class, until they use others, end, or the heap is reset),
 * free runs and the free pages inside partly used spans are purged, the break is lowered, regions that are
 * free are unmapped but for one of each kind. Returns the number of bytes that were given back (an upper
 * bound of what the resident set loses). Takes the time of a walk over the heap; other threads go on
 * meanwhile. */
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
	size_t cached; /* in blocks that lie in thread caches, ready for malloc and for heaps, or in their
	                  quarantines, and in those of 1 KiB and more that wait for other threads */
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
	uint64_t refills;       /* times since the start that a thread cache took a batch from an arena, or from
	                           what waits for other threads */
	uint64_t flushes;       /* times that one gave a batch back to an arena, or left it for other threads */
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
	uint64_t cap_used; /* bytes that count for it: resident and metadata, without free parts of huge pages */
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

/* ---- sizes ---- */

/* The bytes that may be used of the block that malloc(size) returns, at least: to ask for as much as there is
 * anyway. In hardened mode that is `size`. Returns 0 for 0, and for sizes that no block has. (Of another
 * allocator: nallocx, mi_good_size.) */
ARENAL_API size_t arenal_good_size(size_t size);

/* Makes the block longer or shorter where it lies; it never moves, and what is in it stays, up to the shorter
 * length. Returns the bytes that may be used now, `size` or more. Returns 0 if that cannot be: nothing has
 * changed, and errno is ENOMEM, or EINVAL when `block` is NULL. Blocks of more than 32 KiB grow by whole
 * 64 KiB, or pages above mmap_threshold, if the addresses behind them are free, and shrink likewise, to
 * 64 KiB or a page; smaller ones have what malloc_usable_size says. In hardened mode, and while calls are
 * recorded, no block grows beyond that. (Of another allocator: xallocx, mi_expand.) */
ARENAL_API size_t arenal_expand(void *block, size_t size);

/* ---- heaps ---- */

/* A heap: blocks that can be freed all at once, as those of one request. Any thread may allocate from it,
 * several at a time, too. Its blocks are like those of malloc: any thread may free one, by free or
 * arenal_heap_free, and ask for its malloc_usable_size; realloc leaves it in its heap. A process has at most
 * some 1,000 heaps at a time; arenas of mallctl("arenas.create") are of the same kind, and count. The child
 * of a fork has its parent's heaps, with what was in them.
 *
 * While a heap is reset or destroyed, no thread may allocate from it, or free to it; afterwards, its blocks
 * are no blocks any more. That is for the program to see to. What follows mistakes:
 * - A function that is given a heap which was destroyed ends the program with a message (but for
 *   arenal_heap_of, which is given none).
 * - Who frees a block after the reset, or twice, ends the program, unless its memory is in use again, or
 *   about to be: a block that waits for another thread is found later, when it would be handed out twice,
 *   but after a reset it may be not. What was used since the last reset stays with the heap, so the block
 *   that he frees then is one of the same heap: until the next reset, a purge, or some time in which it
 *   is not used. From then on, that memory may be anybody's. In hardened mode, and of guarded blocks, it
 *   is found like any second free.
 * - Who uses a block after the reset reads and writes what may be another block of the heap. Of guarded
 *   blocks it is reported, with the stack of who has reset.
 * - Who allocates during a reset may get memory that others have.
 *
 * NULL as a heap: allocation fails with EINVAL, and there is nothing to reset or destroy. */
typedef struct arenal_heap arenal_heap;

/* A new heap. `name`, of which 23 bytes are kept, is shown in the table of arenal_stats_print; NULL: none.
 * Returns NULL with ENOMEM when there is no memory, or when there are as many as may be. It takes some KB of
 * records, and 16 KiB for each thread that uses it at the same time; its memory comes in pieces of 64 KiB for
 * each size of blocks. */
ARENAL_API arenal_heap *arenal_heap_create(const char *name);

/* As malloc, calloc and aligned_alloc (any power of two, any size), from the heap. A block of 0 bytes is one,
 * too. Return NULL with ENOMEM when there is no memory; with EINVAL when `align` is no power of two, or heap
 * is NULL. */
ARENAL_API void *arenal_heap_alloc(arenal_heap *heap, size_t size) ARENAL_SIZED(__alloc_size__(2));
ARENAL_API void *arenal_heap_calloc(arenal_heap *heap, size_t count, size_t size)
    ARENAL_SIZED(__alloc_size__(2, 3));
ARENAL_API void *arenal_heap_aligned_alloc(arenal_heap *heap, size_t align, size_t size)
    ARENAL_SIZED(__alloc_size__(3));

/* As realloc and free. `block` is one of this heap's, or NULL: any other one ends the program. This is
 * quicker than free, which has to find out whose the block is. */
ARENAL_API void *arenal_heap_realloc(arenal_heap *heap, void *block, size_t size);
ARENAL_API void arenal_heap_free(arenal_heap *heap, void *block);

/* Frees all blocks of the heap. It keeps the memory that was used since the last reset, for the next
 * blocks. The rest goes back as all free memory does; and so does what it keeps, when it is not used for
 * some time (in a program without a background thread: and others call meanwhile), or by arenal_purge.
 * Takes a time that grows with the memory, not with the number of small blocks, and a free for each block
 * above 32 KiB. */
ARENAL_API void arenal_heap_reset(arenal_heap *heap);

/* The same, and the heap is none any more. Its memory is for all. */
ARENAL_API void arenal_heap_destroy(arenal_heap *heap);

/* The heap that the block is from, by the address that was returned for it; NULL: from none. */
ARENAL_API arenal_heap *arenal_heap_of(const void *block);

/* What a heap holds. Exact while nobody allocates from it, or frees. */
struct arenal_heap_stats {
	size_t allocated; /* bytes in its blocks, rounded up to their size class */
	size_t blocks;    /* how many these are */
	size_t memory;    /* bytes that it has for them, beside what is free for all */
};

/* Fills the first `size` bytes of *out, as arenal_stats_get does. Returns 0, or EINVAL when a pointer is NULL
 * or size is 0. */
ARENAL_API int arenal_heap_stats_get(arenal_heap *heap, struct arenal_heap_stats *out, size_t size);

#ifdef __cplusplus
}
#endif
#endif
